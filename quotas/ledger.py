"""The only code that moves units: hold before the work, settle or void with its end; every move is a ledger entry.

All functions work inside the caller's transaction, so that units move together with the rows of their holders (jobs,
files, batches) or not at all, and each works for many at once. Locks are always taken on balances first, in id order,
and everything else is looked at after that: a decision made on what was read before the lock would be made on a stale
snapshot. What is settled on a level meter stays used until it is released.

What jobs hold moves together with their rows: by one call of the database's own function `admit_jobs`, which does as
`Drawing` does (it stands in `migrations/versions/0004_admit_jobs.sql`, and `workers/lifecycle/admission.py` calls it),
or by `DRAWING` from what their batch holds (`workers/lifecycle/drawing.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import func, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.errors import PulseError
from infra.models import Account, Balance, Hold, LedgerEntry
from quotas import plans, spend

# What is granted where a hold speaks of a cap that is set no more, such as that of a batch read before.
_UNCAPPED = 10**15


class QuotaExceeded(PulseError):
    """Your plan does not have enough {name_en} left: this needs up to {needed} and {remaining} remain."""

    ar = "لا يتبقى في باقتك ما يكفي من {name_ar}: يحتاج هذا الطلب إلى {needed} كحد أقصى والمتبقي {remaining}."
    status = 402
    hidden = frozenset({"name_en", "name_ar"})


class SpendCapReached(QuotaExceeded):
    """Today's cap of what this account may cost is near: this needs up to {needed} microdollars, {remaining} remain."""

    ar = "يقترب هذا الحساب من سقف تكلفته اليوم: يحتاج الطلب إلى {needed} ميكرودولار كحد أقصى والمتبقي {remaining}."


class Standing(Struct, frozen=True, kw_only=True):
    """How one meter stands, in units; `resets_at` is empty for a level meter."""

    limit: int
    used: int
    held: int
    remaining: int
    resets_at: datetime | None


class Crossing(Struct, frozen=True):
    """A meter went past 80 % (warned) or to 100 % (stopped) of its grant, for the first time in its period."""

    meter: str
    percent: Literal[80, 100]


class _Counter(Struct, kw_only=True):
    """A locked balance, as it will be written."""

    id: UUID
    account_id: UUID
    meter: str
    period_end: datetime | None
    granted: int
    held: int
    used: int
    warned: bool
    stopped: bool
    touched: bool = False

    @property
    def remaining(self) -> int:
        return self.granted - self.used - self.held

    @property
    def standing(self) -> Standing:
        return Standing(
            limit=self.granted,
            used=self.used,
            held=self.held,
            remaining=self.remaining,
            resets_at=self.period_end,
        )

    def refusal(self, amount: int) -> QuotaExceeded:
        return refusal(self.meter, needed=amount, remaining=self.remaining, resets_at=self.period_end)

    def take(self, amount: int) -> list[Crossing]:
        self.held, self.touched = self.held + amount, True
        taken, crossings = self.held + self.used, list[Crossing]()
        if not self.warned and taken * 100 >= self.granted * 80:
            self.warned = True
            crossings.append(Crossing(self.meter, 80))
        if not self.stopped and taken >= self.granted:
            self.stopped = True
            crossings.append(Crossing(self.meter, 100))
        return crossings


class Drawing:
    """The balances that a transaction has locked, and what it draws on them; nothing is kept before `write`."""

    def __init__(self, counters: Iterable[_Counter]) -> None:
        """Draw on `counters`."""
        self._counters = {(counter.account_id, counter.meter): counter for counter in counters}
        self._holds: list[tuple[UUID, _Counter, int]] = []

    def standing(self, account_id: UUID, meter: str) -> Standing:
        """Return how a locked balance stands, with everything drawn until now."""
        return self._counters[account_id, meter].standing

    def hold(self, account_id: UUID, holder_id: UUID, units: Mapping[str, int]) -> list[Crossing]:
        """Set `units` (per meter) aside for a job or a file: all of its meters, or none.

        Returns the thresholds that were crossed. Raises `QuotaExceeded` for the first meter that does not fit.
        """
        wanted = [(self._counters[account_id, meter], amount) for meter, amount in units.items() if amount > 0]
        for counter, amount in wanted:
            if amount > counter.remaining:
                raise counter.refusal(amount)
        self._holds += [(holder_id, counter, amount) for counter, amount in wanted]
        return [crossing for counter, amount in wanted for crossing in counter.take(amount)]

    async def write(self, session: AsyncSession) -> None:
        """Keep everything that was drawn, in one statement."""
        if not self._holds:
            return
        touched = [counter for counter in self._counters.values() if counter.touched]
        await session.execute(
            _HOLD,
            {
                "holders": [holder_id for holder_id, _, _ in self._holds],
                "meters": [counter.meter for _, counter, _ in self._holds],
                "accounts": [counter.account_id for _, counter, _ in self._holds],
                "balances": [counter.id for _, counter, _ in self._holds],
                "units": [amount for _, _, amount in self._holds],
                "ids": [counter.id for counter in touched],
                "held": [counter.held for counter in touched],
                "warned": [counter.warned for counter in touched],
                "stopped": [counter.stopped for counter in touched],
            },
        )
        self._holds = []


