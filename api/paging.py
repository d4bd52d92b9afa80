"""Pages of a list: how many, and from where on."""

from collections.abc import Sequence
from uuid import UUID

from infra.errors import PulseError
from infra.models import Batch, File, Job, WebhookDelivery, WebhookEndpoint


class InvalidCursor(PulseError):
    """{field}: this is not a cursor of a former page."""

    ar = "{field}: هذه ليست علامة صفحة سابقة."
    status = 400


class InvalidLimit(PulseError):
    """{field} must be a whole number from 1 to 100."""

    ar = "يجب أن تكون قيمة {field} عددًا صحيحًا من 1 إلى 100."
    status = 400


class InvalidState(PulseError):
    """{field}: there is no state {value!r}; there are: {known}."""

    ar = "{field}: لا توجد حالة باسم {value!r}. الحالات: {known}."
    status = 400


class InvalidBatchId(PulseError):
    """{field}: this is not the id of a batch."""

    ar = "{field}: هذا ليس معرّف دفعة."
    status = 400


def cut[Item: Batch | Job | File | WebhookEndpoint | WebhookDelivery](
    found: Sequence[Item], most: int
) -> tuple[Sequence[Item], str | None]:
    """Return a page of what was found, of one item more than it has, and the cursor of the page after it, if any."""
    shown = found[:most]
    return shown, str(shown[-1].id) if len(found) > len(shown) else None


def limit_of(text: str) -> int:
    """Read how many items a page has; raises `InvalidLimit`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= 100):
        raise InvalidLimit(field="limit")
    return int(text)


def before(cursor: str | None) -> UUID | None:
    """Read after which item a page begins; raises `InvalidCursor`."""
    try:
        return UUID(cursor) if cursor is not None else None
    except ValueError:
        raise InvalidCursor(field="cursor") from None


def state_of(text: str | None, known: tuple[str, ...]) -> str | None:
    """Read in which state the items are to be; raises `InvalidState`."""
    if text is not None and text not in known:
        raise InvalidState(field="state", value=text, known=", ".join(known))
    return text


def batch_of(text: str | None) -> UUID | None:
    """Read of which batch the items are to be; raises `InvalidBatchId`."""
    try:
        return UUID(text) if text else None
    except ValueError:
        raise InvalidBatchId(field="batch") from None
