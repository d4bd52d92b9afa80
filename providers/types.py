"""The one vocabulary in which rooms speak to other people's models, whatever each vendor calls things."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from infra.errors import PulseError

Role = Literal["system", "user", "assistant"]


class Turn(Struct, frozen=True):
    """One message of a conversation."""

    role: Role
    content: str


class ChatCall(Struct, frozen=True, kw_only=True):
    """What a chat model is asked; `output_tokens` caps the answer."""

    model: str
    turns: Sequence[Turn]
    output_tokens: int
    temperature: float | None = None


class TextDelta(Struct, frozen=True):
    """The next piece of the answer."""

    text: str


class Finish(Struct, frozen=True, kw_only=True):
    """The end of the answer, always the last chunk. Tokens are the vendor's count; None where it gave none."""

    reason: Literal["stop", "length", "filtered"]
    input_tokens: int | None
    output_tokens: int | None


Chunk = TextDelta | Finish


class ChatModels(Protocol):
    """A vendor's chat models."""

    def stream(self, call: ChatCall) -> AsyncIterator[Chunk]:
        """Yield deltas and one `Finish`; raises `ProviderError`, also when the stream ends without its end marker."""
        ...

    async def close(self) -> None:
        """Close the vendor's connections."""
        ...


class ProviderError(PulseError):
    """The model's server could not answer."""

    ar = "تعذّر على خادم النموذج أن يجيب."
    status = 502

    def __init__(self, *, retry_after_s: float | None = None, **facts: object) -> None:
        """`retry_after_s` is the vendor's own wish, in seconds."""
        self.retry_after_s = retry_after_s
        super().__init__(**facts)


class ProviderUnavailable(ProviderError):
    """The model's server is not available right now."""

    ar = "خادم النموذج غير متاح الآن."
    retryable = True
    patience = 2.0


class ProviderTimedOut(ProviderError):
    """The model's server took too long to answer."""

    ar = "تأخر خادم النموذج في الإجابة."
    retryable = True


class ProviderRateLimited(ProviderError):
    """The model's server is receiving too many requests."""

    ar = "يتلقى خادم النموذج طلبات أكثر مما يحتمل."
    retryable = True
    patience = 4.0


class AnswerTruncated(ProviderError):
    """The model's answer broke off before its end."""

    ar = "انقطعت إجابة النموذج قبل نهايتها."
    retryable = True
    patience = 0.5


class ProviderRefused(ProviderError):
    """The model's server refused the request: {reason}"""

    ar = "رفض خادم النموذج الطلب: {reason}"


class ProviderMisconfigured(ProviderError):
    """The studio's access to this model is not set up correctly; its operator has to mend it."""

    ar = "وصول الاستوديو إلى هذا النموذج غير مهيأ كما يجب، وعلى المشغّل إصلاحه."
