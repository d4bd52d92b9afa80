"""What operators say about the pools: kept here, and brought to the workers by the tender."""

from sqlalchemy import CheckConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from infra.models.base import Document, Now, Table


class PoolControl(Table):
    """One pool's settings at run time. Written by `workers/control.py` alone; no row means all defaults."""

    __tablename__ = "pools"
    __table_args__ = (CheckConstraint("slots BETWEEN 0 AND 10000 AND account_cap >= 0", name="caps"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    #: Starts nothing new; what runs goes on, what is submitted waits.
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    #: Takes no new submissions; what waits and runs is worked off.
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    #: Jobs at a time of each worker; none: what the worker was started with.
    slots: Mapped[int | None]
    #: Running jobs of one account on the whole pool; 0 is any number, none: what the workers were started with.
    account_cap: Mapped[int | None]
    #: kind -> how many of it run at a time on the whole pool.
    kind_caps: Mapped[Document] = mapped_column(server_default=text("'{}'"))
    updated_at: Mapped[Now]
