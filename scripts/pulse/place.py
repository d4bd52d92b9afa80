"""Where the studio is that the command talks to, and with which key."""

import contextlib
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from infra.settings import InvalidSetting, Settings

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Running(Struct, frozen=True):
    """What a running studio writes into its folder; `local_port` is where its model listens."""

    url: str
    pid: int
    local_port: int | None = None


class Place(Struct, frozen=True):
    """An API and the key to use there; no key where none is known."""

    url: str
    key: str

    @property
    def is_here(self) -> bool:
        """Whether the API is on this machine."""
        return urlsplit(self.url).hostname in _LOOPBACK


def running(settings: Settings) -> Running | None:
    """Return what the studio of this folder wrote when it started; it may have died since."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((settings.folder / "studio.json").read_bytes(), type=Running)
    return None


def find(settings: Settings) -> Place:
    """Return the place that the settings name, else the studio of this folder, else where it would be.

    Raises `InvalidSetting` when PULSE_URL is no address.
    """
    studio = running(settings)
    url = settings.url or (studio.url if studio else f"http://127.0.0.1:{settings.port}")
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise InvalidSetting(key="PULSE_URL", reason=f"it must look like https://studio.example (it is {url!r})")
    key = settings.api_key
    # The key of `make run` is for this machine's studio: nobody else is shown it.
    if not key and Place(url, "").is_here:
        with contextlib.suppress(OSError):
            key = (settings.folder / "key").read_text(encoding="ascii").strip()
    return Place(url.rstrip("/"), key)
