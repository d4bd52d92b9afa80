"""Anthropic's Message Batches: the requests go up in one body, and their results come back as lines, in any order.

A batch carries no name of ours (platform.claude.com/docs/en/api/creating-message-batches). So one of which it is not
known whether it was taken is found by when it was made and how many requests it has, and is sure to be ours only when
its results name our requests.
"""

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, Literal

import anthropic
import httpx2
from anthropic._decoders.jsonl import AsyncJSONLDecoder
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from providers import counts, headers, text, types
from providers.batches import Answer, Ask, BatchInDoubt, Found, Mark, members, objects, tokens
from providers.deployments import Deployment

_Results = AsyncJSONLDecoder[MessageBatchIndividualResponse]
_TIMEOUT: Final = httpx2.Timeout(90.0, connect=5.0)
# Our clock and the vendor's are no further apart than that; and so long after it was about to be sent it may come.
_EARLIEST, _LATEST = timedelta(minutes=2), timedelta(minutes=15)
_MOST_LOOKED: Final = 1000
_REASONS: Final[dict[str, Literal["stop", "length", "filtered"]]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "refusal": "filtered",
}
#: Errors of a request that are its own fault: it would fail again.
_OWN: Final = {"invalid_request_error", "request_too_large"}


def connect(deployment: Deployment) -> "AnthropicBatches":
    """Return the batches behind a deployment."""
    return AnthropicBatches(deployment.base_url, deployment.key)