def refusal(meter: str, *, needed: int, remaining: int, resets_at: datetime | None) -> QuotaExceeded:
    """Return the fact that a meter does not have what is needed."""
    if meter == spend.METER:
        return SpendCapReached(meter=meter, needed=needed, remaining=remaining, resets_at=resets_at)
    name = plans.load().meters[meter]
    return QuotaExceeded(
        meter=meter,
        needed=needed,
        remaining=remaining,
        resets_at=resets_at,
        name_en=name.en,
        name_ar=name.ar,
    )


_HOLD = text("""
    WITH given AS (
        SELECT * FROM unnest(CAST(:holders AS uuid[]), CAST(:meters AS text[]), CAST(:accounts AS uuid[]),
                             CAST(:balances AS uuid[]), CAST(:units AS bigint[]))
                      AS g(holder_id, meter, account_id, balance_id, units)
    ), holding AS (
        INSERT INTO holds (holder_id, meter, account_id, balance_id, units)
        SELECT holder_id, meter, account_id, balance_id, units FROM given
    ), entering AS (
        INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, held, holder_id)
        SELECT uuidv7(), account_id, balance_id, meter, 'hold', units, holder_id FROM given
    )
    UPDATE balances b
    SET held = n.held,
        warned_at = CASE WHEN n.warned THEN coalesce(b.warned_at, now()) END,
        stopped_at = CASE WHEN n.stopped THEN coalesce(b.stopped_at, now()) END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:held AS bigint[]), CAST(:warned AS boolean[]), CAST(:stopped AS boolean[]))
         AS n(id, held, warned, stopped)
    WHERE b.id = n.id
""")

_LOCK = text("""
    SELECT b.id, b.account_id, b.meter, b.period_end, b.granted, b.held, b.used,
           b.warned_at IS NOT NULL, b.stopped_at IS NOT NULL
    FROM balances b
    JOIN unnest(CAST(:accounts AS uuid[]), CAST(:meters AS text[])) AS w(account_id, meter) USING (account_id, meter)
    WHERE b.period_start <= now() AND (b.period_end IS NULL OR b.period_end > now())
    ORDER BY b.id
    FOR NO KEY UPDATE OF b
""")


async def lock(
    session: AsyncSession, wanted: Iterable[tuple[Account, str]], caps: Mapping[str, int] | None = None
) -> Drawing:
    """Lock the current balances of `wanted` accounts' meters, opening a period (with its grant) where it is new.

    `caps` are what is granted a day on daily meters (`spend.caps`); one without a cap has no limit.
    A transaction locks once: a second call could meet another transaction that waits for the first one's balances.
    """
    pairs = {(account.id, meter): account for account, meter in wanted}
    found = await _lock_current(session, pairs)
    missing = pairs.keys() - {(counter.account_id, counter.meter) for counter in found}
    if missing:
        await open_periods(session, [(pairs[pair], pair[1]) for pair in missing], caps)
        found = await _lock_current(session, pairs)
    return Drawing(found)


async def open_periods(
    session: AsyncSession, wanted: Iterable[tuple[Account, str]], caps: Mapping[str, int] | None = None
) -> None:
    """Open the current period of accounts' meters, each with what its plan or cap grants, where it is not open yet."""
    now = (await session.scalars(select(func.now()))).one()  # as the locks see it, whatever our own clock says
    for account, meter in sorted(wanted, key=lambda pair: (pair[0].id, pair[1])):
        await _open_period(session, account, meter, now, caps or {})


async def _lock_current(session: AsyncSession, pairs: Iterable[tuple[UUID, str]]) -> list[_Counter]:
    accounts, meters = [account_id for account_id, _ in pairs], [meter for _, meter in pairs]
    if not accounts:
        return []
    rows = await session.execute(_LOCK, {"accounts": accounts, "meters": meters})
    return [
        _Counter(
            id=balance_id,
            account_id=account_id,
            meter=meter,
            period_end=period_end,
            granted=granted,
            held=held,
            used=used,
            warned=warned,
            stopped=stopped,
        )
        for balance_id, account_id, meter, period_end, granted, held, used, warned, stopped in rows
    ]


