"""Ids in paths: text that is no id is a thing that does not exist."""

from uuid import UUID

from infra.errors import PulseError
from workers.batches.shelf import BatchNotFound
from workers.files import FileNotFound
from workers.jobs import JobNotFound
from workers.webhooks.deliveries import DeliveryNotFound
from workers.webhooks.endpoints import WebhookNotFound


def job_id(text: str) -> UUID:
    """Read a job's id; raises `JobNotFound`."""
    return _read(text, JobNotFound)


def file_id(text: str) -> UUID:
    """Read a file's id; raises `FileNotFound`."""
    return _read(text, FileNotFound)


def webhook_id(text: str) -> UUID:
    """Read a webhook endpoint's id; raises `WebhookNotFound`."""
    return _read(text, WebhookNotFound)


def delivery_id(text: str) -> UUID:
    """Read a delivery's id; raises `DeliveryNotFound`."""
    return _read(text, DeliveryNotFound)


def batch_id(text: str) -> UUID:
    """Read a batch's id; raises `BatchNotFound`."""
    return _read(text, BatchNotFound)


def _read(text: str, missing: type[PulseError]) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise missing from None
