"""How long a chat may be, and what may be asked: refused at the door, or before a model is asked, at no cost."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from infra.ground import Ground
from infra.models import Account, Job
from infra.settings import Settings
from providers import catalog
from providers.moderation import ContentRefused
from tests.support.books import assert_even, balance_of
from tests.support.judging import judging
from tests.support.lives import asked, job_of, tools
from tests.support.vendor import Vendor
from workers.chat import caps
from workers.chat.caps import PromptTooLong
from workers.desk import Desk
from workers.perform import perform
from workers.request import Asking


def resolved(settings: Settings, content: str, **options: Any) -> Any:
    """Return the input of a chat as it would be kept."""
    request = asked(Account(plan="free"), content).request
    request.input.max_output_tokens = options.get("max_output_tokens")  # type: ignore[attr-defined]
    return request.resolved(Asking(settings=settings, plan="free")).input  # type: ignore[attr-defined]


def test_a_prompt_above_the_cap_is_refused_by_its_field_length_and_limit(settings: Settings) -> None:
    capped = msgspec.structs.replace(settings, chat_prompt_tokens=10)
    assert resolved(capped, "hi").model == "wire-1"
    with pytest.raises(PromptTooLong) as told:
        resolved(capped, "رسالة أطول من المسموح به بكثير جدا " * 10)
    facts = told.value.facts
    assert (facts["field"], facts["limit"]) == ("input.messages", 10)
    assert int(str(facts["tokens"])) > 10


def test_without_a_cap_the_models_context_is_one(settings: Settings) -> None:
    model = catalog.resolve(settings, "wire-1", field="f")
    caps.check(settings, model, model.context_tokens)
    with pytest.raises(PromptTooLong):
        caps.check(settings, model, model.context_tokens + 1)
    wide = msgspec.structs.replace(settings, chat_prompt_tokens=10**9)
    with pytest.raises(PromptTooLong):
        caps.check(wide, model, model.context_tokens + 1)


@pytest.mark.parametrize(
    ("cap", "wanted", "kept"),
    [(0, None, 1024), (100, None, 100), (100, 50, 50), (100, 128_000, 100), (0, 128_000, 16_384)],
)
def test_an_answer_is_cut_to_the_least_cap(settings: Settings, cap: int, wanted: int | None, kept: int) -> None:
    capped = msgspec.structs.replace(settings, chat_output_tokens=cap)
    assert resolved(capped, "hi", max_output_tokens=wanted).max_output_tokens == kept


async def test_listed_words_are_refused_at_the_door_and_nothing_is_kept(
    ground: Ground, account: Account, tmp_path: Path
) -> None:
    path = tmp_path / "words.txt"
    path.write_text("قنبلة\n", encoding="utf-8")
    listed = msgspec.structs.replace(ground.settings, moderation="list", moderation_list=str(path))
    with pytest.raises(ContentRefused) as told:
        await Desk(msgspec.structs.replace(ground, settings=listed)).submit(asked(account, "عن القُنبلة"))
    assert (told.value.status, told.value.facts["field"]) == (400, "input.messages[0].content")
    async with ground.database.begin() as session:
        assert (await session.scalars(select(Job))).all() == []
    await Desk(ground).submit(asked(account, "عن القُنبلة"))


@pytest.mark.parametrize(("said", "state"), [("something bad", "failed"), ("something good", "succeeded")])
async def test_what_is_flagged_fails_before_the_model_is_asked_and_costs_nothing(
    ground: Ground, account: Account, vendor: Vendor, said: str, state: str
) -> None:
    async with judging() as judge:
        judged = msgspec.structs.replace(
            ground.settings, moderation="openai", openai_api_key="good", openai_base_url=judge.url
        )
        ground = msgspec.structs.replace(ground, settings=judged)
        submission = asked(account, said)
        submission.request.input.model = "wire-1"  # type: ignore[attr-defined]
        job = (await Desk(ground).submit(submission)).job
        await perform(tools(ground), job.id)
    row, balance = await job_of(ground, job.id), await balance_of(ground, account)
    assert (row.state, len(vendor.requests)) == (state, state == "succeeded")
    assert len(judge.asked) == 1
    if state == "failed":
        assert (row.error or {})["code"] == "content_refused"
        assert (balance.held, balance.used) == (0, 0)
    await assert_even(ground)
