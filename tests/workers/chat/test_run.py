"""How a chat is made: by a vendor's wire, and by what a gateway may say of one that can go on with an answer."""

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import update

from infra.ground import Ground
from infra.models import Account, Balance, Hold, Job
from infra.settings import Settings
from providers import types
from providers.catalog import Model
from providers.gateway import Gateway, Said, Serving, Turned
from tests.support.books import assert_even, balance_of
from tests.support.catalogs import three
from tests.support.chats import Client, chat, events, submit, text, until
from tests.support.lives import give_back, job_of, keep, take
from tests.support.shelves import shelve
from tests.support.vendor import Answer, Vendor
from tests.support.work import working
from workers import kinds, lifecycle, tend
from workers.chat import run as room
from workers.context import Run
from workers.desk import Desk
from workers.perform import Tools, perform

TOKEN = {"deployment": "openai-1", "model": "middle", "response_id": "r-1"}
END = types.Finish(reason="stop", counted=types.Counted(input_tokens=11, output_tokens=7))
OPENED = [Serving(model="middle", deployment="d"), types.Opened()]
TOOLS = [{"name": "weather", "description": "الطقس", "parameters": {"type": "object"}}]


class Script(Gateway):
    """A gateway that says what is written for each call, in order; what is no word of it is done instead."""

    def __init__(self, settings: Settings, *calls: list[Any]) -> None:
        super().__init__(settings)
        self.calls: list[list[Any]] = list(calls)
        self.tokens: list[types.Token | None] = []
        self.lefts: list[float | None] = []
        self.abandoned: list[types.Token] = []

    async def stream(
        self,
        chain: Sequence[Model],
        call: types.ChatCall,
        *,
        token: types.Token | None = None,
        left_s: float | None = None,
    ) -> AsyncGenerator[Said]:
        """Say the next call's words."""
        assert call.resumable
        assert chain
        self.tokens.append(token)
        self.lefts.append(left_s)
        for each in self.calls.pop(0):
            if inspect.iscoroutinefunction(each):
                await each()
            elif isinstance(each, BaseException):
                raise each
            else:
                yield each

    async def abandon(self, token: types.Token) -> None:
        """Remember what is not wanted."""
        self.abandoned.append(token)


@pytest.fixture
async def settings(settings: Settings, tmp_path: Path) -> Settings:
    """The usual settings, with the models small, middle and great."""
    return three(settings, tmp_path)


async def performed(ground: Ground, gateway: Gateway, job: dict[str, Any]) -> object:
    """Run one try of a job."""
    tools = Tools(ground=ground, desk=Desk(ground), gateway=gateway, runs={})
    return await perform(tools, UUID(job["id"]))


