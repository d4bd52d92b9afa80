"""The one call that admits jobs (`migrations/versions/0004_admit_jobs.sql`): what it is told, and what it answers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text

from infra.database import Database
from infra.errors import PulseError
from quotas import ledger
from workers.lifecycle.names import KEEP_KEYS, IdempotencyKeyReused
from workers.lifecycle.submissions import Before, Ready, Submitted


class PoolDraining(PulseError):
    """No new {kind} jobs are taken right now: the studio finishes what it has first. Please try again later."""

    ar = "لا تُقبل مهام جديدة من نوع {kind} الآن: يُنهي الاستوديو ما لديه أولًا. حاول لاحقًا."
    status = 503


class Known(Struct, frozen=True):
    """A job that was there before is the answer."""

    job_id: UUID
    how: Before


class Unopened(Struct, frozen=True):
    """The current period of one of the job's meters is not open yet."""


type Verdict = Submitted | PulseError | Known | Unopened

_TYPES = {
    "ids": "uuid[]",
    "accounts": "uuid[]",
    "sorts": "integer[]",
    "specs": "text[]",
    "labels": "text[]",
    "runs": "timestamptz[]",
    "start_bys": "timestamptz[]",
    "timeouts": "integer[]",
    "cancel_bys": "timestamptz[]",
    "webhooks": "text[]",
    "batches": "uuid[]",
    "refused": "boolean[]",
    "keys": "integer[]",
    "fingerprints": "bytea[]",
    "uniques": "integer[]",
    "replays": "integer[]",
    "kinds": "text[]",
    "pools": "text[]",
    "lanes": "text[]",
    "key_accounts": "uuid[]",
    "key_names": "text[]",
    "unique_accounts": "uuid[]",
    "unique_names": "text[]",
    "failed": "uuid[]",
    "meter_accounts": "uuid[]",
    "meters": "text[]",
    "need_jobs": "integer[]",
    "need_meters": "integer[]",
    "need_units": "bigint[]",
    "keep_keys": "interval",
}
_ADMIT = text(f"SELECT * FROM admit_jobs({', '.join(f'{n} => CAST(:{n} AS {t})' for n, t in _TYPES.items())})")  # noqa: S608


async def ask(database: Database, readies: Sequence[Ready]) -> list[Verdict]:
    """Admit jobs in their order, in one transaction and one round trip, and return how each was decided.

    Raises `DatabaseUnavailable`: then they may have been admitted, and are asked again as they are.
    """
    call = _Call(readies)
    (row,) = await database.ask(_ADMIT, call.rows() | call.names() | call.needs())
    return call.verdicts(*row)


class _Places[Value](dict[Value, int]):
    """Values, each once, by their place in an argument; the first is 1."""

    def of(self, value: Value) -> int:
        return self.setdefault(value, len(self) + 1)


