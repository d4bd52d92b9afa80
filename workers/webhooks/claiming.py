"""Which deliveries a process takes up: those that are due, fairly between accounts, and none too many to one address.

One that was claimed is due again when its lease runs out, so that what a dead process had is sent by another. How often
it was claimed is its fencing token.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.ground import Ground
from infra.seal import Seal
from workers.webhooks import schedule, secrets
from workers.webhooks.signing import Key

#: Deliveries to one endpoint, or to all the addresses that one account gave with jobs, that a process has under way.
MOST_OF_ONE = 8
_WINDOW = 500
_SHORTEST_MARGIN_S = 2.0


class Claimed(Struct, frozen=True, kw_only=True):
    """A delivery that is ours for a while; `failures` are its tries until now of which we know how they ended.

    It is `old` where it has waited for as long as makes it count that it fails (`schedule.OLD`).
    `pauses` and `troubled` are of its endpoint: how often in a row it asked for less, and whether it has failed since
    it last took something.
    """

    id: UUID
    message_id: UUID
    account_id: UUID
    endpoint_id: UUID | None
    url: str
    body: str
    tries: int
    failures: int
    old: bool = False
    pauses: int = 0
    troubled: bool = False

    @property
    def target(self) -> UUID:
        """Who signs it, and is counted: the endpoint, or the account for addresses of its own."""
        return self.endpoint_id or self.account_id

    @property
    def most(self) -> int:
        """How many to its target may be under way: one where it is still to show that it takes any."""
        return 1 if self.pauses else MOST_OF_ONE


class Claims(Struct, frozen=True, kw_only=True):
    """What was claimed, and the keys of its targets. `stirred`: there was something to do, so there may be more."""

    deliveries: Sequence[Claimed] = ()
    keys: dict[UUID, Sequence[Key]] = {}
    stirred: bool = False


class Due(Struct, frozen=True, kw_only=True):
    """A delivery that could be claimed; one that is `dead` has no endpoint any more that would take it."""

    id: UUID
    account_id: UUID
    target: UUID
    pauses: int
    dead: bool


# It goes from target to target by the index, and of each looks at no more than it could have: whatever waits for one
# that is full or paused costs nobody anything.
_DUE = text("""
    WITH RECURSIVE waiting AS (
        (SELECT coalesce(endpoint_id, account_id) AS target FROM webhook_deliveries
         WHERE state = 'pending' ORDER BY coalesce(endpoint_id, account_id) LIMIT 1)
        UNION ALL
        SELECT (SELECT coalesce(d.endpoint_id, d.account_id) FROM webhook_deliveries d
                WHERE d.state = 'pending' AND coalesce(d.endpoint_id, d.account_id) > w.target
                ORDER BY coalesce(d.endpoint_id, d.account_id) LIMIT 1)
        FROM waiting w WHERE w.target IS NOT NULL
    )
    SELECT d.id, d.account_id, w.target, coalesce(e.pauses, 0) AS pauses,
           d.endpoint_id IS NOT NULL AND (e.id IS NULL OR e.disabled_at IS NOT NULL) AS dead
    FROM waiting w LEFT JOIN webhook_endpoints e ON e.id = w.target
    CROSS JOIN LATERAL (
        SELECT id, account_id, endpoint_id, next_at FROM webhook_deliveries
        WHERE state = 'pending' AND coalesce(endpoint_id, account_id) = w.target AND next_at <= now()
        ORDER BY next_at LIMIT :most
    ) d
    WHERE w.target <> ALL(CAST(:full AS uuid[])) AND d.account_id <> ALL(CAST(:full_accounts AS uuid[]))
          AND (e.paused_until IS NULL OR e.paused_until <= now() OR e.disabled_at IS NOT NULL)
    ORDER BY d.next_at LIMIT :window
