"""Which keys of which vendors this installation has: each is a deployment, with its own limits and its own health."""

import hashlib
from typing import Literal

from msgspec import Struct

from infra.settings import Settings, weighed

Vendor = Literal["openai", "anthropic", "google", "compatible", "local"]


class Deployment(Struct, frozen=True, kw_only=True):
    """A vendor's door: where it is and the key to it. An empty `base_url` is the vendor's own.

    `name` may be shown and logged; it tells keys apart without telling them. One of `weight` 3 gets three times the
    calls of one of weight 1.
    """

    name: str
    vendor: Vendor
    base_url: str
    key: str
    weight: int = 1

    def __repr__(self) -> str:
        """Tell everything but the key."""
        return f"Deployment({self.name!r})"


def of(settings: Settings) -> dict[Vendor, list[Deployment]]:
    """Return the deployments of every vendor that this installation has."""
    if not settings.cloud:
        return {"local": [_deployment("local", f"http://127.0.0.1:{settings.local_port}/v1", "")]}
    doors: list[tuple[Vendor, str, str]] = [
        ("openai", settings.openai_base_url, settings.openai_api_key),
        ("anthropic", settings.anthropic_base_url, settings.anthropic_api_key),
        ("google", settings.google_base_url, settings.google_api_key),
    ]
    found: dict[Vendor, list[Deployment]] = {
        vendor: [_deployment(vendor, url, *weighed(key)) for key in keys.split(",") if key.strip()]
        for vendor, url, keys in doors
        if keys
    }
    if settings.compatible_url:
        keys = settings.compatible_api_key.split(",")
        found["compatible"] = [_deployment("compatible", settings.compatible_url, *weighed(key)) for key in keys]
    return found


def _deployment(vendor: Vendor, base_url: str, key: str, weight: int = 1) -> Deployment:
    mark = hashlib.sha256(f"{base_url} {key}".encode()).hexdigest()[:6]
    return Deployment(name=f"{vendor}-{mark}", vendor=vendor, base_url=base_url, key=key, weight=weight)
