"""The way of a call to a model: which deployment takes it, how often, and which model goes on where one cannot."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import structlog

from infra import redis as road
from infra.settings import Settings
from providers import deployments, types
from providers.catalog import Model
from providers.deployments import Deployment
from providers.doors import Doors
from providers.passage import Means, Passage, Said, Serving, Turned, own
from providers.tally import Tally
from providers.vendors import Vendors

__all__ = ["Gateway", "Said", "Serving", "Turned"]

log = structlog.stdlib.get_logger()
# How long a vendor has to hear that an answer is not wanted any more.
_ABANDON_S = 5.0


class Gateway:
    """Every vendor behind one call."""

    def __init__(self, settings: Settings, redis: road.Redis | None = None, vendors: Vendors | None = None) -> None:
        """Connect nothing yet; health, limits and slots are shared by `redis`."""
        self._deployments = deployments.of(settings)
        self._vendors = vendors or Vendors()
        self._doors = Doors(settings, redis)
        self._forsaking: set[asyncio.Task[None]] = set()
        #: What became of this process's calls, for whoever exports metrics.
        self.tally = Tally()
        self._means = Means(
            settings=settings,
            deployments=self._deployments,
            vendors=self._vendors,
            doors=self._doors,
            tally=self.tally,
            forsake=self._forsake,
        )

    def stream(
        self,
        chain: Sequence[Model],
        call: types.ChatCall,
        *,
        token: types.Token | None = None,
        left_s: float | None = None,
    ) -> AsyncGenerator[Said]:
        """Yield the answer of the first model of `chain` that can give it, ended by one `Finish`.

        `call.model` is put by the gateway. With the `token` of a `Resumable` that an earlier call said, the same answer
        comes from its beginning; where it is lost, another one, after a `Turned`. No wait is begun that does not fit
        into `left_s` seconds. Raises `ProviderError` when no model could answer. To be closed by whoever stops early.
        """
        return Passage(self._means, chain, call, left_s=left_s, old=token).said()

    async def abandon(self, token: types.Token) -> None:
        """Stop the making of a resumable answer that nobody wants any more; does nothing where that cannot be done."""
        for deployment in (one for some in self._deployments.values() for one in some):
            if deployment.name == token.get("deployment"):
                await self._abandon(deployment, own(token))

    async def close(self) -> None:
        """Close every vendor's connections, once what was said last has been heard."""
        if self._forsaking:
            await asyncio.wait(self._forsaking)
        await self._doors.close()
        await self._vendors.close()

    def _forsake(self, deployment: Deployment, token: types.Token) -> None:
        stopping = asyncio.create_task(self._abandon(deployment, token))
        self._forsaking.add(stopping)
        stopping.add_done_callback(self._forsaking.discard)

    async def _abandon(self, deployment: Deployment, token: types.Token) -> None:
        try:
            async with asyncio.timeout(_ABANDON_S):
                await self._vendors.load(deployment)
                await self._vendors.chat(deployment).abandon(token)
        except (types.ProviderError, TimeoutError) as error:
            log.warning("an answer could not be stopped", deployment=deployment.name, reason=type(error).__name__)
