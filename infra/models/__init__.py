"""Every table of the database, in one place."""

from infra.models.accounts import Account, ApiKey
from infra.models.base import Document, Table
from infra.models.jobs import LIVE, STATES, IdempotencyKey, Job
from infra.models.quotas import Balance, Hold, LedgerEntry

__all__ = [
    "LIVE",
    "STATES",
    "Account",
    "ApiKey",
    "Balance",
    "Document",
    "Hold",
    "IdempotencyKey",
    "Job",
    "LedgerEntry",
    "Table",
]