async def said(client: Client, job: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return what a job said."""
    return events((await client.get(job["urls"]["events"])).text)


async def test_calls_of_tools_are_said_and_kept_and_what_was_cached_is_told(
    client: Client, settings: Settings, vendor: Vendor
) -> None:
    calls = [("c1", "weather", '{"city":"عمّان"}'), ("c2", "weather", '{"city":"إربد"}')]
    vendor.script = [Answer(tool_calls=calls, finish_reason="tool_calls", cached_tokens=4, reasoning_tokens=3)]
    async with working(settings):
        job = await until(client, await submit(client, chat("كيف الطقس؟", model="middle", tools=TOOLS)))
    result = job["result"]
    assert result["finish_reason"] == "tools"
    told = [{"id": call_id, "name": name, "arguments": arguments} for call_id, name, arguments in calls]
    assert result["tool_calls"] == told
    assert result["content"] == [
        {"type": "text", "text": "Hello from the wire."},
        *({"type": "tool_call", **call} for call in told),
    ]
    assert (result["usage"]["cached_tokens"], result["usage"]["reasoning_tokens"]) == (4, 3)
    assert (result["model"], result["reason"]["code"], result["fallback"]) == ("middle", "asked", None)
    events_ = [event for _, event in await said(client, job)]
    assert [event for event in events_ if event["type"] == "tool_call"] == [
        {"type": "tool_call", **call} for call in told
    ]
    usage = next(event for event in events_ if event["type"] == "usage")
    assert (usage["cached_tokens"], usage["reasoning_tokens"], usage["finish_reason"]) == (4, 3, "tools")
    assert vendor.requests[0]["tools"][0]["function"]["name"] == "weather"


async def test_results_of_tools_pictures_and_files_reach_the_vendor(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor
) -> None:
    picture = await shelve(ground, account, b"\x89PNG\r\n\x1a\n" + bytes(8), "image/png", name="a.png")
    paper = await shelve(ground, account, "سطر من النص".encode(), "text/plain", name="ملاحظات.txt")
    messages = [
        {
            "role": "user",
            "content": [{"type": "image", "file_id": str(picture)}, {"type": "file", "file_id": str(paper)}],
        },
        {"role": "assistant", "content": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": "{}"}]},
        {"role": "user", "content": [{"type": "tool_result", "id": "c1", "content": "31"}]},
        {"role": "user", "content": "إذن؟"},
    ]
    asked = {"kind": "chat", "input": {"messages": messages, "model": "middle", "tools": TOOLS}}
    async with working(settings):
        job = await until(client, await submit(client, asked))
    assert job["state"] == "succeeded", job["error"]
    sent = vendor.requests[0]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    assert sent[0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert "سطر من النص" in str(sent[0]["content"][1])
    assert (sent[2]["tool_call_id"], sent[2]["content"]) == ("c1", "31")


async def test_a_file_that_was_deleted_meanwhile_fails_the_job_by_its_name_and_costs_nothing(
    client: Client, settings: Settings, ground: Ground, account: Account
) -> None:
    picture = await shelve(ground, account, b"\x89PNG\r\n\x1a\n" + bytes(8), "image/png")
    content = [{"type": "text", "text": "ما هذه؟"}, {"type": "image", "file_id": str(picture)}]
    job = await submit(client, {"kind": "chat", "input": {"messages": [{"role": "user", "content": content}]}})
    assert (await client.delete(f"/v1/files/{picture}")).is_success
    async with working(settings):
        ended = await until(client, job)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "attachment_gone")
    assert str(picture) in ended["error"]["detail"]
    assert (await balance_of(ground, account)).held == 0


async def test_where_an_answer_is_found_again_is_kept_before_the_next_chunk(client: Client, ground: Ground) -> None:
    job = await submit(client, chat("hi", model="middle"))
    seen = list[Any]()

    async def look() -> None:
        seen.append((await job_of(ground, UUID(job["id"]))).checkpoint)

    answer = [*OPENED, types.Resumable(token=TOKEN), look, types.TextDelta("Hello", at=1), END]
    gateway = Script(ground.settings, answer)
    await performed(ground, gateway, job)
    assert seen == [{"resume": {"token": TOKEN}}]
    assert gateway.abandoned == []
    assert (await until(client, job))["result"]["text"] == "Hello"


async def test_the_next_attempt_goes_on_with_the_same_answer_and_says_it_from_its_beginning(
    client: Client, ground: Ground, account: Account
) -> None:
    job = await submit(client, chat("hi", model="middle"))
    cut = types.ProviderUnavailable()
    first = [*OPENED, types.Resumable(token=TOKEN), types.TextDelta("Hel", at=1), cut]
    gateway = Script(ground.settings, first, [*OPENED, types.TextDelta("Hello", at=2), END])
    assert isinstance(await performed(ground, gateway, job), float)
    await performed(ground, gateway, job)
    assert gateway.tokens == [None, TOKEN]
    told = await said(client, job)
    assert [event["type"] for event_id, event in told if event_id.startswith("2-")][:2] == ["started", "restarted"]
    assert text(told) == "Hello"
    assert (await until(client, job))["charged"] == {"chat_tokens": 11 * 2 + 7 * 4}
    await assert_even(ground)
    assert (await balance_of(ground, account)).held == 0


async def test_what_was_said_before_another_model_takes_over_is_void_and_that_is_told(
    client: Client, ground: Ground
) -> None:
    job = await submit(client, chat("hi", model="middle"))
    seen = list[Any]()

    async def look() -> None:
        seen.append((await job_of(ground, UUID(job["id"]))).checkpoint)

    answer = [
        *OPENED,
        types.Resumable(token=TOKEN),
        types.TextDelta("Hel"),
        Turned(model="small", because="provider_unavailable"),
        look,
        Serving(model="small", deployment="d2"),
        types.Opened(),
        types.TextDelta("Hi"),
        END,
    ]
    await performed(ground, Script(ground.settings, answer), job)
    assert seen == [{"resume": {}}], "the next attempt must not go on with what is void"
    ended = await until(client, job)
    fallback = {"from": "middle", "to": "small", "because": "provider_unavailable"}
    assert (ended["result"]["text"], ended["result"]["fallback"]) == ("Hi", fallback)
    assert ended["charged"] == {"chat_tokens": 11 + 7}, "at the weights of the model that answered"
    told = [event for _, event in await said(client, job)]
    warned = {"type": "warning", "code": "fallback", "detail": {"model": "small", "because": "provider_unavailable"}}
    assert told.count(warned) == 1
    order = [event["type"] for event in told]
    assert order.index("restarted") < order.index("warning") < order.index("usage")


async def test_another_model_that_answers_from_the_start_is_told_without_starting_again(
    client: Client, ground: Ground
) -> None:
    job = await submit(client, chat("hi", model="middle"))
    answer = [Serving(model="small", deployment="d2"), types.Opened(), types.TextDelta("Hi"), END]
    await performed(ground, Script(ground.settings, answer), job)
    ended = await until(client, job)
    assert (ended["result"]["model"], ended["result"]["fallback"]["to"]) == ("small", "small")
    assert "restarted" not in [event["type"] for _, event in await said(client, job)]


async def test_an_answer_that_its_account_cancels_is_abandoned_and_charged_as_far_as_it_came(
    client: Client, ground: Ground
) -> None:
    job = await submit(client, chat("four", model="middle"))
    tools = Tools(ground=ground, desk=Desk(ground), gateway=Gateway(ground.settings), runs={})

    async def stop() -> None:
        tools.runs[UUID(job["id"])].cancel()
        await asyncio.sleep(10)

    call = types.ToolCall(id="c1", name="weather", arguments="{}")
    answer = [*OPENED, types.Resumable(token=TOKEN), types.TextDelta("four by "), types.TextDelta("four"), call, stop]
    gateway = Script(ground.settings, answer)
    await perform(msgspec.structs.replace(tools, gateway=gateway), UUID(job["id"]))
    assert gateway.abandoned == [TOKEN]
    ended = await until(client, job)
    assert (ended["state"], ended["result"]["text"]) == ("canceled", "four by four")
    assert ended["result"]["tool_calls"] == [{"id": "c1", "name": "weather", "arguments": "{}"}]
    assert ended["result"]["usage"]["estimated"]
    assert 0 < ended["charged"]["chat_tokens"] < 1 * 2 + 20 * 4
    await assert_even(ground)


async def test_what_is_counted_above_the_hold_is_told_by_what_was_really_held(
    client: Client, ground: Ground, account: Account
) -> None:
    job = await submit(client, chat("hi", model="middle", fallbacks=[], max_output_tokens=10))
    held = (64 + 16 + 2) * 2 + 10 * 4
    assert (await balance_of(ground, account)).held == held
    async with ground.database.begin() as session:
        await session.execute(update(Hold).values(units=Hold.units - 54))
        await session.execute(update(Balance).where(Balance.held == held).values(held=held - 54))
    finish = types.Finish(reason="length", counted=types.Counted(input_tokens=60, output_tokens=10))
    await performed(ground, Script(ground.settings, [*OPENED, types.TextDelta("Hi"), finish]), job)
    assert (await until(client, job))["charged"] == {"chat_tokens": 150}
    warned = [event["detail"] for _, event in await said(client, job) if event.get("code") == "overage"]
    assert warned == [{"meter": "chat_tokens", "held": 150, "used": 160}]
    assert (await balance_of(ground, account)).overage == 10


@pytest.mark.parametrize("nobody", ["waits", "stopped with others", "late", "dead", "dead and claimed again"])
async def test_an_answer_is_abandoned_whose_job_is_cancelled_while_nobody_runs_it(
    client: Client, ground: Ground, nobody: str
) -> None:
    job = await submit(client, chat("hi", model="middle"))
    job_id = UUID(job["id"])
    attempt = await take(ground, job)
    assert await keep(ground, attempt, resume={"token": TOKEN}) == "runs"
    if not nobody.startswith("dead"):
        assert await give_back(ground, attempt, failed=True)
    match nobody:
        case "stopped with others":
            await lifecycle.stop(ground, [job_id])
        case "late":
            async with ground.database.begin() as session:
                (await session.get_one(Job, job_id)).cancel_by = datetime.now(UTC)
            await lifecycle.cancel_late(ground)
        case _:
            assert (await client.post(f"/v1/jobs/{job_id}/cancel")).is_success
            if nobody == "dead":
                await lifecycle.close(ground, job_id)
            if nobody == "dead and claimed again":
                assert await lifecycle.claim(ground, [job_id]) == [None]
    gateway = Script(ground.settings)
    await tend.stop_orphans(ground, gateway)
    await tend.stop_orphans(ground, gateway)
    assert gateway.abandoned == [TOKEN]
    ended = await until(client, job)
    assert (ended["state"], ended["charged"]) == ("canceled", {"chat_tokens": 0})
    await assert_even(ground)


async def test_an_answer_is_abandoned_that_took_longer_than_its_job_may(client: Client, ground: Ground) -> None:
    hasty = msgspec.structs.replace(
        ground, settings=msgspec.structs.replace(ground.settings, chat_timeout_s=0.1, max_tries=1)
    )
    job = await submit(client, chat("hi", model="middle"))

    async def hold() -> None:
        await asyncio.sleep(10)

    gateway = Script(hasty.settings, [*OPENED, types.Resumable(token=TOKEN), types.TextDelta("Hel", at=1), hold])
    await performed(hasty, gateway, job)
    assert (await until(client, job))["error"]["code"] == "job_timed_out"
    await tend.stop_orphans(ground, gateway)
    assert gateway.abandoned == [TOKEN]
    await assert_even(ground)


async def test_an_answer_is_not_abandoned_when_a_worker_goes_down_or_has_lost_its_job(
    client: Client, ground: Ground
) -> None:
    for stop in ("down", "lost"):
        job = await submit(client, chat("hi", model="middle"))
        attempt = await take(ground, job)
        speaking = asyncio.Event()

        async def hold(speaking: asyncio.Event = speaking) -> None:
            speaking.set()
            await asyncio.sleep(10)

        gateway = Script(ground.settings, [*OPENED, types.Resumable(token=TOKEN), hold])
        run = Run(attempt, ground, gateway, Desk(ground).keep)
        making = asyncio.create_task(room.make(kept(attempt), run))
        waiting = asyncio.create_task(run.work(making))
        await speaking.wait()
        if stop == "lost":
            run.lose()
        else:
            waiting.cancel()
        await asyncio.gather(waiting, making, return_exceptions=True)
        assert making.cancelled()
        assert gateway.abandoned == []


async def test_no_wait_of_the_gateway_is_longer_than_a_try_may_run(client: Client, ground: Ground) -> None:
    for asked, left_s in (({}, ground.settings.chat_timeout_s), ({"timeout": 30}, 30)):
        job = await submit(client, chat("hi", model="middle") | asked)
        gateway = Script(ground.settings, [*OPENED, types.TextDelta("Hi."), END])
        await performed(ground, gateway, job)
        assert gateway.lefts == [left_s]


async def test_what_a_vendor_says_all_at_once_leaves_while_it_is_said(client: Client, ground: Ground) -> None:
    job = await submit(client, chat("hi", model="middle"))
    attempt = await take(ground, job)
    run = Run(attempt, ground, Script(ground.settings), Desk(ground).keep)
    given_up_s = time.monotonic() + 10
    while not run._sent and time.monotonic() < given_up_s:  # pyright: ignore[reportPrivateUsage]
        await run.say(room.events.Delta(text="word "))  # by a vendor that is never waited for
    assert run._sent, "nothing left before all was said"  # pyright: ignore[reportPrivateUsage]
    await run.end(room.events.Canceled(charged={}), patience_s=5)


def kept(attempt: lifecycle.Attempt) -> Any:
    """Return the request of a job in hand."""
    return kinds.read(attempt.kind, attempt.spec)


async def test_what_a_vendor_thought_goes_back_to_it_as_it_came(client: Client, ground: Ground) -> None:
    job = await submit(client, chat("كيف الطقس؟", model="middle", tools=TOOLS))
    thought = types.Thought(vendor="anthropic", data='{"type":"thinking","thinking":"…","signature":"c2ln"}')
    call = types.ToolCall(id="c1", name="weather", arguments='{"city":"عمّان"}')
    finish = types.Finish(reason="tools", counted=END.counted)
    await performed(ground, Script(ground.settings, [*OPENED, thought, types.TextDelta("سأنظر."), call, finish]), job)
    content = (await until(client, job))["result"]["content"]
    assert [part["type"] for part in content] == ["thought", "text", "tool_call"]
    turns = [
        {"role": "user", "content": "كيف الطقس؟"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": [{"type": "tool_result", "id": "c1", "content": "31"}]},
    ]
    asked = {"kind": "chat", "input": {"messages": turns, "model": "middle", "tools": TOOLS}}
    heard = list[types.ChatCall]()

    class Listening(Script):
        def stream(
            self,
            chain: Sequence[Model],
            call: types.ChatCall,
            *,
            token: types.Token | None = None,
            left_s: float | None = None,
        ) -> AsyncGenerator[Said]:
            heard.append(call)
            return super().stream(chain, call, token=token, left_s=left_s)

    await performed(
        ground, Listening(ground.settings, [*OPENED, types.TextDelta("حار"), END]), await submit(client, asked)
    )
    assert list(heard[0].turns[1].parts) == [thought, types.Text("سأنظر."), call]
    assert list(heard[0].turns[2].parts) == [types.ToolResult(id="c1", content="31")]