async def standings(session: AsyncSession, pairs: Iterable[tuple[UUID, str]]) -> dict[tuple[UUID, str], Standing]:
    """Return how accounts' meters stand now, without locking them; a meter whose period is not open is left out."""
    now = datetime.now(UTC)
    found = await session.scalars(
        select(Balance).where(
            tuple_(Balance.account_id, Balance.meter).in_(list(pairs)),
            Balance.period_start <= now,
            or_(Balance.period_end.is_(None), Balance.period_end > now),
        )
    )
    return {
        (row.account_id, row.meter): Standing(
            limit=row.granted,
            used=row.used,
            held=row.held,
            remaining=row.granted - row.used - row.held,
            resets_at=row.period_end,
        )
        for row in found
    }


async def held(session: AsyncSession, holder_id: UUID) -> dict[str, int]:
    """Return what an open hold has set aside, in units per meter."""
    found = select(Hold.meter, Hold.units - Hold.drawn).where(Hold.holder_id == holder_id, Hold.state == "held")
    return dict((await session.execute(found)).all())


async def _open_period(
    session: AsyncSession, account: Account, meter: str, now: datetime, caps: Mapping[str, int]
) -> None:
    start, end, granted, reason = _grant(account, meter, now, caps)
    opened = await session.scalar(
        insert(Balance)
        .values(id=ids.new(), account_id=account.id, meter=meter, period_start=start, period_end=end, granted=granted)
        .on_conflict_do_nothing()  # another request opened it meanwhile
        .returning(Balance.id)
    )
    if opened is not None:
        session.add(
            LedgerEntry(
                id=ids.new(),
                account_id=account.id,
                balance_id=opened,
                meter=meter,
                kind="grant",
                granted=granted,
                reason=reason,
            )
        )
        await session.flush()


def _grant(
    account: Account, meter: str, now: datetime, caps: Mapping[str, int]
) -> tuple[datetime, datetime | None, int, str]:
    """Return the start and end of a meter's current period, what is granted for it, and by what."""
    catalog = plans.load()
    if catalog.meters[meter].daily:
        return *plans.day_of(now), caps.get(meter, _UNCAPPED), "cap"
    start, end = plans.month_of(now, account.created_at) if catalog.meters[meter].resets else (account.created_at, None)
    return start, end, catalog.plans[account.plan].units.get(meter, 0), f"plan:{account.plan}"


_FOLLOW = text("""
    WITH locked_balances AS MATERIALIZED (
        SELECT id, account_id, meter, granted, held, used, greatest(CAST(:cap AS bigint), held + used) AS wanted
        FROM balances
        WHERE meter = CAST(:meter AS text) AND period_end > now() ORDER BY id FOR NO KEY UPDATE
    ), changed AS (
        SELECT * FROM locked_balances WHERE granted <> wanted
    ), moving AS (
        UPDATE balances b
        SET granted = c.wanted, held = c.held, used = c.used,
            warned_at = CASE WHEN (c.held + c.used) * 100 >= c.wanted * 80 THEN b.warned_at END,
            stopped_at = CASE WHEN c.held + c.used >= c.wanted THEN b.stopped_at END
        FROM changed c WHERE b.id = c.id
    ), entering AS (
        INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, granted, reason)
        SELECT uuidv7(), account_id, id, meter, 'grant', wanted - granted, 'cap' FROM changed
    )
    SELECT count(*) FROM changed
""")


async def follow(session: AsyncSession, caps: Mapping[str, int]) -> int:
    """Bring the days that are open to what `caps` grant now; returns how many were granted otherwise.

    A cap that is lowered below what is taken already leaves that, and nothing more.
    """
    told = [await session.execute(_FOLLOW, {"meter": meter, "cap": cap}) for meter, cap in caps.items()]
    return sum(rows.scalar_one() for rows in told)


