"""What a route is given: the ground, the hub, the desk, the forecasts, and the account that speaks."""

from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.types import Dependencies

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account
from infra.streams import Hub
from quotas import keys
from workers.desk import Desk
from workers.forecast import Forecasts


class MissingApiKey(PulseError):
    """Send your API key as "Authorization: Bearer pulse_..."."""

    ar = "أرسل مفتاح الواجهة البرمجية هكذا: ‎Authorization: Bearer pulse_...‎"
    status = 401


def ground(state: State) -> Ground:
    """Return the ground that the app was built on."""
    return state.ground


def hub(state: State) -> Hub:
    """Return the hub that wakes this process's followers."""
    return state.hub


def desk(state: State) -> Desk:
    """Return this process's way to the lifecycle."""
    return state.desk


def forecasts(state: State) -> Forecasts:
    """Return what waiting jobs are told of their turn."""
    return state.forecasts


async def account(request: Request[Any, Any, Any], ground: NamedDependency[Ground]) -> Account:
    """Return the account whose key the request carries; raises 401 or 403."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise MissingApiKey
    async with ground.database.begin() as session:
        return await keys.verify(session, ground.settings, key.strip())


def providers() -> Dependencies:
    """Return what the app gives to its routes, by parameter name."""
    return {
        "ground": Provide(ground, sync_to_thread=False),
        "hub": Provide(hub, sync_to_thread=False),
        "desk": Provide(desk, sync_to_thread=False),
        "forecasts": Provide(forecasts, sync_to_thread=False),
        "account": Provide(account),
    }
