"""What a route is given: what the app was built with, and the account that speaks, within its limits."""

from collections.abc import Callable, Coroutine
from typing import Any, cast

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import Dependencies

from api import edge, heads
from api.peers import address_of
from infra.errors import PulseError
from infra.models import Account
from quotas.credentials import Caller, Credentials
from quotas.keys import InvalidApiKey, RevokedApiKey
from quotas.limits import Kind, Limits, Verdict

#: What a handler calls the kind of its requests (`@post(..., rate="submit")`); one that only looks needs no word.
_RATE = "rate"
_LOOKING = frozenset({"GET", "HEAD"})
#: What the app's state has for routes.
_KEPT = ("ground", "hub", "owners", "desk", "forecasts", "front", "credentials", "streams", "watch")


class MissingApiKey(PulseError):
    """Send your API key as "Authorization: Bearer pulse_..."."""

    ar = "أرسل مفتاح الواجهة البرمجية هكذا: ‎Authorization: Bearer pulse_...‎"
    status = 401


def key_of(request: Request[Any, Any, Any]) -> str:
    """Return the API key that the request shows; raises `MissingApiKey`."""
    scheme, _, key = (heads.first(request, b"authorization") or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise MissingApiKey
    return key


async def account(request: Request[Any, Any, Any]) -> Account:
    """Return the account whose key the request shows, when it is within its limits; raises 401, 403, 429 or 503.

    Where the caller stands is told by the headers of the answer, whatever that will be.
    """
    state = request.app.state
    limits: Limits = state.limits
    credentials: Credentials = state.credentials
    address = address_of(request.scope, state.ground.settings.proxies)
    key = key_of(request)
    caller = credentials.believed(key) or await _look_up(request, key, credentials, limits, address)
    _heed(request, await limits.admit(_kind(request), address, caller))
    return caller.account


async def bearer(connection: ASGIConnection[Any, Any, Any, Any], _handler: object) -> None:
    """Guard a route that needs no key: raises 429 where too much comes from one address."""
    state = connection.app.state
    limits: Limits = state.limits
    _heed(connection, await limits.admit_bearer(address_of(connection.scope, state.ground.settings.proxies)))


async def _look_up(
    request: Request[Any, Any, Any], key: str, credentials: Credentials, limits: Limits, address: str
) -> Caller:
    # Others may be behind the same address: a key that is good passes, however many were wrong.
    doubted = not credentials.knows(key) and (await limits.suspect(address)).refused is not None
    try:
        return await credentials.identify(key, doubted=doubted)
    except (InvalidApiKey, RevokedApiKey):
        _heed(request, await limits.blame(address))
        raise


def _kind(request: Request[Any, Any, Any]) -> Kind | None:
    kind = request.route_handler.opt.get(_RATE)
    return kind or ("read" if request.method in _LOOKING else None)


def _heed(request: ASGIConnection[Any, Any, Any, Any], verdict: Verdict) -> None:
    edge.tell(request.scope, verdict.headers)
    if verdict.refused is not None:
        raise verdict.refused


def providers(state: State) -> Dependencies:
    """Return what the app gives to its routes, by parameter name: what `state` has under it, and the account."""
    kept = {name: Provide(_giving(state, name), sync_to_thread=False) for name in _KEPT}
    return {**kept, "account": Provide(account)}


def _giving(state: State, name: str) -> Callable[[], Any]:
    def give() -> Any:
        return state[name]

    return give


def give_at_once(app: Litestar) -> None:
    """Have routes given what they ask for as they are given their parameters.

    Litestar would make a task for each, and a group to clean up after them, for what is there already or is one call.
    """
    for route in app.routes:
        for _, model in cast("dict[str, tuple[Any, Any]]", getattr(route, "route_handler_map", {})).values():
            asked = [each for batch in model.dependency_batches for each in batch]
            names = [each.key for each in asked if each.key in _KEPT]
            speaks = any(each.key == "account" for each in asked)
            if names or speaks:
                model.extractors.append(_extractor(app.state, names, speaks=speaks))
            model.dependency_batches = [{each} for each in asked if each.key not in {*_KEPT, "account"}]


def _extractor(state: State, names: list[str], *, speaks: bool) -> Callable[..., Coroutine[Any, Any, None]]:
    async def extract(values: dict[str, Any], request: Request[Any, Any, Any]) -> None:
        for name in names:
            values[name] = state[name]
        if speaks:
            values["account"] = await account(request)

    return extract