#: Ends holds, as parts of a larger statement: before them it has `over(holder_id, used)`, `used` a JSON object of units
#: per meter (or NULL); after them, `charges(holder_id, charged)` says what each of those that had a hold was charged.
#: What exceeds a hold is overage, what was drawn from it is others' to end. A level meter that is below a threshold
#: again warns anew. The new counts are made from the locked rows alone: PostgreSQL would check a balance against the
#: snapshot's older counts otherwise, and refuse what fits.
SETTLING = """
    open_holds AS MATERIALIZED (
        SELECT h.holder_id, h.meter, h.account_id, h.balance_id, w.units, w.wanted, least(w.wanted, w.units) AS taken
        FROM over JOIN holds h USING (holder_id),
             LATERAL (SELECT coalesce((over.used ->> h.meter)::bigint, 0) AS wanted, h.units - h.drawn AS units) w
        WHERE h.state = 'held'
    ), sums AS (
        SELECT balance_id, sum(units) AS units, sum(taken) AS taken, sum(wanted - taken) AS overage
        FROM open_holds GROUP BY balance_id
    ), locked_balances AS MATERIALIZED (
        SELECT id, granted, held, used, overage, period_end IS NULL AS is_level FROM balances
        WHERE id IN (SELECT balance_id FROM sums) ORDER BY id FOR NO KEY UPDATE
    ), moving AS (
        UPDATE balances b
        SET held = l.held - s.units, used = l.used + s.taken, overage = l.overage + s.overage,
            warned_at = CASE WHEN l.is_level AND (l.held - s.units + l.used + s.taken) * 100 < l.granted * 80
                             THEN NULL ELSE b.warned_at END,
            stopped_at = CASE WHEN l.is_level AND l.held - s.units + l.used + s.taken < l.granted
                              THEN NULL ELSE b.stopped_at END
        FROM locked_balances l JOIN sums s ON s.balance_id = l.id
        WHERE b.id = l.id
    ), resolving AS (
        UPDATE holds h
        SET settled = o.taken, state = CASE WHEN o.taken > 0 THEN 'settled' ELSE 'voided' END, resolved_at = now()
        FROM open_holds o WHERE h.holder_id = o.holder_id AND h.meter = o.meter AND h.state = 'held'
    ), entering AS (
        INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, held, used, overage, holder_id)
        SELECT uuidv7(), account_id, balance_id, meter, CASE WHEN wanted > 0 THEN 'settle' ELSE 'void' END,
               -units, taken, wanted - taken, holder_id
        FROM open_holds
    ), charges AS (
        SELECT holder_id, jsonb_object_agg(meter, taken) AS charged FROM open_holds GROUP BY holder_id
    )
"""


_SETTLE = text(f"""
    WITH over AS (
        SELECT holder_id, CAST(used AS jsonb) AS used
        FROM unnest(CAST(:holders AS uuid[]), CAST(:used AS text[])) AS o(holder_id, used)
    ), {SETTLING}
    SELECT holder_id, charged FROM charges
""")  # noqa: S608 (a constant of this module)


async def settle(session: AsyncSession, used: Mapping[UUID, Mapping[str, int]]) -> dict[UUID, dict[str, int]]:
    """End the holds of holders that are not jobs (those end with `lifecycle.finish`); nothing used voids them.

    Returns what each was charged per meter; one whose hold is over already is left out.
    """
    columns = {"holders": list(used), "used": [encoded(units) for units in used.values()]}
    rows = await session.execute(_SETTLE, columns)
    return {row.holder_id: row.charged for row in rows}


# Below the threshold again, a level meter warns anew the next time that it is crossed.
_RELEASE = text("""
    WITH kept AS MATERIALIZED (
        SELECT holder_id, meter, account_id, balance_id, settled FROM holds
        WHERE holder_id = ANY(CAST(:holders AS uuid[])) AND meter = ANY(CAST(:meters AS text[])) AND state = 'settled'
    ), sums AS (
        SELECT balance_id, sum(settled) AS units FROM kept GROUP BY balance_id
    ), locked_balances AS MATERIALIZED (
        SELECT id, granted, held, used, warned_at, stopped_at FROM balances WHERE id IN (SELECT balance_id FROM sums)
        ORDER BY id FOR NO KEY UPDATE
    ), releasing AS (
        UPDATE holds h SET state = 'released'
        FROM kept k, locked_balances WHERE h.holder_id = k.holder_id AND h.meter = k.meter AND h.state = 'settled'
        RETURNING h.balance_id, h.holder_id, h.account_id, h.meter, h.settled
    ), moving AS (
        UPDATE balances b
        SET used = l.used - s.units,
            warned_at = CASE WHEN (l.held + l.used - s.units) * 100 >= l.granted * 80 THEN l.warned_at END,
            stopped_at = CASE WHEN l.held + l.used - s.units >= l.granted THEN l.stopped_at END
        FROM locked_balances l JOIN sums s ON s.balance_id = l.id
        WHERE b.id = l.id
    )
    INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, used, holder_id)
    SELECT uuidv7(), account_id, balance_id, meter, 'release', -settled, holder_id FROM kept
""")