class _Call:
    """Submissions in the order in which they are asked, and the meters that they draw on."""

    def __init__(self, readies: Sequence[Ready]) -> None:
        self._readies = readies
        self._meters = _Places[tuple[UUID, str]]()
        self._drawn = [
            {meter: self._meters.of((ready.job.account_id, meter)) for meter in ready.most} for ready in readies
        ]

    def rows(self) -> dict[str, object]:
        """Return what the jobs' rows keep."""
        readies, jobs = self._readies, [ready.job for ready in self._readies]
        sorts = _Places[tuple[str, str, str]]()
        return {
            "ids": [job.id for job in jobs],
            "accounts": [job.account_id for job in jobs],
            "sorts": [sorts.of((ready.job.kind, ready.pool, ready.job.lane)) for ready in readies],
            "specs": [ready.spec for ready in readies],
            "labels": _some([ready.labels for ready in readies]),
            "runs": _some([None if job.run_at is job.created_at else job.run_at for job in jobs]),
            "start_bys": _some([job.start_by for job in jobs]),
            "timeouts": _some([job.timeout_s for job in jobs]),
            "cancel_bys": _some([job.cancel_by for job in jobs]),
            "webhooks": _some([job.webhook for job in jobs]),
            "batches": _some([job.batch_id for job in jobs]),
            "refused": _some([None if ready.refusal is None else True for ready in readies]),
            "kinds": [kind for kind, _, _ in sorts],
            "pools": [pool for _, pool, _ in sorts],
            "lanes": [lane for _, _, lane in sorts],
        }

    def names(self) -> dict[str, object]:
        """Return under which names the jobs are looked up and kept."""
        keys, uniques = _Places[tuple[UUID, str]](), _Places[tuple[UUID, str]]()
        failed = _Places[UUID]()
        asked, jobs = [ready.asked for ready in self._readies], [ready.job for ready in self._readies]
        return {
            "keys": _some([(key := it.idempotency_key) and keys.of((it.account.id, key)) for it in asked]),
            "fingerprints": _some([ready.print for ready in self._readies]),
            "uniques": _some([(key := job.unique_key) and uniques.of((job.account_id, key)) for job in jobs]),
            "replays": _some([job.replay_of and failed.of(job.replay_of) for job in jobs]),
            "key_accounts": [account_id for account_id, _ in keys],
            "key_names": [key for _, key in keys],
            "unique_accounts": [account_id for account_id, _ in uniques],
            "unique_names": [key for _, key in uniques],
            "failed": list(failed),
            "keep_keys": KEEP_KEYS,
        }

    def needs(self) -> dict[str, object]:
        """Return what the jobs hold."""
        needs = [
            (place, meters[meter], units)
            for place, (ready, meters) in enumerate(zip(self._readies, self._drawn, strict=True), 1)
            for meter, units in ready.most.items()
            if units > 0
        ]
        return {
            "meter_accounts": [account_id for account_id, _ in self._meters],
            "meters": [meter for _, meter in self._meters],
            "need_jobs": [place for place, _, _ in needs],
            "need_meters": [meter for _, meter, _ in needs],
            "need_units": [units for _, _, units in needs],
        }

    def verdicts(self, statuses: list[str], answers: list[UUID], *columns: Any) -> list[Verdict]:
        """Return how each submission was decided, from the call's row."""
        filled: list[Sequence[Any]] = [column or () for column in columns]  # null where there is nothing to tell
        lacking, remaining, limits, spent, held, ends, *crossed = filled
        standings = list(map(_standing, limits, spent, held, ends))
        codes = [meter for _, meter in self._meters]
        crossings: dict[int, list[ledger.Crossing]] = {}
        job: int
        meter: int
        for job, meter, percent in zip(*crossed, strict=True):
            crossings.setdefault(job - 1, []).append(ledger.Crossing(codes[meter - 1], percent))
        told: list[Verdict] = []
        for n, (ready, status) in enumerate(zip(self._readies, statuses, strict=True)):
            if status == "admitted":
                quota = {meter: standings[place - 1] for meter, place in self._drawn[n].items()}
                told.append(Submitted(job=ready.job, quota=quota, crossings=crossings.get(n, ())))
            elif status == "denied":
                place: int = lacking[n] - 1
                told.append(_denial(ready, codes[place], remaining[n], standings[place]))
            else:
                told.append(_otherwise(ready, status, answers[n]))
        return told


def _some(column: list[Any]) -> list[Any]:
    """Return a column, empty where it is all nulls: each of them would have to be encoded."""
    return column if column.count(None) < len(column) else []


def _standing(limit: int | None, used: int | None, held: int | None, resets_at: datetime | None) -> ledger.Standing:
    """Return how a meter stands; one whose period is not open yet has nothing."""
    limit, used, held = limit or 0, used or 0, held or 0
    return ledger.Standing(limit=limit, used=used, held=held, remaining=limit - used - held, resets_at=resets_at)


def _denial(ready: Ready, meter: str, remaining: int, standing: ledger.Standing) -> PulseError:
    return ledger.refusal(meter, needed=ready.most[meter], remaining=remaining, resets_at=standing.resets_at)


def _otherwise(ready: Ready, status: str, answer: UUID) -> Verdict:
    match status:
        case "replayed" | "unique" | "replay":
            return Known(answer, status)
        case "conflict":
            return IdempotencyKeyReused(field="Idempotency-Key")
        case "no_balance":
            return Unopened()
        case "draining" if ready.refusal is None:
            return PoolDraining(kind=ready.job.kind)
        case _:
            assert ready.refusal is not None, status
            return ready.refusal
