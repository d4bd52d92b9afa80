"""The way of a call to a model: which deployment takes it, how often, and which model goes on where one cannot."""

from collections.abc import AsyncIterator, Sequence

from msgspec import Struct

from infra import redis as road
from infra.settings import Settings
from providers import deployments, types
from providers.catalog import Model
from providers.deployments import Deployment
from providers.vendors import Vendors


class Turned(Struct, frozen=True, kw_only=True):
    """The answer is made anew by `model`, because of the fact of this code; what was said before it is void."""

    model: str
    because: str


#: What a call through the gateway says: a vendor's chunks, and when it begins again.
type Said = types.Chunk | Turned


class Gateway:
    """Every vendor behind one call."""

    def __init__(self, settings: Settings, redis: road.Redis | None = None) -> None:
        """Connect nothing yet; health and limits are shared by `redis`."""
        self._deployments = deployments.of(settings)
        self._vendors = Vendors()
        self._redis = redis

    async def stream(
        self,
        chain: Sequence[Model],
        call: types.ChatCall,
        *,
        token: types.Token | None = None,  # noqa: ARG002
    ) -> AsyncIterator[Said]:
        """Yield the answer of the first model of `chain` that can give it, ended by one `Finish`.

        `call.model` is put by the gateway. With the `token` of a `Resumable` that an earlier call said, the same answer
        comes from its beginning; where it is lost, another one. Raises `ProviderError` when no model could answer.
        """
        model = chain[0]
        async for chunk in self._vendors.chat(self._deployment(model)).stream(_asked(call, model)):
            yield chunk

    async def abandon(self, token: types.Token) -> None:
        """Stop the making of a resumable answer that nobody wants any more; does nothing where that cannot be done."""

    async def close(self) -> None:
        """Close every vendor's connections."""
        await self._vendors.close()

    def _deployment(self, model: Model) -> Deployment:
        return self._deployments[model.vendor][0]


def _asked(call: types.ChatCall, model: Model) -> types.ChatCall:
    return types.ChatCall(
        model=model.name,
        turns=call.turns,
        output_tokens=min(call.output_tokens, model.output_tokens),
        temperature=call.temperature,
    )
