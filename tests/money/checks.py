"""What must never happen, each shown by the shortest story in which a missing guard lets it happen.

Every check makes its own account on a database that may be mutated, and fails (by whatever error) where it does happen.
A trigger slows down whoever moves units, so that others come in between every time.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from infra import ids
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Job
from quotas import accounts, audit, ledger
from tests.money.truth import own
from tests.money.work import asked
from workers import lifecycle
from workers.lifecycle import Attempt, End, Kept, Return, Submission, Submitted

#: A check works on a ground whose PostgreSQL it may fill as it likes.
type Check = Callable[[Ground], Awaitable[None]]

_LIMIT = 10
# Who draws on one of these does not wait for who draws on another.
_OTHER_METERS = ("documents", "images", "video_seconds", "storage_bytes")
_DAWDLE = """
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM entered WHERE kind <> 'grant') THEN PERFORM pg_sleep(0.03); END IF;
        RETURN NULL;
    END $$
"""
_DAWDLES = """
    CREATE TRIGGER dawdle AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS entered
    FOR EACH STATEMENT EXECUTE FUNCTION dawdle()
"""


async def slow_down(ground: Ground) -> None:
    """Have whoever moves units take his time before he commits."""
    async with ground.database.begin() as session:
        for statement in (_DAWDLE, _DAWDLES):
            await session.execute(text(statement))
    await warm_up(ground)


async def warm_up(ground: Ground) -> None:
    """Have connections made: who waits for his comes after the others."""
    await asyncio.gather(*(ground.database.ask(text("SELECT pg_sleep(0.1)"), {}) for _ in range(8)))


async def _account(ground: Ground) -> Account:
    async with ground.database.begin() as session:
        return await accounts.create(session, f"{ids.new()}@example.com")


async def _assert_even(ground: Ground) -> None:
    async with ground.database.begin() as session:
        assert await audit.disagreements(session) == []


async def _held(ground: Ground, account: Account) -> tuple[int, int]:
    """Return what is held and used of the documents."""
    async with ground.database.begin() as session:
        standings = await ledger.standings(session, [(account.id, "documents")])
        standing = standings[account.id, "documents"]
        return standing.held, standing.used


def _in(answers: Sequence[Submitted | PulseError]) -> list[Submitted]:
    return [answer for answer in answers if isinstance(answer, Submitted)]


async def _all_at_once(ground: Ground, flushes: Sequence[Sequence[Submission]]) -> list[list[Submitted | PulseError]]:
    return await asyncio.gather(*(lifecycle.admit(ground, flush) for flush in flushes))


async def _running(ground: Ground, account: Account, count: int = 1) -> list[Attempt]:
    answers = await lifecycle.admit(ground, [asked(account, {"documents": 1}) for _ in range(count)])
    attempts = await lifecycle.claim(ground, [answer.job.id for answer in _in(answers)])
    return [attempt for attempt in attempts if attempt is not None]


def _end(attempt: Attempt, used: int = 1, **facts: Any) -> End:
    return End(job_id=attempt.id, attempt=attempt.attempt, state="succeeded", used={"documents": used}, **facts)


async def limit_holds(ground: Ground) -> None:
    """What does not fit is not sold, by four at the same time."""
    account = await _account(ground)
    answers = await _all_at_once(ground, [[asked(account, {"documents": 1}) for _ in range(4)] for _ in range(4)])
    assert sum(len(_in(flush)) for flush in answers) == _LIMIT
    assert await _held(ground, account) == (_LIMIT, 0)
    await _assert_even(ground)


async def limit_holds_for_files(ground: Ground) -> None:
    """The same, for what is held in a transaction of the holder's own."""
    account = await _account(ground)

    async def draw() -> int:
        async with ground.database.begin() as session:
            drawing = await ledger.lock(session, [(account, "documents")])
            jobs = [Job(id=ids.new(), account_id=account.id, kind="chat", spec={}) for _ in range(4)]
            with contextlib.suppress(ledger.QuotaExceeded):
                for job in jobs:
                    drawing.hold(account.id, job.id, {"documents": 1})
            session.add_all(jobs)
            await drawing.write(session)
            return _LIMIT - drawing.standing(account.id, "documents").remaining

    assert sorted(await asyncio.gather(*(draw() for _ in range(4)))) == [4, 8, _LIMIT, _LIMIT]
    assert await _held(ground, account) == (_LIMIT, 0)
    await _assert_even(ground)


