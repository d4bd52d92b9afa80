"""Every table of the database, in one place."""

from infra.models.accounts import Account, ApiKey
from infra.models.base import Document, Table
from infra.models.batches import (
    BATCH_LIVE,
    BATCH_MODES,
    BATCH_STATES,
    Batch,
    BatchFlight,
    BatchLine,
    BatchParcel,
    BatchResult,
)
from infra.models.files import FILE_STATES, Discard, File, Variant
from infra.models.jobs import LANES, LIVE, STATES, IdempotencyKey, Job, UniqueJob
from infra.models.pools import PoolControl
from infra.models.quotas import Balance, Hold, LedgerEntry
from infra.models.webhooks import (
    DELIVERY_STATES,
    SIGNATURES,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookMessage,
    WebhookSecret,
)

__all__ = [
    "BATCH_LIVE",
    "BATCH_MODES",
    "BATCH_STATES",
    "DELIVERY_STATES",
    "FILE_STATES",
    "LANES",
    "LIVE",
    "SIGNATURES",
    "STATES",
    "Account",
    "ApiKey",
    "Balance",
    "Batch",
    "BatchFlight",
    "BatchLine",
    "BatchParcel",
    "BatchResult",
    "Discard",
    "Document",
    "File",
    "Hold",
    "IdempotencyKey",
    "Job",
    "LedgerEntry",
    "PoolControl",
    "Table",
    "UniqueJob",
    "Variant",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookMessage",
    "WebhookSecret",
]
