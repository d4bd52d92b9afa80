"""The HTTP floor: `create_app` builds everything one API process needs; nothing is global."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from litestar import Litestar, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.response import Redirect

from api import batches, chat, docs, events, files, given, health, jobs, problems, storage, webhooks
from api.answers import Answer
from api.direct import Direct
from api.edge import Edge
from api.handover import Studio
from infra import ground
from infra.errors import PulseError
from infra.hub import Hub
from infra.settings import Settings
from infra.storage.local import LocalStorage
from providers import catalog, tokens
from providers.router import route
from quotas.credentials import Credentials
from quotas.limits import Limits, OpenStreams
from workers import events as says
from workers import jobs as told
from workers.batches.watch import Watch
from workers.desk import Desk
from workers.files import is_awaited
from workers.forecast import Forecasts


@get("/", include_in_schema=False, status_code=302)
async def index() -> Redirect:
    """Lead a person who opens the address to the API's page."""
    return Redirect("/docs")


def create_app(configured: Settings) -> Studio:
    """Build the API on `configured`; it connects when it starts serving."""
    laid = ground.lay(configured)
    hub = Hub(
        laid.redis,
        laid.streams,
        heartbeat_s=configured.heartbeat_s,
        terminal=says.TERMINAL,
        over=partial(told.told, laid),
    )
    credentials, streams = Credentials(laid.database, configured), OpenStreams(laid.redis, configured)
    watch = Watch(laid)
    state = State(
        {
            "ground": laid,
            "hub": hub,
            "owners": told.Owners(laid),
            "desk": Desk(laid),
            "forecasts": Forecasts(laid),
            "front": jobs.front(laid, hub),
            "credentials": credentials,
            "limits": Limits(laid.redis, configured),
            "streams": streams,
            "watch": watch,
            "awaited": partial(is_awaited, laid),
        }
    )

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncGenerator[None]:
        # Loaded when it is first needed, its half second would stand still for everybody.
        await asyncio.to_thread(tokens.prepare, catalog.offered(configured).values())
        await asyncio.to_thread(route.prepare)
        running = [asyncio.create_task(each.run()) for each in (hub, credentials, streams, watch)]
        try:
            yield
        finally:
            hub.close()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await streams.close()
            await ground.leave(laid)

    routes = [index, health.router(), jobs.router(), events.router(), files.router(), batches.router()]
    routes += [chat.router(), webhooks.router(), docs.assets()]
    if isinstance(laid.storage, LocalStorage):
        routes.append(storage.router())
    app = Studio(
        route_handlers=routes,
        lifespan=[lifespan],
        state=state,
        dependencies=given.providers(state),
        exception_handlers={
            PulseError: problems.on_fact,
            HTTPException: problems.on_refusal,
            Exception: problems.on_bug,
        },
        openapi_config=docs.config(),
        logging_config=None,  # telemetry.configure has set it up
        response_class=Answer,
        request_max_body_size=configured.body_limit_bytes,
    )
    given.give_at_once(app)
    app.asgi_handler = Edge(
        Direct(app, {("POST", jobs.PATH): jobs.direct(state), ("POST", chat.COMPLETE): chat.direct(state)})
    )
    return app
