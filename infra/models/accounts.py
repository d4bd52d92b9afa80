"""Who may ask: accounts and their API keys."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from infra.models.base import Id, Moment, Now, Table


class Account(Table):
    """A person or a program that makes things, on a plan."""

    __tablename__ = "accounts"
    __table_args__ = (UniqueConstraint("email"), CheckConstraint("email = lower(email)", name="email_is_lower"))

    id: Mapped[Id]
    #: Lower case; the way to sign in.
    email: Mapped[str]
    #: Code of the plan in `quotas/plans.toml`.
    plan: Mapped[str]
    #: Language of what is written to the account: "ar" or "en".
    language: Mapped[str] = mapped_column(server_default="ar")
    created_at: Mapped[Now]
    #: Set when the account is closed: its keys stop working, its rows stay.
    closed_at: Mapped[Moment | None]


class ApiKey(Table):
    """A credential of a program. Only the HMAC of its secret is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("hash"),)

    id: Mapped[Id]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str]
    #: HMAC-SHA256 of the key under `PULSE_SECRET`, 32 bytes.
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    #: The last four characters, to tell keys apart in a list.
    last4: Mapped[str]
    created_at: Mapped[Now]
    expires_at: Mapped[Moment | None]
    revoked_at: Mapped[Moment | None]