class AnthropicBatches:
    """Batches behind one key."""

    def __init__(self, base_url: str, api_key: str) -> None:
        """Talk to Anthropic, or to who speaks as it does at `base_url`."""
        self._client = anthropic.AsyncAnthropic(
            base_url=base_url or None, api_key=api_key or "none", timeout=_TIMEOUT, max_retries=0
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def upload(self, name: str, asks: Sequence[Ask]) -> list[dict[str, Any]]:  # noqa: ARG002
        """Return the requests as they are to be sent: nothing goes up before them."""
        return [{"custom_id": ask.custom_id, "params": _params(ask.call)} for ask in asks]

    async def submit(self, name: str, uploaded: list[dict[str, Any]]) -> str:  # noqa: ARG002
        """Hand the requests over."""
        with _facts(submitted=True):
            batch = await self._client.post("/v1/messages/batches", body={"requests": uploaded}, cast_to=MessageBatch)
        return batch.id

    async def find(self, mark: Mark) -> Found | None:
        """Look for a batch of that size that was made then, and is not known to be another one."""
        looked = 0
        with _facts():
            async for batch in self._client.messages.batches.list(limit=100):
                looked += 1
                if batch.created_at < mark.sent_at - _EARLIEST or looked > _MOST_LOOKED:
                    break
                is_then = batch.created_at <= mark.sent_at + _LATEST
                if is_then and _requests(batch) == mark.requests and batch.id not in mark.others:
                    return Found(id=batch.id, is_sure=False)
        return None

    async def is_over(self, batch_id: str) -> bool:
        """Tell whether every request of the batch has a result."""
        return (await self._batch(batch_id)).processing_status == "ended"

    async def answers(self, batch_id: str) -> AsyncGenerator[Answer]:
        """Yield the results."""
        batch, seen = await self._batch(batch_id), 0
        with _facts(lost=True):
            async for line in await self._results(batch_id):
                seen += 1
                yield _answer(line.to_dict(mode="json", use_api_names=True))
        if seen < _requests(batch):
            raise types.AnswerTruncated

    async def cancel(self, batch_id: str) -> None:
        """Ask for the batch to be stopped, which one that is over is not."""
        if not await self.is_over(batch_id):
            with _facts():
                await self._client.messages.batches.cancel(batch_id)

    async def _results(self, batch_id: str) -> _Results:
        """Return the results from where they always are: the key goes to no address that an answer names."""
        return await self._client.get(f"/v1/messages/batches/{batch_id}/results", cast_to=_Results, stream=True)

    async def _batch(self, batch_id: str) -> MessageBatch:
        with _facts(lost=True):
            return await self._client.messages.batches.retrieve(batch_id)


def _requests(batch: MessageBatch) -> int:
    counts = batch.request_counts
    return counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired


def _params(call: types.ChatCall) -> dict[str, Any]:
    """Return the body of a request; without a temperature, which these models do not take."""
    system = "\n\n".join(turn.words for turn in call.turns if turn.role == "system")
    params: dict[str, Any] = {
        "model": call.model,
        "max_tokens": call.output_tokens,
        "messages": [{"role": turn.role, "content": turn.words} for turn in call.turns if turn.role != "system"],
    }
    return params | ({"system": system} if system else {})


def _answer(line: Mapping[str, Any]) -> Answer:
    custom_id, result = str(line.get("custom_id")), members(line.get("result"))
    match result.get("type"):
        case "succeeded" if (said := _said(members(result.get("message")))) is not None:
            return Answer(custom_id=custom_id, outcome="succeeded", said=said)
        case "canceled":
            return Answer(custom_id=custom_id, outcome="canceled")
        case "errored":
            return _errored(custom_id, members(members(result.get("error")).get("error")))
        case _:
            return Answer(custom_id=custom_id, outcome="undone")


def _errored(custom_id: str, error: Mapping[str, Any]) -> Answer:
    if error.get("type") in _OWN:
        refused = types.ProviderRefused(reason=text.kept(str(error.get("message")))[:500])
        return Answer(custom_id=custom_id, outcome="refused", error=refused)
    return Answer(custom_id=custom_id, outcome="undone")


def _said(message: Mapping[str, Any]) -> list[types.Chunk] | None:
    """Return the chunks of a whole answer; None for what is none."""
    reason = _REASONS.get(str(message.get("stop_reason")))
    if reason is None:
        return None
    parts = objects(message.get("content"))
    words = "".join(str(part.get("text") or "") for part in parts if part.get("type") == "text")
    said: list[types.Chunk] = [types.TextDelta(text.kept(words))] if words else []
    return [*said, types.Finish(reason=reason, counted=_counted(members(message.get("usage"))))]


def _counted(usage: Mapping[str, Any]) -> types.Counted | None:
    """Return the counts, the input with what came from the cache and went there, which Anthropic leaves out."""
    given, made = tokens(usage.get("input_tokens")), tokens(usage.get("output_tokens"))
    if given is None or made is None:
        return None
    cached = tokens(usage.get("cache_read_input_tokens")) or 0
    written = tokens(usage.get("cache_creation_input_tokens")) or 0
    return counts.counted(
        input_tokens=given + cached + written,
        output_tokens=made,
        cached=cached,
        written=written,
        written_long=tokens(members(usage.get("cache_creation")).get("ephemeral_1h_input_tokens")),
        reasoning=tokens(members(usage.get("output_tokens_details")).get("thinking_tokens")),
    )


@contextmanager
def _facts(*, submitted: bool = False, lost: bool = False) -> Generator[None]:
    """Turn what the SDK raises into facts: of what is `submitted` it may be in doubt, what was may be `lost`."""
    try:
        yield
    except anthropic.APIError as error:
        raise _fact(error, submitted=submitted, lost=lost) from error
    except (httpx2.TransportError, httpx2.StreamError, ValueError) as error:
        raise (BatchInDoubt() if submitted else types.AnswerTruncated()) from error
    except anthropic.AnthropicError as error:  # it is over, and has no results (yet)
        raise types.AnswerTruncated from error


def _fact(error: anthropic.APIError, *, submitted: bool, lost: bool) -> types.ProviderError | BatchInDoubt:
    match error:
        case anthropic.NotFoundError() if lost:
            return types.AnswerLost()
        case anthropic.RateLimitError():
            return types.ProviderRateLimited(retry_after_s=headers.retry_after_s(error.response.headers))
        case anthropic.AuthenticationError() | anthropic.PermissionDeniedError() | anthropic.NotFoundError():
            return types.ProviderMisconfigured()
        case anthropic.APIStatusError() if error.status_code < 500 and error.status_code not in {408, 409}:
            return types.ProviderRefused(reason=text.kept(error.message)[:500])
        case anthropic.APIConnectionError() if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout):
            return types.ProviderUnavailable()
        case _ if submitted:
            return BatchInDoubt()
        case anthropic.APITimeoutError():
            return types.ProviderTimedOut()
        case _:
            return types.ProviderUnavailable()