async def key_is_one_job(ground: Ground) -> None:
    """The same keys at the same time are the same jobs, although there is room for one of each only."""
    account = await _account(ground)
    flushes = [[asked(account, {"documents": 1}, key=f"k{n}") for n in range(_LIMIT)] for _ in range(3)]
    answers = await _all_at_once(ground, flushes)
    told = [[answer.job.id if isinstance(answer, Submitted) else answer.code for answer in flush] for flush in answers]
    assert told[0] == told[1] == told[2], "all three hear of the same jobs, and nobody is denied"
    assert len(set(told[0])) == _LIMIT
    assert await _held(ground, account) == (_LIMIT, 0)


async def id_is_one_job(ground: Ground) -> None:
    """What is asked again under the same ids, while it may be on its way and after that, is admitted once."""
    account = await _account(ground)
    flush = [asked(account, {"documents": 1}) for _ in range(3)]
    if own(flush[0]) is None:
        return
    answers = [*await _all_at_once(ground, [flush] * 3), await lifecycle.admit(ground, flush)]
    assert [[answer.job.id for answer in _in(told)] for told in answers] == [[own(each) for each in flush]] * 4
    assert await _held(ground, account) == (3, 0)
    await _assert_even(ground)


async def key_is_one_request(ground: Ground) -> None:
    """A key that stood for another request is refused."""
    account = await _account(ground)
    (first,) = await lifecycle.admit(ground, [asked(account, {"documents": 1}, key="k")])
    (other,) = await lifecycle.admit(ground, [asked(account, {"documents": 2}, key="k")])
    assert isinstance(first, Submitted)
    assert isinstance(other, lifecycle.IdempotencyKeyReused)


async def key_is_one_of_many_requests(ground: Ground) -> None:
    """Of other requests under one key, at the same time and on other meters, one is taken."""
    account = await _account(ground)
    flushes = [[asked(account, {meter: 1}, key="k")] for meter in _OTHER_METERS]
    answers = [answer for told in await _all_at_once(ground, flushes) for answer in told]
    assert len(_in(answers)) == 1
    assert sum(isinstance(answer, lifecycle.IdempotencyKeyReused) for answer in answers) == len(_OTHER_METERS) - 1


async def unique_is_one_job(ground: Ground) -> None:
    """A unique key has one live job, whoever asks at the same time and for whatever."""
    account = await _account(ground)
    flushes = [[asked(account, {meter: 1}, unique="u")] for meter in _OTHER_METERS]
    answers = await _all_at_once(ground, flushes)
    assert len({answer.job.id for told in answers for answer in _in(told)}) == 1


async def retry_is_one_job(ground: Ground) -> None:
    """A failed job gets one other go, whoever asks at the same time."""
    account = await _account(ground)
    (attempt,) = await _running(ground, account)
    await lifecycle.finish(ground, [End(job_id=attempt.id, attempt=1, state="failed", error={"code": "x"})])
    answers = await _all_at_once(ground, [[asked(account, {"documents": 1}, replay_of=attempt.id)] for _ in range(4)])
    assert len({answer.job.id for told in answers for answer in _in(told)}) == 1
    assert await _held(ground, account) == (1, 0)


async def job_ends_once(ground: Ground) -> None:
    """A job that is ended by four at the same time is charged once."""
    account = await _account(ground)
    attempts = await _running(ground, account, 3)
    flush = [_end(attempt) for attempt in attempts]
    ended = await asyncio.gather(*(lifecycle.finish(ground, flush) for _ in range(4)))
    assert sum(each is not None for told in ended for each in told) == len(attempts)
    assert await _held(ground, account) == (0, len(attempts))
    await _assert_even(ground)


async def end_stays(ground: Ground) -> None:
    """A job that is over cannot be ended again, whatever was used."""
    account = await _account(ground)
    (attempt,) = await _running(ground, account)
    assert (await lifecycle.finish(ground, [_end(attempt)]))[0] is not None
    assert await lifecycle.finish(ground, [_end(attempt, 0)]) == [None]
    async with ground.database.begin() as session:
        charged = await session.scalar(text("SELECT charged FROM jobs WHERE id = :id"), {"id": attempt.id})
    assert charged == {"documents": 1}


