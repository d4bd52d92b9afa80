"""Every table of the database, in one place."""

from infra.models.accounts import Account, ApiKey
from infra.models.base import Document, Table
from infra.models.files import FILE_STATES, Discard, File, Variant
from infra.models.jobs import LANES, LIVE, STATES, IdempotencyKey, Job, UniqueJob
from infra.models.pools import PoolControl
from infra.models.quotas import Balance, Hold, LedgerEntry

__all__ = [
    "FILE_STATES",
    "LANES",
    "LIVE",
    "STATES",
    "Account",
    "ApiKey",
    "Balance",
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
]
