"""The one vocabulary in which rooms speak to other people's models, whatever each vendor calls things."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from infra.errors import PulseError

Role = Literal["system", "user", "assistant"]
#: How hard a model is to think; a model that does not know a level is asked for the nearest one that it knows.
Effort = Literal["none", "low", "medium", "high"]
#: What a vendor needs to find an answer again that it is still making: its id, and whatever else the adapter keeps.
type Token = dict[str, Any]


class Text(Struct, frozen=True, tag="text"):
    """Words."""

    text: str


class Picture(Struct, frozen=True, tag="image", kw_only=True):
    """A picture of one of the types `image/png`, `image/jpeg`, `image/webp`, `image/gif`."""

    media_type: str
    data: bytes


class Paper(Struct, frozen=True, tag="file", kw_only=True):
    """A file to read: a PDF, or text in UTF-8."""

    name: str
    media_type: str
    data: bytes


class ToolCall(Struct, frozen=True, tag="tool_call", kw_only=True):
    """A tool that the model wants used; also the chunk that says so, once its arguments (a JSON object) are whole."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, tag="tool_result", kw_only=True):
    """What a tool gave back for the call with this id; stands in a turn of the user."""

    id: str
    content: str
    is_error: bool = False


class Thought(Struct, frozen=True, tag="thought", kw_only=True):
    """What a vendor wants back unchanged before its tool calls (a signature, an encrypted item); for it alone.

    It comes as a chunk too, before the tool calls that it belongs to.
    """

    vendor: str
    data: str


Part = Text | Picture | Paper | ToolCall | ToolResult | Thought


class Turn(Struct, frozen=True):
    """One message of a conversation."""

    role: Role
    parts: Sequence[Part]

    @property
    def words(self) -> str:
        """All of its text, without what else it has."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


class Tool(Struct, frozen=True, kw_only=True):
    """A function that the model may want called; `schema` is the JSON Schema of its arguments (an object)."""

    name: str
    description: str
    schema: Mapping[str, Any]


class Form(Struct, frozen=True, kw_only=True):
    """The shape that the whole answer must have: JSON by this schema."""

    name: str
    schema: Mapping[str, Any]


class ChatCall(Struct, frozen=True, kw_only=True):
    """What a chat model is asked; `output_tokens` caps the answer, with what is thought before it.

    `tool_choice` is `auto`, `none`, `required`, or a tool's name. `resumable` asks for an answer that goes on to be
    made when nobody listens, where the vendor can do that; it then says a `Resumable` first.
    """

    model: str
    turns: Sequence[Turn]
    output_tokens: int
    temperature: float | None = None
    effort: Effort | None = None
    tools: Sequence[Tool] = ()
    tool_choice: str = "auto"
    form: Form | None = None
    resumable: bool = False


class Limits(Struct, frozen=True, kw_only=True):
    """What a vendor's answer says is left of a key's allowance, each with the seconds until it is whole again."""

    requests_left: int | None = None
    requests_reset_s: float | None = None
    tokens_left: int | None = None
    tokens_reset_s: float | None = None


class Opened(Struct, frozen=True, kw_only=True):
    """The vendor has taken the request: always the first chunk. `request_id` is the vendor's, for its support."""

    limits: Limits = Limits()
    request_id: str = ""


class Resumable(Struct, frozen=True, kw_only=True):
    """The answer can be found again with `token`: to be kept before the next chunk is asked for."""

    token: Token


class TextDelta(Struct, frozen=True):
    """The next piece of the answer; `at` is its place in a resumable answer, from which it goes on after a break."""

    text: str
    at: str | int | None = None


class Alive(Struct, frozen=True):
    """The vendor goes on with what comes whole later (a thought, a tool's arguments); for the gateway's clock alone."""


class Counted(Struct, frozen=True, kw_only=True):
    """The vendor's count of tokens. `input_tokens` are all of the input: cached ones are a part of it.

    `cached_tokens` were read from the vendor's cache, `written_tokens` written to it (`written_long_tokens` of these
    for an hour or longer); `output_tokens` are all of the output, `reasoning_tokens` a part of it.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    written_tokens: int = 0
    written_long_tokens: int = 0
    reasoning_tokens: int = 0


class Finish(Struct, frozen=True, kw_only=True):
    """The end of the answer, always the last chunk; `counted` is None where the vendor counted nothing usable."""

    reason: Literal["stop", "length", "filtered", "tools"]
    counted: Counted | None


Chunk = Opened | Resumable | TextDelta | Thought | ToolCall | Alive | Finish


class Verdict(Struct, frozen=True, kw_only=True):
    """What a vendor's moderation says of a text; `categories` are the vendor's names of what it found, sorted."""

    flagged: bool
    categories: tuple[str, ...] = ()


class ChatModels(Protocol):
    """A vendor's chat models, behind one key."""

    def stream(self, call: ChatCall) -> AsyncIterator[Chunk]:
        """Yield `Opened`, what comes, and one `Finish`.

        Raises `ProviderError`, also when the stream ends without its end marker. Nothing is tried twice here.
        """
        ...

    def resume(self, call: ChatCall, token: Token, after: str | int | None) -> AsyncIterator[Chunk]:
        """Yield the same answer again, what came `after` that place or from its beginning; ends as `stream` does.

        Raises `AnswerLost` where the vendor has it no more, or never keeps any.
        """
        ...

    async def abandon(self, token: Token) -> None:
        """Stop the making of an answer that nobody wants any more. Raises `ProviderError`."""
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


class AnswerLost(ProviderError):
    """The model's server has the answer no more that it was to go on with."""

    ar = "لم تعد الإجابة المطلوب إكمالها موجودة على خادم النموذج."
    retryable = True
    patience = 0.5
