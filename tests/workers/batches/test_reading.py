"""A batch is read line by line: what is a request is kept, what is none is told with its number and the reason."""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text

from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.models import Account, Batch
from infra.settings import Settings
from quotas import accounts
from tests.support import readings
from tests.support.books import assert_even
from tests.support.chats import Client
from tests.support.lives import asking, job_of, run_of, tools
from tests.support.readings import jsonl, line, reasons
from tests.support.shelves import shelve
from tests.support.uploads import kept
from tests.support.work import working
from workers import files, lifecycle
from workers.batch import run as room
from workers.batch.spec import BatchInput, ReadBatch
from workers.batches import reading, verdicts
from workers.batches.lines import Line, Reader, Refusal
from workers.files import discards
from workers.kinds import SPECS
from workers.perform import perform

BODY = {"model": "auto", "messages": [{"role": "user", "content": "ما الأخبار؟"}], "max_tokens": 16}
OPENAI = {"custom_id": "ب", "method": "POST", "url": "/v1/chat/completions", "body": BODY}
ANTHROPIC = {"custom_id": "ج", "params": BODY}
GOOD = line("سليم")
MIB = 1024**2
LIMIT = 1_048_576  # of the settings


def _long(length: int) -> bytes:
    """Return a line of so many bytes, about an eighth of whose text is in Arabic."""
    empty = len(json.dumps(line("طويل", ""), ensure_ascii=False).encode())
    contents = ["س" * 8000 + "x" * 100_000]
    asked = line("طويل")
    asked["input"]["messages"] = [{"role": "user", "content": content} for content in contents]
    whole = json.dumps(asked, ensure_ascii=False).encode()
    assert empty < len(whole) < length
    return whole + b" " * (length - len(whole))


async def test_lines_of_every_shape_become_lines_of_one_batch(ground: Ground, account: Account) -> None:
    own = line("أ", "صف البحر", metadata={"لون": "أزرق"}, timeout=30)
    batch = await readings.read_all(ground, account, jsonl(own, OPENAI, ANTHROPIC), webhook="https://example.com/x")
    assert (batch.state, batch.lines, batch.rejected, batch.error) == ("running", 3, 0, None)
    assert (batch.read_bytes, batch.read_lines, batch.fitted_line) == (batch.size_bytes, 3, 3)
    assert batch.accepted_at is not None
    kept = await readings.lines_of(ground, batch.id)
    assert [(it.line, it.custom_id, it.form) for it in kept] == [
        (1, "أ", "own"),
        (2, "ب", "openai"),
        (3, "ج", "anthropic"),
    ]
    assert kept[0].spec["input"]["messages"] == [{"role": "user", "content": "صف البحر"}]
    assert (kept[0].labels, kept[0].timeout_s, kept[1].labels, kept[1].timeout_s) == ({"لون": "أزرق"}, 30, None, None)
    needs = sum(it.units["chat_tokens"] for it in kept)
    assert batch.needs == {"chat_tokens": needs}
    assert await readings.held_of(ground, account) == needs
    async with ground.database.begin() as session:
        told = (await session.execute(text("SELECT type, subject_id, url FROM webhook_messages"))).all()
    assert told == [("batch.accepted", batch.id, "https://example.com/x")]
    await assert_even(ground)


