"""Under which names jobs are known: Idempotency-Keys, unique keys, and failed jobs that were given another go."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.errors import PulseError
from infra.models import IdempotencyKey
from workers.lifecycle.submissions import Before, Submission
from workers.request import Request

#: A caller's key is remembered this long.
KEEP_KEYS = timedelta(hours=24)
# The same key on another route is another request.
_ROUTE = b"POST /v1/jobs\n"

#: A caller's name for something, and whose caller it is.
type Name = tuple[UUID, str]


class IdempotencyKeyReused(PulseError):
    """This Idempotency-Key was used for another request within the last 24 hours."""

    ar = "استُخدم مفتاح Idempotency-Key هذا لطلب آخر خلال الأربع والعشرين ساعة الماضية."
    status = 422


def fingerprint(request: Request) -> bytes:
    """Return what tells requests apart, however they were written."""
    return hashlib.sha256(_ROUTE + msgspec.json.encode(request, order="sorted")).digest()


def _key(asked: Submission) -> Name | None:
    return None if asked.idempotency_key is None else (asked.account.id, asked.idempotency_key)


def _unique(asked: Submission) -> Name | None:
    return None if asked.request.unique_key is None else (asked.account.id, asked.request.unique_key)


class Known:
    """What a transaction knows under the names of its submissions. Nobody else can add to it before that ends."""

    def __init__(self) -> None:
        """Know nothing."""
        self._keys: dict[Name, tuple[bytes, UUID]] = {}
        self._unique: dict[Name, UUID] = {}
        self._replays: dict[UUID, UUID] = {}

    @classmethod
    async def of(cls, session: AsyncSession, submissions: Sequence[Submission]) -> "Known":
        """Look up what submissions name.

        The locks come first: of two submissions with one key, the second sees what the first has kept.
        """
        known = cls()
        keys = [key for asked in submissions if (key := _key(asked)) is not None]
        uniques = [unique for asked in submissions if (unique := _unique(asked)) is not None]
        failed = [asked.replay_of for asked in submissions if asked.replay_of is not None]
        if failed:
            rows = await session.execute(_LOCK_FAILED, {"ids": failed})
            known._replays = {job_id: replayed_as for job_id, replayed_as in rows if replayed_as is not None}
        if keys or uniques:
            names = [f"key {account_id} {key}" for account_id, key in keys]
            names += [f"unique {account_id} {key}" for account_id, key in uniques]
            await session.execute(_LOCK_NAMES, {"names": names})
        if keys:
            await session.execute(_FORGET_EXPIRED, _columns(keys))
            rows = await session.execute(_FIND_KEYS, _columns(keys))
            known._keys = {(account_id, key): (print_, job_id) for account_id, key, print_, job_id in rows}
        if uniques:
            rows = await session.execute(_FIND_UNIQUE, _columns(uniques))
            known._unique = {(account_id, key): job_id for account_id, key, job_id in rows}
        return known

    def find(self, asked: Submission) -> tuple[UUID, Before] | None:
        """Return the job that is the answer already, if there is one. Raises `IdempotencyKeyReused`."""
        if (key := _key(asked)) in self._keys:
            kept, job_id = self._keys[key]
            if kept != fingerprint(asked.request):
                raise IdempotencyKeyReused(field="Idempotency-Key")
            return job_id, "replayed"
        if (unique := _unique(asked)) in self._unique:
            return self._unique[unique], "unique"
        if asked.replay_of is not None and asked.replay_of in self._replays:
            return self._replays[asked.replay_of], "replay"
        return None

    def add(self, asked: Submission, job_id: UUID) -> None:
        """Know the job of a submission from now on, for those behind it in the same transaction."""
        if (key := _key(asked)) is not None:
            self._keys[key] = (fingerprint(asked.request), job_id)
        if (unique := _unique(asked)) is not None:
            self._unique[unique] = job_id
        if asked.replay_of is not None:
            self._replays[asked.replay_of] = job_id


async def keep(session: AsyncSession, answered: Sequence[tuple[Submission, UUID]]) -> None:
    """Remember the keys of those who are answered with a job that was there already, where they are not known yet."""
    rows = [
        (*key, fingerprint(asked.request), job_id) for asked, job_id in answered if (key := _key(asked)) is not None
    ]
    if rows:
        columns = zip(("accounts", "keys", "fingerprints", "jobs"), map(list, zip(*rows, strict=True)), strict=True)
        await session.execute(_KEEP, {**dict(columns), "keep": KEEP_KEYS})


def _columns(names: Sequence[Name]) -> dict[str, list[object]]:
    return {"accounts": [account_id for account_id, _ in names], "keys": [key for _, key in names]}


_LOCK_NAMES = text("""
    SELECT pg_advisory_xact_lock(name) FROM (
        SELECT DISTINCT hashtextextended(n, 0) AS name FROM unnest(CAST(:names AS text[])) AS n ORDER BY 1
    ) AS sorted
""")
_LOCK_FAILED = text("""
    SELECT id, replayed_as FROM jobs WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE
""")
_THESE = "unnest(CAST(:accounts AS uuid[]), CAST(:keys AS text[])) AS n(account_id, key)"
_FORGET_EXPIRED = text(f"""
    DELETE FROM idempotency_keys k USING {_THESE}
    WHERE k.account_id = n.account_id AND k.key = n.key AND k.expires_at <= now()
""")  # noqa: S608 (a constant of this module)
_FIND_KEYS = text(
    f"SELECT account_id, key, fingerprint, subject_id FROM idempotency_keys JOIN {_THESE} USING (account_id, key)"  # noqa: S608
)
_KEEP = text("""
    INSERT INTO idempotency_keys (account_id, key, fingerprint, subject_id, expires_at)
    SELECT g.*, now() + CAST(:keep AS interval)
    FROM unnest(CAST(:accounts AS uuid[]), CAST(:keys AS text[]), CAST(:fingerprints AS bytea[]), CAST(:jobs AS uuid[]))
         AS g
    ON CONFLICT DO NOTHING
""")
_FIND_UNIQUE = text(f"SELECT account_id, key, job_id FROM unique_jobs JOIN {_THESE} USING (account_id, key)")  # noqa: S608


async def forget_keys(session: AsyncSession) -> None:
    """Delete the idempotency keys that are past their time."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.expires_at <= func.now()))
