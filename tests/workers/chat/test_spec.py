"""The hold of a chat: a bound at the dearest model that may answer, with all that comes with the words."""

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from infra.settings import Settings
from providers import catalog, tokens
from tests.support.catalogs import three
from workers.chat import measure, routing
from workers.chat.spec import Chat, ChatInput
from workers.request import Asking, Attached

PIXEL = "iVBORw0KGgoAAAAAAAAAAA=="
PAPER, NOTES = UUID(int=1), UUID(int=2)
FILES = {
    PAPER: Attached(id=PAPER, name="a.pdf", state="ready", media_type="application/pdf", size_bytes=9_000, pages=3),
    NOTES: Attached(id=NOTES, name="a.txt", state="ready", media_type="text/plain", size_bytes=500),
}


@pytest.fixture
def who(tmp_path: Path) -> Asking:
    """Somebody on the plan pro, with a PDF of three pages and a text of 500 bytes."""
    return Asking(settings=three(Settings(), tmp_path), plan="pro", files=FILES)


def held(who: Asking, content: Any, **options: Any) -> int:
    """Return what a chat holds."""
    message = {"role": "user", "content": content}
    usual: dict[str, Any] = {"model": "middle", "fallbacks": [], "max_output_tokens": 100}
    request = msgspec.convert({"kind": "chat", "input": {"messages": [message], **usual, **options}}, Chat)
    request.check(who.settings)
    return request.resolved(who).most(who)["chat_tokens"]


def test_the_hold_is_that_of_the_dearest_model_that_may_answer(who: Asking) -> None:
    tokens_in = 64 + 16 + 4
    assert held(who, "four") == tokens_in * 2 + 100 * 4
    assert held(who, "four", fallbacks=["small"]) == tokens_in * 2 + 100 * 4
    assert held(who, "four", fallbacks=["small", "great"]) == tokens_in * 10 + 100 * 50


def test_pictures_and_pages_are_counted(who: Asking) -> None:
    model = catalog.offered(who.settings)["middle"]
    alone = held(who, [{"type": "text", "text": "four"}])
    picture = {"type": "image", "data": PIXEL, "media_type": "image/png"}
    assert held(who, [{"type": "text", "text": "four"}, picture]) == alone + (tokens.picture_tokens(model) + 16) * 2
    pages = held(who, [{"type": "text", "text": "four"}, {"type": "file", "file_id": str(PAPER)}])
    assert pages == alone + (3 * tokens.page_tokens(model) + 64 + 16) * 2
    text = held(who, [{"type": "text", "text": "four"}, {"type": "file", "file_id": str(NOTES)}])
    assert text >= alone + 500 * 2


def test_tools_and_a_form_are_counted(who: Asking) -> None:
    alone = held(who, "four")
    parameters = {"type": "object", "properties": {"city": {"type": "string", "description": "اسم المدينة" * 20}}}
    assert held(who, "four", tools=[{"name": "weather", "parameters": parameters}]) > alone + len("اسم المدينة" * 20)
    assert held(who, "four", format={"type": "json_schema", "schema": parameters}) > alone + len("اسم المدينة" * 20)


def test_no_more_is_held_than_the_model_can_read(who: Asking) -> None:
    assert held(who, "ش" * 50_000) == 32_000 * 2 + 100 * 4


def test_a_model_that_thinks_may_say_more_where_nothing_is_said_of_it(who: Asking) -> None:
    def cap(**options: Any) -> int | None:
        given = {"messages": [{"role": "user", "content": "hi"}], **options}
        return msgspec.convert({"kind": "chat", "input": given}, Chat).resolved(who).input.max_output_tokens

    assert cap(model="middle") == 1024
    assert cap(model="great", effort="high") == 16_000, "the cap of the model"
    assert cap(model="great", effort="none") == 1024
    assert cap(model="small", max_output_tokens=100_000) == 4_000


def test_the_studio_has_simple_things_answered_at_once_and_hard_ones_thought_of(who: Asking) -> None:
    vendors = Asking(settings=Settings(openai_api_key="k"), plan="pro")

    def found(text: str, who: Asking = vendors, **options: Any) -> tuple[str | None, int | None]:
        given = {"messages": [{"role": "user", "content": text}], **options}
        asked = msgspec.convert({"kind": "chat", "input": given}, Chat).resolved(who).input
        return asked.thinking, asked.max_output_tokens

    hard = "برهن أن عدد الأعداد الأولية غير منته خطوة بخطوة"
    assert found("مرحبا") == ("none", 1024)
    assert found(hard) == ("high", 1024 + 15_360)
    assert found("مرحبا", effort="high")[0] == "high", "who says how hard is asked for it"
    assert found(hard, model="gpt-6-luna") == (None, 1024 + 7168)
    assert found(hard, who)[0] is None, "a server of the operator's own may refuse to hear of it"


def test_a_chat_that_was_kept_before_models_were_routed_is_made_and_asked_again(who: Asking) -> None:
    kept: dict[str, Any] = {
        "kind": "chat",
        "input": {
            "messages": [{"role": "user", "content": "hi"}],
            "model": "middle",
            "max_output_tokens": 100,
            "temperature": None,
        },
    }
    chat = msgspec.convert(kept, Chat)
    assert [model.id for model in routing.models(who.settings, chat.input)] == ["middle"]
    again = chat.anew()
    again.check(who.settings)
    assert again.resolved(who).input.model == "middle"
    assert chat.most(who) == {"chat_tokens": (64 + 16 + 2) * 2 + 100 * 4}
    assert msgspec.convert(kept["input"] | {"max_output_tokens": None}, ChatInput).max_output_tokens is None


@pytest.mark.parametrize("text", ["for(int i=0;i<n;++i){a[i]^=b[i]&0x7f;}\n", "12.5,33,foo;bar\n", "هٰذَا نَصٌّ مُشَكَّلٌ. "])
def test_a_file_is_held_at_what_it_may_have_whatever_is_in_it(text: str) -> None:
    settings = Settings(openai_api_key="k", anthropic_api_key="k", google_api_key="k")
    text *= 100
    part = {"type": "file", "file_id": str(NOTES)}
    asked = msgspec.convert({"messages": [{"role": "user", "content": [part]}]}, ChatInput)
    files = {NOTES: msgspec.structs.replace(FILES[NOTES], size_bytes=len(text.encode()))}
    for model in catalog.offered(settings).values():
        read = measure.most(model, asked, files)
        assert read >= min(tokens.estimate(model, text), model.context_tokens), model.id


def test_a_long_file_is_for_a_model_that_can_read_it(who: Asking) -> None:
    long = msgspec.structs.replace(FILES[NOTES], size_bytes=200_000)
    asking = msgspec.structs.replace(who, files={NOTES: long})
    part = {"type": "file", "file_id": str(NOTES)}
    kept = msgspec.convert({"kind": "chat", "input": {"messages": [{"role": "user", "content": [part]}]}}, Chat)
    assert kept.resolved(asking).input.model == "great", "middle reads 32,000 tokens"