""")
# An endpoint that moved while its message was handed over is found where it is now.
_CLAIM = text("""
    WITH mine AS MATERIALIZED (
        SELECT id FROM webhook_deliveries
        WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'pending' AND next_at <= now()
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ), claiming AS (
        UPDATE webhook_deliveries d
        SET tries = d.tries + 1, next_at = now() + make_interval(secs => CAST(:lease_s AS double precision)),
            url = coalesce((SELECT e.url FROM webhook_endpoints e WHERE e.id = d.endpoint_id), d.url)
        FROM mine WHERE d.id = mine.id AND d.id = ANY(CAST(:ids AS uuid[]))
        RETURNING d.id, d.message_id, d.account_id, d.endpoint_id, d.url, d.body, d.tries,
                  jsonb_array_length(d.log) AS failures, d.created_at < now() - CAST(:old AS interval) AS old
    )
    SELECT c.*, coalesce(e.pauses, 0) AS pauses,
           coalesce(e.pauses > 0 OR e.failing_since IS NOT NULL, false) AS troubled
    FROM claiming c LEFT JOIN webhook_endpoints e ON e.id = c.endpoint_id
""")
_CANCEL = text("""
    WITH mine AS MATERIALIZED (
        SELECT id FROM webhook_deliveries
        WHERE coalesce(endpoint_id, account_id) = ANY(CAST(:targets AS uuid[])) AND state = 'pending'
              AND next_at <= now()
        LIMIT :window FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE webhook_deliveries d SET state = 'canceled', finished_at = now() FROM mine WHERE d.id = mine.id
""")


def lease_s(timeout_s: float) -> float:
    """Return the seconds after which a try is taken to have died, of one that has `timeout_s` for its answer."""
    return timeout_s + max(_SHORTEST_MARGIN_S, timeout_s / 2)


async def claim(ground: Ground, seal: Seal, under_way: Collection[Claimed], slots: int) -> Claims:
    """Claim what is due, so that with `under_way` there are at most `slots`; cancel what nobody is there for."""
    of_account = most_of_account(slots)
    async with ground.database.begin() as session:
        rows = await session.execute(
            _DUE,
            {
                "full": list(_full(under_way)),
                "full_accounts": [each for each, count in _by_account(under_way).items() if count >= of_account],
                "most": MOST_OF_ONE,
                "window": _WINDOW,
            },
        )
        due = [Due(**row) for row in rows.mappings()]
        dead = {each.target for each in due if each.dead}
        if dead:
            await session.execute(_CANCEL, {"targets": list(dead), "window": _WINDOW})
        chosen = choose([each for each in due if not each.dead], under_way, slots)
        return await _claim(ground, session, seal, chosen) if chosen else Claims(stirred=bool(dead))


async def _claim(ground: Ground, session: AsyncSession, seal: Seal, chosen: Sequence[UUID]) -> Claims:
    given = {"ids": chosen, "lease_s": lease_s(ground.settings.webhook_timeout_s), "old": schedule.OLD}
    claimed = [Claimed(**row) for row in (await session.execute(_CLAIM, given)).mappings()]
    for account_id in {each.account_id for each in claimed if each.endpoint_id is None}:
        await secrets.ensure(session, seal, account_id)
    keys = await secrets.living(session, seal, {each.target for each in claimed})
    return Claims(deliveries=claimed, keys=keys, stirred=True)


def most_of_account(slots: int) -> int:
    """Return how many deliveries of one account a process has under way: others always find a free slot soon."""
    return max(1, slots // 3)


def choose(due: Iterable[Due], under_way: Iterable[Claimed], slots: int) -> list[UUID]:
    """Return which of `due` (oldest first) to take up: accounts take turns, and in each its endpoints do.

    Who has more under way has its turn later.
    """
    under_way = list(under_way)
    targets, fitting = Counter(each.target for each in under_way), list[tuple[int, Due]]()
    for each in due:
        if targets[each.target] < (1 if each.pauses else MOST_OF_ONE):
            fitting.append((targets[each.target], each))
            targets[each.target] += 1
    accounts, turns = _by_account(under_way), list[tuple[int, Due]]()
    for _, each in sorted(fitting, key=_turn):
        turns.append((accounts[each.account_id], each))
        accounts[each.account_id] += 1
    of_account = most_of_account(slots)
    return [each.id for turn, each in sorted(turns, key=_turn) if turn < of_account][: slots - len(under_way)]


def _turn(each: tuple[int, Due]) -> int:
    return each[0]


def _by_account(under_way: Iterable[Claimed]) -> Counter[UUID]:
    return Counter(each.account_id for each in under_way)


def _full(under_way: Collection[Claimed]) -> set[UUID]:
    counts = Counter(each.target for each in under_way)
    return {each.target for each in under_way if counts[each.target] >= each.most}
