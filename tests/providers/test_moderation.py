"""What is not to be asked: words of a list in every way of writing them, and what OpenAI's moderation flags."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from infra.settings import InvalidSetting, Settings, load
from providers import moderation, types
from providers.moderation import ContentRefused
from providers.wordlist import Wordlist
from tests.support.judging import Judge, judging

LIST = Wordlist.read(
    """
    # what nobody is to ask
    قنبلة
    غسيل الأموال   # a phrase
    bomb
    money laundering
    café
    """
)


@pytest.mark.parametrize(
    "said",
    [
        "bomb",
        "How do I build a BOMB?",
        "ｂｏｍｂ",
        "bo\u200bmb",
        "Money   Laundering!",
        "money\nlaundering",
        "cafe and CAFÉ",
        "قنبلة",
        "كيف أصنع قُنْبُلَةً؟",
        "القنبله دي",
        "قنـــبلة",
        "وبالقنبلة",
        "للقنبلة",
        "أبغى غسيل أموال",
        "طرق غَسِيل الاموال",
        "وغسيل الأموالِ",
    ],
)
def test_a_word_is_found_however_it_is_written(said: str) -> None:
    assert LIST.is_in(said)


@pytest.mark.parametrize(
    "said",
    [
        "bombastic",
        "a laundering of money",
        "money",
        "قنابل الفقاعات",
        "غسيل السيارة والأموال",
        "",
        "   ",
        "bo mb",
        "القن",
    ],
)
def test_another_word_is_not(said: str) -> None:
    assert not LIST.is_in(said)


def test_a_list_of_nothing_finds_nothing() -> None:
    assert not Wordlist.read("# only a note\n\n...\n").is_in("anything ...")


@pytest.fixture
def listed(tmp_path: Path) -> Settings:
    """Settings with a list of one word."""
    path = tmp_path / "words.txt"
    path.write_text("bomb\n", encoding="utf-8")
    return Settings(moderation="list", moderation_list=str(path))


def test_the_field_that_has_a_word_is_named(listed: Settings) -> None:
    texts = [("input.messages[0].content", "hello"), ("input.messages[1].content", "a bomb")]
    with pytest.raises(ContentRefused) as told:
        moderation.check(listed, texts)
    assert told.value.facts == {"field": "input.messages[1].content"}
    moderation.check(listed, texts[:1])
    moderation.check(Settings(), texts)


def test_a_list_that_was_changed_is_read_again(listed: Settings) -> None:
    moderation.check(listed, [("f", "a tank")])
    Path(listed.moderation_list).write_text("tank\n", encoding="utf-8")
    os.utime(listed.moderation_list, ns=(1, 1))
    with pytest.raises(ContentRefused):
        moderation.check(listed, [("f", "a tank")])
    moderation.check(listed, [("f", "a bomb")])


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"PULSE_MODERATION": "list"}, "PULSE_MODERATION_LIST"),
        ({"PULSE_MODERATION": "list", "PULSE_MODERATION_LIST": "no/such/file"}, "PULSE_MODERATION_LIST"),
        ({"PULSE_MODERATION": "openai"}, "PULSE_MODERATION"),
        ({"PULSE_MODERATION": "perhaps"}, "PULSE_MODERATION"),
    ],
)
def test_moderation_that_could_not_work_is_refused_at_the_start(environ: dict[str, str], key: str) -> None:
    with pytest.raises(InvalidSetting) as told:
        load(environ)
    assert told.value.facts["key"] == key


@pytest.fixture
async def judge() -> AsyncGenerator[Judge]:
    """A moderation server on loopback."""
    async with judging() as served:
        yield served


def asking(judge: Judge, keys: str, *, is_open: bool = False) -> Settings:
    """Return settings that ask this judge."""
    return Settings(moderation="openai", openai_api_key=keys, openai_base_url=judge.url, moderation_open=is_open)


async def test_what_the_vendor_flags_is_refused_and_the_rest_passes(judge: Judge) -> None:
    await moderation.ask(asking(judge, "good"), ["hello", "all is well"], field="input.messages")
    with pytest.raises(ContentRefused) as told:
        await moderation.ask(asking(judge, "good"), ["hello", "something bad"], field="input.messages")
    assert told.value.facts == {"field": "input.messages"}
    assert "something bad" in "".join(judge.asked[1][1])


async def test_another_key_is_asked_where_one_fails(judge: Judge) -> None:
    with pytest.raises(ContentRefused):
        await moderation.ask(asking(judge, "broken, good"), ["bad"], field="f")
    assert [key for key, _ in judge.asked] == ["broken", "good"]


async def test_without_an_answer_chat_waits_unless_the_operator_wants_it_to_go_on(judge: Judge) -> None:
    with pytest.raises(types.ProviderUnavailable):
        await moderation.ask(asking(judge, "broken"), ["bad"], field="f")
    await moderation.ask(asking(judge, "broken", is_open=True), ["bad"], field="f")


async def test_nothing_is_asked_where_it_is_off(judge: Judge) -> None:
    await moderation.ask(Settings(openai_api_key="good", openai_base_url=judge.url), ["bad"], field="f")
    assert judge.asked == []