async def release(session: AsyncSession, holder_ids: Sequence[UUID]) -> None:
    """Give back what was settled for `holder_ids` on level meters, because it is not kept any more.

    The caller holds the locks on the holders' own rows: nobody else may release them at the same time.
    """
    meters = [code for code, meter in plans.load().meters.items() if not meter.resets]
    await session.execute(_RELEASE, {"holders": list(holder_ids), "meters": meters})


#: Moves units from the open hold of `:source` to holds of others, as parts of a larger statement: before them it has
#: `drawers(holder_id, units)`, `units` a JSON object of units per meter; after them `undrawn(meter)` names what there
#: is no hold of. No balance changes: what one held, others hold. That the hold has enough, its own constraint says.
DRAWING = """
    needs AS MATERIALIZED (
        SELECT d.holder_id, u.key AS meter, u.value::bigint AS units
        FROM drawers d, jsonb_each_text(d.units) u WHERE u.value::bigint > 0
    ), drawing AS (
        UPDATE holds h SET drawn = h.drawn + s.units
        FROM (SELECT meter, sum(units)::bigint AS units FROM needs GROUP BY meter) s
        WHERE h.holder_id = CAST(:source AS uuid) AND h.meter = s.meter AND h.state = 'held'
        RETURNING h.account_id, h.balance_id, h.meter, s.units
    ), holding AS (
        INSERT INTO holds (holder_id, meter, account_id, balance_id, units)
        SELECT n.holder_id, n.meter, d.account_id, d.balance_id, n.units FROM needs n JOIN drawing d USING (meter)
    ), entering AS (
        INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, held, holder_id)
        SELECT uuidv7(), d.account_id, d.balance_id, d.meter, m.kind, m.held, m.holder_id
        FROM drawing d, LATERAL (
            SELECT 'draw' AS kind, -d.units AS held, CAST(:source AS uuid) AS holder_id
            UNION ALL SELECT 'hold', n.units, n.holder_id FROM needs n WHERE n.meter = d.meter
        ) m
    ), undrawn AS (
        SELECT DISTINCT meter FROM needs WHERE meter NOT IN (SELECT meter FROM drawing)
    )
"""

_GIVE_BACK = text("""
    WITH given AS (
        SELECT key AS meter, value::bigint AS units FROM jsonb_each_text(CAST(:units AS jsonb)) WHERE value::bigint > 0
    ), giving AS (
        UPDATE holds h SET drawn = h.drawn + g.units
        FROM given g WHERE h.holder_id = CAST(:holder AS uuid) AND h.meter = g.meter AND h.state = 'held'
        RETURNING h.account_id, h.balance_id, h.meter, g.units
    ), locked_balances AS MATERIALIZED (
        SELECT id, granted, held, used FROM balances
        WHERE id IN (SELECT balance_id FROM giving) ORDER BY id FOR NO KEY UPDATE
    ), moving AS (
        UPDATE balances b
        SET held = l.held - g.units,
            warned_at = CASE WHEN (l.held - g.units + l.used) * 100 >= l.granted * 80 THEN b.warned_at END,
            stopped_at = CASE WHEN l.held - g.units + l.used >= l.granted THEN b.stopped_at END
        FROM locked_balances l JOIN giving g ON g.balance_id = l.id WHERE b.id = l.id
    ), entering AS (
        INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, held, holder_id)
        SELECT uuidv7(), account_id, balance_id, meter, 'void', -units, CAST(:holder AS uuid) FROM giving
    )
    SELECT (SELECT count(*) FROM given) = (SELECT count(*) FROM giving)
""")


async def give_back(session: AsyncSession, holder_id: UUID, units: Mapping[str, int]) -> None:
    """Free a part of an open hold, in units per meter; the rest of it stays.

    Nothing was ever to be made of it: a meter that is below a threshold without it warns anew when that is crossed.
    The caller holds the lock on the holder's own row. More than is left of the hold is refused by its constraint.
    """
    columns = {"holder": holder_id, "units": encoded(units)}
    if not (await session.scalars(_GIVE_BACK, columns)).one():
        raise RuntimeError(f"{holder_id} has no such hold: {units}")


def encoded(used: Mapping[str, int]) -> str:
    """Return units per meter as `SETTLING` reads them."""
    return msgspec.json.encode(used).decode()