async def hold_ends_once(ground: Ground) -> None:
    """A hold that is settled twice moves units once."""
    account, holder = await _account(ground), ids.new()
    async with ground.database.begin() as session:
        drawing = await ledger.lock(session, [(account, "documents")])
        drawing.hold(account.id, holder, {"documents": 2})
        await drawing.write(session)
        session.add(Job(id=holder, account_id=account.id, kind="chat", spec={}))
    told: list[dict[UUID, dict[str, int]]] = []
    for _ in range(2):
        async with ground.database.begin() as session:
            told.append(await ledger.settle(session, {holder: {"documents": 1}}))
    assert told == [{holder: {"documents": 1}}, {}]
    assert await _held(ground, account) == (0, 1)
    await _assert_even(ground)


async def zombie_ends_nothing(ground: Ground) -> None:
    """Who has lost a job to another attempt cannot end it."""
    account = await _account(ground)
    zombie, heir = await _lost(ground, account)
    assert await lifecycle.finish(ground, [_end(zombie)]) == [None]
    assert (await lifecycle.finish(ground, [_end(heir, 0)]))[0] is not None
    assert await _held(ground, account) == (0, 0)


async def zombie_keeps_nothing(ground: Ground) -> None:
    """Who has lost a job to another attempt cannot keep anything for it."""
    account = await _account(ground)
    zombie, _ = await _lost(ground, account)
    kept = Kept(job_id=zombie.id, attempt=zombie.attempt, used={"documents": 1})
    assert await lifecycle.keep(ground, [kept]) == ["lost"]
    async with ground.database.begin() as session:
        assert await session.scalar(text("SELECT checkpoint FROM jobs WHERE id = :id"), {"id": zombie.id}) is None


async def zombie_gives_nothing_back(ground: Ground) -> None:
    """Who has lost a job to another attempt cannot give it back."""
    account = await _account(ground)
    zombie, heir = await _lost(ground, account)
    back = Return(job_id=zombie.id, attempt=zombie.attempt, failed=True)
    assert await lifecycle.give_back(ground, [back]) == [False]
    assert (await lifecycle.finish(ground, [_end(heir)]))[0] is not None


async def _lost(ground: Ground, account: Account) -> tuple[Attempt, Attempt]:
    """Return an attempt that has lost its job, and the one that has it."""
    (zombie,) = await _running(ground, account)
    (heir,) = await lifecycle.claim(ground, [zombie.id])
    assert heir is not None
    return zombie, heir


async def ends_do_not_meet(ground: Ground) -> None:
    """Other jobs of an account that end at the same time are all charged."""
    account = await _account(ground)
    attempts = await _running(ground, account, 6)
    await asyncio.gather(*(lifecycle.finish(ground, [_end(each) for each in attempts[n::3]]) for n in range(3)))
    assert await _held(ground, account) == (0, len(attempts))
    await _assert_even(ground)


async def units_move_together(ground: Ground) -> None:
    """Holds and ends at the same time, with nothing to spare, lose no unit and meet no error."""
    account = await _account(ground)
    attempts = await _running(ground, account, _LIMIT)
    for _ in range(3):
        ends = [lifecycle.finish(ground, [_end(each, 0) for each in part]) for part in (attempts[::2], attempts[1::2])]
        flushes = [[asked(account, {"documents": 1}) for _ in range(_LIMIT)] for _ in range(2)]
        holding = [lifecycle.admit(ground, flush) for flush in flushes]
        _, _, *answers = await asyncio.gather(*ends, *holding)
        made = [answer.job.id for told in answers for answer in told if isinstance(answer, Submitted)]
        await _assert_even(ground)
        assert await _held(ground, account) == (len(made), 0)
        more = await lifecycle.admit(ground, [asked(account, {"documents": 1}) for _ in range(_LIMIT)])
        assert len(made) + len(_in(more)) == _LIMIT
        claimed = await lifecycle.claim(ground, [*made, *(answer.job.id for answer in _in(more))])
        attempts = [attempt for attempt in claimed if attempt is not None]
    await _assert_even(ground)