#: Inputs, which of their lines can become jobs, and what the others are refused for.
CORPUS: list[tuple[bytes, list[int], list[tuple[int, str | None, str]]]] = [
    (b"\xef\xbb\xbf" + jsonl(GOOD), [1], []),
    (jsonl(GOOD).replace(b"\n", b"\r\n"), [1], []),
    (jsonl(GOOD).removesuffix(b"\n"), [1], []),
    (b"\n \t\r\n\n" + jsonl(GOOD) + b"\n\n", [4], []),
    (jsonl(GOOD, b"\xef\xbb\xbf" + jsonl(line("b")).strip()), [1], [(2, None, "malformed_json")]),
    (jsonl(GOOD, b'{"custom_id": "x\xff"}', line("b")), [1, 3], [(2, None, "line_not_utf8")]),
    (jsonl(GOOD, b'{"custom_id": "x\0"}', line("b")), [1, 3], [(2, None, "line_has_nul")]),
    (jsonl(GOOD, line("ص\u0000")), [1], [(2, None, "control_characters")]),
    (jsonl(GOOD, line("x", "a\u0000b")), [1], [(2, "x", "invalid_text")]),
    (jsonl(GOOD, json.dumps(line("x", "@")).replace("@", "\\udc00").encode()), [1], [(2, "x", "invalid_text")]),
    (jsonl(GOOD, line("x") | {"kind": "أغنية"}), [1], [(2, "x", "unknown_kind")]),
    (
        jsonl(GOOD, GOOD, line("b"), GOOD),
        [1, 3],
        [(2, "سليم", "duplicate_custom_id"), (4, "سليم", "duplicate_custom_id")],
    ),
    (jsonl(GOOD, {"kind": "chat"}), [1], [(2, None, "missing_field")]),
    (jsonl(GOOD, line("b"))[:-20], [1], [(2, None, "line_cut_short")]),
    (jsonl(GOOD) + '{"custom_id": "س'.encode()[:-1], [1], [(2, None, "line_cut_short")]),
    (jsonl([GOOD], GOOD), [2], [(1, None, "line_not_an_object")]),
    (jsonl(GOOD, b'{"custom_id":"x","body":' * 100_000 + b"1"), [1], [(2, None, "line_too_long")]),
    (
        jsonl(GOOD, b'{"custom_id":"x","body":' + b"[" * 500_000 + b"]" * 500_000 + b"}"),
        [1],
        [(2, None, "malformed_json")],
    ),
    (jsonl(GOOD, b"x" * (5 * MIB), line("b")), [1, 3], [(2, None, "line_too_long")]),
    (jsonl(_long(LIMIT), _long(LIMIT + 1), line("b")), [1, 3], [(2, None, "line_too_long")]),
    (jsonl(GOOD) + b"y" * (3 * MIB), [1], [(2, None, "line_too_long")]),
]


async def test_what_is_wrong_with_a_line_is_told_with_its_number(ground: Ground, account: Account) -> None:
    for data, fine, refused in CORPUS:
        batch = await readings.read_all(ground, account, data)
        assert batch.state == "running"
        assert [it.line for it in await readings.lines_of(ground, batch.id)] == fine
        told = await readings.told_of(ground, batch.id)
        assert reasons(told) == refused
        assert all(it["state"] == "rejected" and it["error"]["ar"] != it["error"]["en"] for it in told)
        assert (batch.lines, batch.rejected) == (len(fine) + len(refused), len(refused))
        assert batch.read_bytes == len(data)
    await assert_even(ground)


async def test_the_reasons_are_told_in_both_languages(ground: Ground, account: Account) -> None:
    data = jsonl(GOOD, GOOD, b'"\xff"', b"\0", b"[]", b"z" * (LIMIT + 1), line("a\u0007"), line("b", run_at="x"), b"{")
    batch = await readings.read_all(ground, account, data[:-1])
    told = {it["line"]: it["error"] for it in await readings.told_of(ground, batch.id)}
    assert {number: (it["en"], it["ar"]) for number, it in told.items()} == {
        2: ("custom_id: line 1 has the same one.", "custom_id: للسطر 1 المعرّف نفسه."),
        3: (
            "The line is not valid UTF-8 at byte 1, counted from 0.",
            "السطر ليس UTF-8 صالحًا عند البايت 1 (يبدأ العد من الصفر).",
        ),
        4: (
            "The line has a NUL (U+0000) at byte 0, counted from 0.",
            "في السطر المحرف U+0000 (NUL) عند البايت 0 (يبدأ العد من الصفر).",
        ),
        5: ("The line must be one JSON object.", "يجب أن يكون السطر كائن JSON واحدًا."),
        6: ("The line has more than 1048576 bytes.", "يتجاوز طول السطر 1048576 بايت."),
        7: ("custom_id may have no control characters.", "لا يجوز أن تكون في custom_id محارف تحكم."),
        8: (
            "run_at cannot be chosen for each line: it is a matter of the whole batch.",
            "لا يمكن اختيار run_at لكل سطر على حدة، فهو من شأن الدفعة كلها.",
        ),
        9: (
            "The last line breaks off in its middle: the rest of the file seems to be missing.",
            "ينقطع السطر الأخير في منتصفه: يبدو أن بقية الملف مفقودة.",
        ),
    }


