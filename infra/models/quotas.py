"""What an account may spend: balances per meter and period, holds per holder and meter, and the ledger behind both.

A holder is what units are held for: a job, a file, or a batch whose lines are still to become jobs. Holds and ledger
entries grow with every one, so they are range-partitioned by a UUIDv7 (a month each). They have no foreign keys to
their holders: one writer puts both in one transaction, and old partitions must be detachable apart.
"""

from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from infra.models.base import Id, Moment, Now, Table, Units


class Balance(Table):
    """Units of one meter in one period: the one row that concurrent jobs of an account meet at.

    No index on a changing column and room on the page (fillfactor), so that updates stay in place (HOT).
    """

    __tablename__ = "balances"
    __table_args__ = (
        UniqueConstraint("account_id", "meter", "period_start"),
        CheckConstraint("held + used <= granted", name="never_oversold"),
        CheckConstraint("granted >= 0 AND held >= 0 AND used >= 0 AND overage >= 0", name="not_negative"),
        # By which days are found whose cap changed; other meters' balances are not in it.
        Index("ix_balances_spend", "period_end", postgresql_where=text("meter = 'spend_microusd'")),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    id: Mapped[Id]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    meter: Mapped[str]
    period_start: Mapped[Moment]
    #: Empty for a level meter, which never resets.
    period_end: Mapped[Moment | None]
    granted: Mapped[Units]
    held: Mapped[Units]
    used: Mapped[Units]
    #: What jobs used beyond their holds: recorded, never taken from `granted`.
    overage: Mapped[Units]
    #: When 80 % and 100 % were crossed, once a period.
    warned_at: Mapped[Moment | None]
    stopped_at: Mapped[Moment | None]


class Hold(Table):
    """Units set aside for one holder on one meter until they are settled; of a level meter, then released."""

    __tablename__ = "holds"
    __table_args__ = (
        CheckConstraint("units > 0 AND settled BETWEEN 0 AND units", name="within_units"),
        CheckConstraint("drawn BETWEEN 0 AND units", name="within_drawn"),
        CheckConstraint("state IN ('held', 'settled', 'voided', 'released')", name="state"),
        CheckConstraint("(state = 'held') = (resolved_at IS NULL)", name="resolved_once"),
        {"postgresql_partition_by": "RANGE (holder_id)"},
    )

    holder_id: Mapped[UUID] = mapped_column(primary_key=True)
    meter: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[UUID]
    balance_id: Mapped[UUID]
    units: Mapped[int] = mapped_column(BigInteger)
    #: Of a batch's hold: what its jobs hold themselves by now, or was given back before its end.
    drawn: Mapped[Units]
    settled: Mapped[Units]
    state: Mapped[str] = mapped_column(server_default="held")
    created_at: Mapped[Now]
    resolved_at: Mapped[Moment | None]


class LedgerEntry(Table):
    """One change of one balance, never edited: the sums of its four columns over a balance are that balance."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint("kind IN ('grant', 'hold', 'draw', 'settle', 'void', 'release')", name="kind"),
        Index(None, "balance_id", "id"),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[Id]
    account_id: Mapped[UUID]
    balance_id: Mapped[UUID]
    meter: Mapped[str]
    kind: Mapped[str]
    granted: Mapped[Units]
    held: Mapped[Units]
    used: Mapped[Units]
    overage: Mapped[Units]
    holder_id: Mapped[UUID | None]
    #: Where the units came from: `plan:free`, later an add-on or a payment.
    reason: Mapped[str] = mapped_column(server_default=text("''"))
    created_at: Mapped[Now]
