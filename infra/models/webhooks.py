"""Who is told of what: endpoints, the secrets that sign what they get, what there is to tell, and its deliveries."""

from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from infra.models.base import Document, Id, Moment, Now, Table

SIGNATURES = ("hmac", "ed25519")
DELIVERY_STATES = ("pending", "delivered", "failed", "canceled")


class WebhookEndpoint(Table):
    """An address of an account's that is told of its events. Written by `workers/webhooks/` alone."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint(f"signature IN {SIGNATURES}", name="signature"),
        CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled"),
        Index("ix_webhook_endpoints_account_id_id", "account_id", text("id DESC")),
    )

    id: Mapped[Id]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    url: Mapped[str]
    description: Mapped[str] = mapped_column(server_default=text("''"))
    #: Types of events it is told of; `*` is all, `job.*` all of jobs.
    events: Mapped[list[str]] = mapped_column(ARRAY(Text()))
    #: How what it gets is signed.
    signature: Mapped[str]
    created_at: Mapped[Now]
    disabled_at: Mapped[Moment | None]
    #: `account` (its own wish), `gone` (it answered 410), `failing` (nothing was delivered for days).
    disabled_reason: Mapped[str | None]
    #: Since when every delivery has failed.
    failing_since: Mapped[Moment | None]
    #: It asked for less: nothing is sent before this moment; and how often in a row it did.
    paused_until: Mapped[Moment | None]
    pauses: Mapped[int] = mapped_column(Integer, server_default="0")


class WebhookSecret(Table):
    """What signs: the newest one of an endpoint, or of an account for addresses that are given with a job or a batch.

    One that was rotated away signs as well until it expires, so that receivers can change over.
    """

    __tablename__ = "webhook_secrets"
    __table_args__ = (
        Index("ix_webhook_secrets_endpoint_id", "endpoint_id"),
        Index("ix_webhook_secrets_account_id", "account_id", postgresql_where=text("endpoint_id IS NULL")),
    )

    id: Mapped[Id]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    endpoint_id: Mapped[UUID | None] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    signature: Mapped[str]
    #: The key, encrypted (`infra/seal.py`).
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[Now]
    expires_at: Mapped[Moment | None]


class WebhookMessage(Table):
    """Something that happened, written in the transaction in which it did; told once to each who wants to know."""

    __tablename__ = "webhook_messages"
    __table_args__ = (
        # Jobs alone have a row that says what is told of them.
        CheckConstraint("data IS NOT NULL OR (subject_id IS NOT NULL AND type LIKE 'job.%')", name="data"),
        # What is not handed to deliveries yet: few at any time.
        Index("ix_webhook_messages_new", "id", postgresql_where=text("spread_at IS NULL")),
        Index("ix_webhook_messages_account_id_id", "account_id", text("id DESC")),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[Id]
    account_id: Mapped[UUID]
    type: Mapped[str]
    #: The job, batch, file or meter's balance that it is about.
    subject_id: Mapped[UUID | None]
    #: What is told; none: what the job's row says.
    data: Mapped[Document | None]
    #: An address to tell beside the endpoints: the job's or batch's own.
    url: Mapped[str | None]
    #: The one endpoint that is to be told, where it is for it alone.
    endpoint_id: Mapped[UUID | None]
    created_at: Mapped[Now]
    #: When its deliveries were made.
    spread_at: Mapped[Moment | None]


class WebhookDelivery(Table):
    """One message to one address, tried until it is taken."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(f"state IN {DELIVERY_STATES}", name="state"),
        CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="finished"),
        # What is to be sent next to an endpoint, or to all the addresses that an account gave with jobs.
        Index(
            "ix_webhook_deliveries_due",
            text("coalesce(endpoint_id, account_id)"),
            "next_at",
            postgresql_where=text("state = 'pending'"),
        ),
        Index("ix_webhook_deliveries_message_id", "message_id"),
        Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", text("id DESC")),
        Index("ix_webhook_deliveries_account_id_id", "account_id", text("id DESC")),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[Id]
    message_id: Mapped[UUID]
    account_id: Mapped[UUID]
    #: None: an address that was given with a job or a batch.
    endpoint_id: Mapped[UUID | None]
    type: Mapped[str]
    url: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="pending")
    #: The body, as it is signed and sent every time (JSON).
    body: Mapped[str]
    #: Tries so far; while one is under way `next_at` is when it is taken to have died.
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    next_at: Mapped[Moment]
    #: HTTP status of the last answer, and a log of the tries: `[{at, status, took_ms, code, answer}, ...]`.
    status: Mapped[int | None] = mapped_column(Integer)
    log: Mapped[Document] = mapped_column(server_default=text("'[]'"))
    #: The delivery that this one sends again.
    replay_of: Mapped[UUID | None]
    created_at: Mapped[Now]
    finished_at: Mapped[Moment | None]
