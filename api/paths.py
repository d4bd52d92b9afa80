"""Ids in paths: text that is no id is a thing that does not exist."""

from uuid import UUID

from workers.batches.shelf import BatchNotFound
from workers.files import FileNotFound
from workers.jobs import JobNotFound
from workers.webhooks.deliveries import DeliveryNotFound
from workers.webhooks.endpoints import WebhookNotFound


def job_id(text: str) -> UUID:
    """Read a job's id; raises `JobNotFound`."""
    try:
        return UUID(text)
    except ValueError:
        raise JobNotFound from None


def file_id(text: str) -> UUID:
    """Read a file's id; raises `FileNotFound`."""
    try:
        return UUID(text)
    except ValueError:
        raise FileNotFound from None


def webhook_id(text: str) -> UUID:
    """Read a webhook endpoint's id; raises `WebhookNotFound`."""
    try:
        return UUID(text)
    except ValueError:
        raise WebhookNotFound from None


def delivery_id(text: str) -> UUID:
    """Read a delivery's id; raises `DeliveryNotFound`."""
    try:
        return UUID(text)
    except ValueError:
        raise DeliveryNotFound from None


def batch_id(text: str) -> UUID:
    """Read a batch's id; raises `BatchNotFound`."""
    try:
        return UUID(text)
    except ValueError:
        raise BatchNotFound from None
