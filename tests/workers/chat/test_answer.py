"""What an answer costs that is stopped: what was made, as the model that made it is estimated and weighed."""

from pathlib import Path

import msgspec
import pytest

from infra.settings import Settings
from providers import catalog, tokens
from tests.support.catalogs import three
from workers.chat.answer import Answer
from workers.chat.spec import Chat

LIKELY = {"middle": 100, "small": 7}


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    """An answer of `middle`, or of `small` in its place, of three tokens at most."""
    settings = three(Settings(), tmp_path)
    asked = {"messages": [{"role": "user", "content": "hi"}], "model": "middle", "max_output_tokens": 3}
    known = catalog.load(settings).models
    chat = msgspec.convert({"kind": "chat", "input": asked}, Chat)
    return Answer(settings, chat.input, [known["middle"], known["small"]], lambda model: LIKELY[model.id])


def test_what_is_stopped_is_charged_as_the_model_that_was_answering(answer: Answer) -> None:
    answer.add("four")
    assert answer.stopped().used == {"chat_tokens": 100 * 2 + 1 * 4}
    answer.clear()
    answer.turn("small", "provider_unavailable")
    answer.add("four four")
    made = answer.stopped()
    assert made.used == {"chat_tokens": 7 + tokens.estimate(answer.model, "four four")}
    assert (made.result["model"], made.result["usage"]["input_tokens"]) == ("small", 7)


def test_no_more_is_charged_than_the_vendor_was_let_make(answer: Answer) -> None:
    answer.add("four " * 100)
    assert answer.stopped().result["usage"]["output_tokens"] == 3