async def test_a_duplicate_is_found_however_far_the_first_one_is_behind(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_CHUNK_LINES", 3)
    names = ["a", "b", "a", "c", "b", "d", "e", "a"]
    batch = await readings.read_all(ground, account, jsonl(*map(line, names)))
    assert [it.custom_id for it in await readings.lines_of(ground, batch.id)] == ["a", "b", "c", "d", "e"]
    told = await readings.told_of(ground, batch.id)
    assert [(it["line"], it["error"]["en"]) for it in told] == [
        (3, "custom_id: line 1 has the same one."),
        (5, "custom_id: line 2 has the same one."),
        (8, "custom_id: line 1 has the same one."),
    ]
    assert batch.needs == {"chat_tokens": 5 * (64 + 16 + len("مرحبا".encode()) + 16 * 5)}


async def test_a_file_in_another_encoding_has_no_line_that_could_be_read(ground: Ground, account: Account) -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        batch = await readings.read_all(ground, account, jsonl(GOOD, line("b")).decode().encode(encoding))
        assert batch.state == "failed"
        codes = {code for _, _, code in reasons(await readings.told_of(ground, batch.id))}
        assert codes <= {"line_not_utf8", "line_has_nul"}
        assert batch.error is not None
        assert batch.error["code"] == "no_valid_lines"


async def test_a_batch_without_a_request_fails(ground: Ground, account: Account) -> None:
    inputs = (b"\n", b"\xef\xbb\xbf\n\n", b"\r\n \r\n", b"[]\n", jsonl({"custom_id": "a"}))
    for mode, data in itertools.product(("each", "all"), inputs):
        batch = await readings.read_all(ground, account, data, mode=mode, webhook="https://example.com/x")
        assert (batch.state, batch.finished_at is None, batch.accepted_at) == ("failed", False, None)
        assert batch.error is not None
        assert batch.error["code"] == ("batch_has_errors" if mode == "all" and batch.lines else "no_valid_lines")
    assert await readings.held_of(ground, account) == 0
    async with ground.database.begin() as session:
        assert set(await session.scalars(text("SELECT type FROM webhook_messages"))) == {"batch.failed"}


async def test_more_lines_than_a_batch_may_have_are_not_taken(ground: Ground, account: Account) -> None:
    settings = msgspec.structs.replace(ground.settings, batch_lines=3)
    few = msgspec.structs.replace(ground, settings=settings)
    fits = await readings.read_all(few, account, jsonl(line("a"), b"", b"x", line("c"), b""))
    assert (fits.state, fits.lines) == ("running", 3)
    batch = await readings.read_all(few, account, jsonl(line("a"), b"", b"x", line("c"), line("d")))
    assert (batch.state, await readings.told_of(ground, batch.id)) == ("failed", [])
    assert batch.error == {
        "code": "too_many_lines",
        "en": "The batch has more than 3 lines.",
        "ar": "في الدفعة أكثر من 3 سطر.",
        "limit": 3,
    }
    await assert_even(ground)


async def test_an_upload_goes_when_it_was_read_and_a_file_stays(ground: Ground, account: Account) -> None:
    for data in (jsonl(GOOD), b"\n"):
        batch = await readings.read_all(ground, account, data)
        key = files.quarantine_key(account.id, batch.id)
        async with ground.database.begin() as session:
            noted = await session.scalars(text("SELECT key FROM discards WHERE area = 'quarantine' AND due <= now()"))
            assert list(noted) == [key]
        assert await discards.clear(ground) == 1
        assert await ground.storage.size("quarantine", key) is None


async def test_an_upload_that_is_not_there_is_told(ground: Ground, account: Account) -> None:
    batch_id = await readings.hand_over(ground, account, jsonl(GOOD))
    await ground.storage.delete("quarantine", files.quarantine_key(account.id, batch_id))
    batch = await readings.read(ground, account, batch_id)
    assert batch.state == "failed"
    assert batch.error is not None
    assert batch.error["code"] == "batch_input_missing"


async def test_a_file_of_the_account_s_is_read_as_long_as_it_is_there(
    client: Client, ground: Ground, settings: Settings, account: Account
) -> None:
    data = jsonl(GOOD, b'{"custom_id": "\xff"}', b"[")
    async with working(settings, "scan"):
        file = await kept(client, data, name="طلبات.jsonl", purpose="batch")
    source: dict[str, Any] = {"source": "file", "source_id": UUID(file["id"]), "size_bytes": len(data)}
    for _ in range(2):
        batch = await readings.read(ground, account, await readings.hand_over(ground, account, **source))
        told = readings.reasons(await readings.told_of(ground, batch.id))
        assert (batch.state, told) == ("running", [(2, None, "line_not_utf8"), (3, None, "line_not_an_object")])
    async with ground.database.begin() as session:
        stranger = await accounts.create(session, "omar@example.com")
    batch = await readings.read(ground, stranger, await readings.hand_over(ground, stranger, **source))
    assert batch.state == "failed", "it is not theirs"
    await files.delete(ground, account.id, UUID(file["id"]))
    batch = await readings.read(ground, account, await readings.hand_over(ground, account, **source))
    assert batch.state == "failed"
    assert batch.error is not None
    assert batch.error["code"] == "batch_input_missing"


async def _cancel(ground: Ground, batch_id: UUID) -> None:
    async with ground.database.begin() as session:
        batch = await session.get_one(Batch, batch_id, with_for_update=True)
        batch.state, batch.cancel_requested_at = "canceling", datetime.now(UTC)


async def _expire(ground: Ground, batch_id: UUID) -> None:
    async with ground.database.begin() as session:
        batch = await session.get_one(Batch, batch_id, with_for_update=True)
        batch.expires_at = datetime.now(UTC) - timedelta(seconds=1)


def _after_chunk(
    count: int, deed: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> list[reading.Chunk]:
    """Have something done after so many chunks of one line were kept; returns those that were tried to be kept."""
    keep, tried = reading.keep, list[reading.Chunk]()

    async def watched(ground: Ground, batch_id: UUID, chunk: reading.Chunk) -> None:
        tried.append(chunk)
        await keep(ground, batch_id, chunk)
        if len(tried) == count:
            await deed()

    monkeypatch.setattr(reading, "_CHUNK_LINES", 1)
    monkeypatch.setattr(reading, "keep", watched)
    return tried


async def test_a_batch_that_is_not_wanted_any_more_is_left_as_it_is(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for how, state in ((_cancel, "canceling"), (_expire, "validating")):
        batch_id = await readings.hand_over(ground, account, jsonl(*map(line, "abcd")))
        with monkeypatch.context() as patched:
            kept = _after_chunk(2, partial(how, ground, batch_id), patched)
            batch = await readings.read(ground, account, batch_id)
        assert len(kept) == 3, "the third one found out"
        assert (batch.state, batch.lines, batch.accepted_at) == (state, 2, None)
        assert await readings.held_of(ground, account) == 0
        job = await job_of(ground, batch.job_id or UUID(int=0))
        assert job.result == {"batch": str(batch_id), "state": state, "lines": 2, "rejected": 0}
        assert await discards.clear(ground) == 1, "nobody needs its input"


async def test_a_batch_that_was_not_wanted_before_is_not_read(ground: Ground, account: Account) -> None:
    for how in (_cancel, _expire):
        batch_id = await readings.hand_over(ground, account, jsonl(GOOD))
        await how(ground, batch_id)
        batch = await readings.read(ground, account, batch_id)
        assert (batch.lines, batch.accepted_at, await readings.held_of(ground, account)) == (0, None, 0)


async def test_a_batch_is_read_once_whoever_reads_it_again(ground: Ground, account: Account) -> None:
    batch = await readings.read_all(ground, account, jsonl(GOOD, b"x"))
    again = await readings.read(ground, account, batch.id)
    assert (again.state, again.lines, again.accepted_at) == ("running", 2, batch.accepted_at)
    assert len(await readings.told_of(ground, batch.id)) == 1
    await assert_even(ground)


async def test_whoever_comes_back_from_the_dead_changes_nothing(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = await readings.hand_over(ground, account, jsonl(line("a"), b"x", line("c"), line("d")))
    job_id = await readings.submit(ground, account, batch_id)
    (zombie,) = await lifecycle.claim(ground, [job_id])
    assert zombie is not None
    run = run_of(ground, zombie)
    run.specs = SPECS

    async def overtake() -> None:
        monkeypatch.undo()
        await perform(tools(ground), job_id)

    _after_chunk(1, overtake, monkeypatch)
    made = await room.make(ReadBatch(input=BatchInput(batch=batch_id)), run)
    assert made.result["state"] == "running", "it finds the batch accepted, and its job's end is not its to write"
    batch = await readings.look(ground, batch_id)
    assert (batch.state, batch.lines, batch.rejected) == ("running", 4, 1)
    assert [it.line for it in await readings.lines_of(ground, batch_id)] == [1, 3, 4]
    assert reasons(await readings.told_of(ground, batch_id)) == [(2, None, "malformed_json")]
    await assert_even(ground)


async def test_a_chunk_is_kept_once_and_only_where_the_last_one_ended(ground: Ground, account: Account) -> None:
    data = jsonl(line("a"), b"x", line("a"))
    batch_id = await readings.hand_over(ground, account, data)
    reader = Reader(SPECS, asking(ground.settings))
    read = [reader.read(n, raw) for n, raw in enumerate(data.splitlines(), 1)]
    lines = [it for it in read if isinstance(it, Line)]
    refused = [it for it in read if isinstance(it, Refusal)]
    chunk = reading.Chunk(start=0, end=len(data), number=3, lines=lines, refused=refused)
    other = msgspec.structs.replace(chunk, start=5, end=len(data) + 1)
    with pytest.raises(verdicts.ReadElsewhere):
        await reading.keep(ground, batch_id, other)
    for _ in range(3):
        await reading.keep(ground, batch_id, chunk)
    batch = await readings.look(ground, batch_id)
    assert (batch.lines, batch.rejected, batch.read_bytes, batch.read_lines) == (3, 2, len(data), 3)
    with pytest.raises(verdicts.ReadElsewhere):
        await reading.keep(ground, batch_id, other)
    at_once = msgspec.structs.replace(chunk, start=len(data), end=len(data) + 9, number=5, lines=[], refused=[])
    await asyncio.gather(*(reading.keep(ground, batch_id, at_once) for _ in range(5)))
    assert (await readings.look(ground, batch_id)).read_lines == 5


async def test_a_database_that_is_away_is_waited_for(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a transaction was committed, nobody knows who was not answered."""
    begin, number = ground.database.begin, 0

    @asynccontextmanager
    async def unsteady() -> AsyncGenerator[Any]:
        nonlocal number
        number += 1
        if number % 3 == 0:
            raise DatabaseUnavailable
        async with begin() as session:
            yield session
        if number % 3 == 1:
            raise DatabaseUnavailable

    batch_id = await readings.hand_over(ground, account, jsonl(*(line(f"{n}") for n in range(5)), b"x"))
    job_id = await readings.submit(ground, account, batch_id)
    monkeypatch.setattr(reading, "_CHUNK_LINES", 2)
    monkeypatch.setattr(room, "_LONGEST_WAIT_S", 0.01)
    with monkeypatch.context() as patched:
        patched.setattr(ground.database, "begin", unsteady)
        await perform(tools(ground), job_id)
    batch = await readings.look(ground, batch_id)
    assert (batch.state, batch.lines, batch.rejected) == ("running", 6, 1)
    assert (await job_of(ground, job_id)).state == "succeeded"
    await assert_even(ground)


async def test_progress_is_said_now_and_then(ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_CHUNK_LINES", 1)
    data = jsonl(*(line(f"{n}") for n in range(30)))
    batch = await readings.read_all(ground, account, data)
    assert batch.job_id is not None
    said = [msgspec.json.decode(event.data) for event in await ground.streams.read(batch.job_id)]
    progress = [it for it in said if it["type"] == "progress"]
    assert 1 <= len(progress) < 10
    assert all(it["stage"] == "reading" and 0 < it["done"] <= it["total"] == len(data) for it in progress)


async def test_files_that_lines_name_are_those_of_the_account(ground: Ground, account: Account) -> None:
    mine = await shelve(ground, account, b"\x89PNG\r\n\x1a\n" + bytes(8), "image/png")
    async with ground.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
    theirs = await shelve(ground, other, b"\x89PNG\r\n\x1a\n" + bytes(8), "image/png")

    def showing(custom_id: str, file_id: UUID) -> dict[str, Any]:
        content = [{"type": "text", "text": "صف هذه"}, {"type": "image", "file_id": str(file_id)}]
        return line(custom_id) | {"input": {"messages": [{"role": "user", "content": content}]}}

    data = jsonl(showing("a", mine), line("b"), showing("c", theirs), line("d"), showing("e", mine))
    batch = await readings.read_all(ground, account, data)
    kept = await readings.lines_of(ground, batch.id)
    assert [it.custom_id for it in kept] == ["a", "b", "d", "e"]
    assert kept[0].units["chat_tokens"] > kept[1].units["chat_tokens"]
    assert readings.reasons(await readings.told_of(ground, batch.id)) == [(3, "c", "attachment_not_found")]
    assert await readings.held_of(ground, account) == sum(it.units["chat_tokens"] for it in kept)
