"""How many unfinished jobs an account may have, counted without asking the database for every one."""

from collections import Counter
from collections.abc import Callable, Sequence
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import text

from infra.database import Database
from infra.errors import PulseError
from workers.lifecycle.submissions import Ready, Submitted

# Seconds after which an account may be counted anew: one that is full, and one that has taken its share of the room;
# and after which any is.
_FULL_S = 0.5
_SOONEST_S = 0.1
_LATEST_S = 10.0
# An account may take this part of its room before it is counted anew.
_SHARE = 4
_MOST_KNOWN = 50_000


class TooManyQueued(PulseError):
    """You have {limit} jobs that are not finished, which is the most. Wait until some are over, or cancel them."""

    ar = "لديك {limit} مهمة لم تنتهِ بعد وهو الحد الأقصى. انتظر انتهاء بعضها أو ألغِها."
    status = 429


class _Room(Struct):
    """How many more jobs an account may have, by its last count and what was taken since, and for how many that holds.

    The part that holds is what several processes may take at once without counting.
    """

    left: int
    trusted: int
    counted_at: float


class Backlog:
    """What one process knows of its accounts' unfinished jobs.

    An account is counted when this process first hears of it, after every quarter of the room that it had then (ten
    times a second at most), every ten seconds, and before it is refused (a full one twice a second at most); in between
    nothing is asked. One process alone never passes the limit. Of several, each may pass it by a quarter of the room
    that it saw at its last count, which is ten seconds old at most: with a limit of 20,000 by 5,000 in the worst case,
    when an idle account floods all of them at once; near its limit, by what they take in a tenth of a second.
    """

    def __init__(self, database: Database, limit: int, clock: Callable[[], float]) -> None:
        """Let every account have `limit` unfinished jobs; `clock` tells seconds."""
        self._database = database
        self._clock = clock
        self._rooms: dict[UUID, _Room] = {}
        self._limit = limit
        self._refusal = TooManyQueued(limit=limit)

    async def within(self, readies: Sequence[Ready]) -> list[Ready]:
        """Take the places of new jobs, in their order; those for which there is none get `TooManyQueued`."""
        await self._look([ready.job.account_id for ready in readies])
        return [ready if self._take(ready) else replace(ready, refusal=self._refusal) for ready in readies]

    def settle(self, readies: Sequence[Ready], answers: Sequence[object]) -> None:
        """Give the places back of what was refused, or was there before."""
        for ready, answer in zip(readies, answers, strict=True):
            if ready.refusal is None and not (isinstance(answer, Submitted) and answer.known is None):
                room = self._rooms[ready.job.account_id]
                room.left += 1
                room.trusted += 1

    def has_room(self, ready: Ready) -> bool:
        """Tell whether there is a place for one more job of that account."""
        return self._rooms[ready.job.account_id].left > 0

    def forget(self, readies: Sequence[Ready]) -> None:
        """Count the accounts anew before their next jobs: what became of these is not known."""
        for ready in readies:
            self._rooms.pop(ready.job.account_id, None)

    async def _look(self, account_ids: Sequence[UUID]) -> None:
        now = self._clock()
        wanted = Counter(account_ids)
        unsure = [account_id for account_id, many in wanted.items() if self._is_unsure(account_id, many, now)]
        if not unsure:
            return
        if len(self._rooms) > _MOST_KNOWN:
            self._rooms = {key: room for key, room in self._rooms.items() if now - room.counted_at < _LATEST_S}
        for account_id, many in await self._database.ask(_COUNT, {"accounts": unsure, "limit": self._limit}):
            left = self._limit - many
            self._rooms[account_id] = _Room(left=left, trusted=left // _SHARE, counted_at=now)

    def _is_unsure(self, account_id: UUID, many: int, now: float) -> bool:
        room = self._rooms.get(account_id)
        if room is None or now - room.counted_at >= _LATEST_S:
            return True
        return many > room.trusted and now - room.counted_at >= (_FULL_S if room.left < many else _SOONEST_S)

    def _take(self, ready: Ready) -> bool:
        room = self._rooms[ready.job.account_id]
        if ready.refusal is None:
            if room.left <= 0:
                return False
            room.left -= 1
            room.trusted -= 1
        return True


_COUNT = text("""
    SELECT a.id, (
        SELECT count(*) FROM (
            SELECT FROM jobs j WHERE j.account_id = a.id AND j.finished_at IS NULL LIMIT :limit
        ) AS unfinished
    ) FROM unnest(CAST(:accounts AS uuid[])) a(id)
""")
