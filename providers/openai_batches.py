"""OpenAI's Batch API: a file of requests to the Responses API goes up, and one of answers and one of errors come back.

Lines are `{custom_id, method, url, body}`, and `{custom_id, response: {status_code, body}, error}`; a batch may carry
16 pairs of metadata, by which it is known again (platform.openai.com/docs/api-reference/batch).
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import httpx2
import openai
from openai.types import Batch

from providers import counts, headers, text, types
from providers.batches import Answer, Ask, BatchInDoubt, Found, Mark, members, objects, tokens
from providers.deployments import Deployment

_TIMEOUT: Final = httpx2.Timeout(90.0, connect=5.0)
_URL: Final = "/v1/responses"
#: Under which our name of a batch stands in its metadata.
_NAME: Final = "pulse_parcel"
_OVER: Final = {"failed", "completed", "expired", "cancelled"}
#: What files of ours are kept for at OpenAI.
_KEEP_S: Final = 3 * 86_400
# A batch whose outcome is in doubt is among the newest: so many are looked through.
_MOST_LOOKED: Final = 1000
_SAID: Final = {"output_text", "refusal"}
_REASONS: Final[dict[str, Literal["length", "filtered"]]] = {
    "max_output_tokens": "length",
    "content_filter": "filtered",
}


def connect(deployment: Deployment) -> "OpenAIBatches":
    """Return the batches behind a deployment."""
    return OpenAIBatches(deployment.base_url, deployment.key)


class OpenAIBatches:
    """Batches behind one key."""

    def __init__(self, base_url: str, api_key: str) -> None:
        """Talk to OpenAI, or to who speaks as it does at `base_url`."""
        self._client = openai.AsyncOpenAI(
            base_url=base_url or None, api_key=api_key or "none", timeout=_TIMEOUT, max_retries=0
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def upload(self, name: str, asks: Sequence[Ask]) -> str:
        """Return the id of the file that the requests are in."""
        lines = b"".join(json.dumps(_line(ask), ensure_ascii=False).encode() + b"\n" for ask in asks)
        with _facts():
            file = await self._client.files.create(
                file=(f"{name}.jsonl", lines, "application/jsonl"),
                purpose="batch",
                expires_after={"anchor": "created_at", "seconds": _KEEP_S},
            )
        return file.id

    async def submit(self, name: str, uploaded: str) -> str:
        """Hand the file over."""
        with _facts(submitted=True):
            batch = await self._client.batches.create(
                input_file_id=uploaded,
                endpoint=_URL,
                completion_window="24h",
                metadata={_NAME: name},
                output_expires_after={"anchor": "created_at", "seconds": _KEEP_S},
            )
        return batch.id

    async def find(self, mark: Mark) -> Found | None:
        """Look for the batch that has our name."""
        looked = 0
        with _facts():
            async for batch in self._client.batches.list(limit=100):
                looked += 1
                if (batch.metadata or {}).get(_NAME) == mark.name:
                    return Found(id=batch.id, is_sure=True)
                if looked >= _MOST_LOOKED:
                    break
        return None

    async def is_over(self, batch_id: str) -> bool:
        """Tell whether the batch is over; whether all of it, or none (`failed`), its answers tell."""
        return (await self._batch(batch_id)).status in _OVER

    async def answers(self, batch_id: str) -> AsyncGenerator[Answer]:
        """Yield what is in the files of answers and of errors; a batch that failed as a whole has neither."""
        batch, seen = await self._batch(batch_id), 0
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is not None:
                async for line in self._lines(file_id):
                    seen += 1
                    yield _answer(line)
        counts = batch.request_counts
        if counts is not None and batch.status == "completed" and seen < counts.completed + counts.failed:
            raise types.AnswerTruncated

    async def cancel(self, batch_id: str) -> None:
        """Ask for the batch to be stopped, which one that is over is not."""
        if not await self.is_over(batch_id):
            with _facts():
                await self._client.batches.cancel(batch_id)

    async def _batch(self, batch_id: str) -> Batch:
        with _facts(lost=True):
            return await self._client.batches.retrieve(batch_id)

    async def _lines(self, file_id: str) -> AsyncIterator[Mapping[str, Any]]:
        with _facts(lost=True):
            async with self._client.files.with_streaming_response.content(file_id) as response:
                async for line in response.iter_lines():
                    if line.strip():
                        yield json.loads(line)


def _line(ask: Ask) -> dict[str, Any]:
    return {"custom_id": ask.custom_id, "method": "POST", "url": _URL, "body": _body(ask.call)}


def _body(call: types.ChatCall) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": call.model,
        "input": [{"role": turn.role, "content": turn.words} for turn in call.turns],
        "max_output_tokens": call.output_tokens,
        "store": False,
    }
    if call.temperature is not None:
        body["temperature"] = call.temperature
    if call.effort is not None:
        body["reasoning"] = {"effort": call.effort}
    return body


def _answer(line: Mapping[str, Any]) -> Answer:
    custom_id = str(line.get("custom_id"))
    response, error = members(line.get("response")), members(line.get("error"))
    status, body = response.get("status_code"), members(response.get("body"))
    if not response:
        outcome = "canceled" if error.get("code") == "batch_cancelled" else "undone"
        return Answer(custom_id=custom_id, outcome=outcome)
    if status == 200 and (said := _said(body)) is not None:
        return Answer(custom_id=custom_id, outcome="succeeded", said=said)
    if isinstance(status, int) and 400 <= status < 500 and status not in {401, 403, 404, 408, 409, 429}:
        message = members(body.get("error")).get("message") or error.get("message") or status
        refused = types.ProviderRefused(reason=text.kept(str(message))[:500])
        return Answer(custom_id=custom_id, outcome="refused", error=refused)
    return Answer(custom_id=custom_id, outcome="undone")


def _said(body: Mapping[str, Any]) -> list[types.Chunk] | None:
    """Return the chunks of a whole answer; None for what is none."""
    status = body.get("status")
    if status not in {"completed", "incomplete"}:
        return None
    parts = [part for item in objects(body.get("output")) for part in objects(item.get("content"))]
    words = "".join(str(part.get("text") or part.get("refusal") or "") for part in parts if part.get("type") in _SAID)
    said: list[types.Chunk] = [types.TextDelta(text.kept(words))] if words else []
    cut = members(body.get("incomplete_details")).get("reason", "max_output_tokens")
    reason = "stop" if status == "completed" else _REASONS.get(cut, "length")
    return [*said, types.Finish(reason=reason, counted=_counted(members(body.get("usage"))))]


def _counted(usage: Mapping[str, Any]) -> types.Counted | None:
    given, made = members(usage.get("input_tokens_details")), members(usage.get("output_tokens_details"))
    return counts.counted(
        input_tokens=tokens(usage.get("input_tokens")),
        output_tokens=tokens(usage.get("output_tokens")),
        cached=tokens(given.get("cached_tokens")),
        written=tokens(given.get("cache_write_tokens")),
        written_long=tokens(members(given.get("cache_write_tokens_details")).get("ttl_12h_tokens")),
        reasoning=tokens(made.get("reasoning_tokens")),
    )


@contextmanager
def _facts(*, submitted: bool = False, lost: bool = False) -> Generator[None]:
    """Turn what the SDK raises into facts: of what is `submitted` it may be in doubt, what was may be `lost`."""
    try:
        yield
    except openai.APIError as error:
        raise _fact(error, submitted=submitted, lost=lost) from error
    except (httpx2.TransportError, httpx2.StreamError, ValueError) as error:
        raise (BatchInDoubt() if submitted else types.AnswerTruncated()) from error


def _fact(error: openai.APIError, *, submitted: bool, lost: bool) -> types.ProviderError | BatchInDoubt:
    match error:
        case openai.NotFoundError() if lost:
            return types.AnswerLost()
        case openai.RateLimitError():
            return types.ProviderRateLimited(retry_after_s=headers.retry_after_s(error.response.headers))
        case openai.AuthenticationError() | openai.PermissionDeniedError() | openai.NotFoundError():
            return types.ProviderMisconfigured()
        case openai.APIStatusError() if error.status_code < 500 and error.status_code not in {408, 409}:
            return types.ProviderRefused(reason=text.kept(error.message)[:500])
        case openai.APIConnectionError() if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout):
            return types.ProviderUnavailable()
        case _ if submitted:
            return BatchInDoubt()
        case openai.APITimeoutError():
            return types.ProviderTimedOut()
        case _:
            return types.ProviderUnavailable()
