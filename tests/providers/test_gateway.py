"""What the gateway does when, at a virtual time: who is asked, what is waited for, what is void, what is given back."""

import asyncio
from collections import Counter
from contextlib import aclosing

import msgspec
import pytest

from infra.settings import Settings
from providers import deployments, types
from providers.gateway import Gateway, Serving, Turned
from providers.types import Opened, Resumable, TextDelta
from tests.support.cast import CALL, COUNTED, SETTINGS, Cast, Cut, heard, model, played
from tests.support.hasty import hastily

FIRST, SECOND = model("first"), model("second", "anthropic")
GOES_ON = model("goes-on", resumable=True)
ONE_KEY = msgspec.structs.replace(SETTINGS, openai_api_key="key-one")
BUSY, DOWN = types.ProviderRateLimited(), types.ProviderUnavailable()


def test_an_answer_comes_through_after_who_makes_it() -> None:
    cast = Cast(words=2)
    found = hastily(played(cast, [FIRST]))
    deployment = cast.asked[0].deployment
    assert found.said[:3] == [Serving(model="first", deployment=deployment), Opened(), TextDelta("0.0 ")]
    assert found.said[3:] == [TextDelta("0.1 "), types.Finish(reason="stop", counted=COUNTED)]


def test_a_model_is_asked_by_its_vendor_s_name_and_for_no_more_than_it_takes() -> None:
    cast = Cast()
    call = msgspec.structs.replace(CALL, temperature=0.5, effort="low")
    hastily(played(cast, [model("plain", effort=False, temperature=False)], call=call))
    hastily(played(cast, [model("apt")], call=call))
    plain, apt = (asked.call for asked in cast.asked)
    assert (plain.model, plain.output_tokens, plain.temperature, plain.effort) == ("plain-vendor", 4000, None, None)
    assert (apt.temperature, apt.effort, apt.resumable) == (0.5, "low", False)


@pytest.mark.parametrize(
    ("setting", "output_tokens", "wanted"),
    [("always", 100, True), ("long", 100, False), ("long", 3000, True), ("never", 3000, False)],
)
def test_the_operator_says_which_answers_a_vendor_goes_on_with(setting: str, output_tokens: int, wanted: bool) -> None:
    cast = Cast()
    settings = msgspec.structs.replace(SETTINGS, resumable=setting)
    call = msgspec.structs.replace(CALL, output_tokens=output_tokens)
    hastily(played(cast, [GOES_ON], settings, call=call))
    assert cast.asked[0].call.resumable is wanted


def test_what_was_read_from_the_vendor_s_cache_is_counted_apart_to_the_last() -> None:
    """Others charged cached tokens in full: BerriAI/litellm #11789."""
    cast = Cast()
    cast.counted = types.Counted(input_tokens=1000, output_tokens=10, cached_tokens=900, written_tokens=50)
    found = hastily(played(cast, [FIRST]))
    assert found.finish
    assert found.finish.counted == cast.counted


def test_a_vendor_that_fails_is_asked_again_by_another_key_after_a_pause() -> None:
    cast = Cast([Cut(0, DOWN), Cut(0, DOWN)])
    found = hastily(played(cast, [FIRST]))
    assert (found.text, found.turned) == (cast.texts()[2], [])
    assert cast.asked[0].deployment != cast.asked[1].deployment
    first, second, third = (asked.at_s for asked in cast.asked)
    assert 0 < second - first <= 0.5
    assert 0.75 <= third - second <= 1.5


def test_a_key_that_is_limited_rests_and_another_one_is_asked_at_once() -> None:
    cast = Cast([Cut(0, types.ProviderRateLimited(retry_after_s=30))])
    found = hastily(played(cast, [FIRST]))
    assert found.finish
    assert [asked.at_s for asked in cast.asked] == [0, 0]
    assert len({asked.deployment for asked in cast.asked}) == 2


def test_the_only_key_is_asked_again_when_its_vendor_said() -> None:
    cast = Cast([Cut(0, types.ProviderRateLimited(retry_after_s=2)), Cut(0, BUSY)])
    assert hastily(played(cast, [FIRST], ONE_KEY)).finish
    first, second, third = (asked.at_s for asked in cast.asked)
    assert second - first >= 2
    assert third - second >= 1, "where the vendor does not say, it rests a second"


def test_who_would_have_to_wait_for_long_asks_another_model_at_once() -> None:
    cast = Cast([Cut(0, types.ProviderRateLimited(retry_after_s=30))])
    found = hastily(played(cast, [FIRST, SECOND], ONE_KEY))
    assert found.served == ["second"]
    assert [(asked.model, asked.at_s) for asked in cast.asked] == [("first", 0), ("second", 0)]


def test_a_wait_that_the_call_has_no_time_for_is_not_begun() -> None:
    cast = Cast([Cut(0, types.ProviderRateLimited(retry_after_s=2))])
    found = hastily(played(cast, [FIRST, SECOND], ONE_KEY, left_s=1.5))
    assert [(asked.model, asked.at_s) for asked in cast.asked] == [("first", 0), ("second", 0)]
    assert found.finish


def test_where_nobody_can_answer_soon_the_fact_says_when() -> None:
    cast = Cast([Cut(0, types.ProviderRateLimited(retry_after_s=600))])
    found = hastily(played(cast, [FIRST], ONE_KEY))
    assert isinstance(found.fact, types.ProviderRateLimited)
    assert found.fact.retry_after_s == pytest.approx(600)
    assert len(cast.asked) == 1


@pytest.mark.parametrize("after", [0, 1, 3])
def test_what_a_vendor_refuses_is_asked_of_nobody_else(after: int) -> None:
    cast = Cast([Cut(after, types.ProviderRefused(reason="too long"))])
    found = hastily(played(cast, [FIRST, SECOND]))
    assert (found.fact.code if found.fact else None, len(cast.asked)) == ("provider_refused", 1)


def test_a_key_that_is_set_up_wrongly_is_left_for_the_next_and_then_the_model() -> None:
    cast = Cast([Cut(0, types.ProviderMisconfigured()), Cut(0, types.ProviderMisconfigured())])
    found = hastily(played(cast, [FIRST, SECOND]))
    assert found.served == ["second"]
    assert [asked.at_s for asked in cast.asked] == [0, 0, 0]
    assert len({asked.deployment for asked in cast.asked}) == 3


def test_the_only_key_is_not_asked_twice_when_it_is_set_up_wrongly() -> None:
    cast = Cast([Cut(0, types.ProviderMisconfigured())])
    found = hastily(played(cast, [FIRST], msgspec.structs.replace(ONE_KEY, breaker_rest_s=0.01)))
    assert isinstance(found.fact, types.ProviderMisconfigured)
    assert len(cast.asked) == 1


def test_a_model_has_so_many_tries_before_the_next_one_is_asked() -> None:
    cast = Cast([Cut(0, DOWN)] * 5)
    found = hastily(played(cast, [FIRST, SECOND]))
    assert Counter(asked.model for asked in cast.asked) == {"first": 3, "second": 3}
    assert found.served == ["second"]


def test_of_all_facts_one_is_raised_that_is_worth_another_try() -> None:
    cast = Cast([*[Cut(0, types.ProviderTimedOut())] * 3, Cut(0, types.ProviderMisconfigured())])
    found = hastily(played(cast, [FIRST, SECOND]))
    assert isinstance(found.fact, types.ProviderTimedOut)
    assert not found.said


def test_a_vendor_that_this_installation_has_not_is_set_up_wrongly() -> None:
    found = hastily(played(Cast(), [FIRST], Settings(google_api_key="g")))
    assert isinstance(found.fact, types.ProviderMisconfigured)


@pytest.mark.parametrize("fault", [DOWN, types.AnswerTruncated(), "end", "silence"])
def test_what_was_said_before_a_break_is_void_once_another_answer_begins(fault: types.ProviderError) -> None:
    cast = Cast([Cut(3, fault), Cut(0, DOWN), Cut(0, DOWN)])
    found = hastily(played(cast, [FIRST, SECOND]))
    assert found.text == cast.texts()[-1]
    assert found.turned == [Turned(model="second", because=found.turned[0].because)]
    assert found.said.index(found.turned[0]) == 4, "after who serves, its opening and two words"


def test_an_answer_is_begun_anew_only_so_often() -> None:
    cast = Cast([Cut(3, DOWN)] * 9)
    found = hastily(played(cast, [FIRST, SECOND]))
    assert isinstance(found.fact, types.ProviderUnavailable)
    assert (len(cast.asked), len(found.turned)) == (3, 2)


def test_an_answer_that_its_vendor_still_makes_is_taken_up_where_it_broke_off() -> None:
    cast = Cast([Cut(4, DOWN), Cut(1, "end"), Cut(3, "silence")], words=8, has_tools=True)
    found = hastily(played(cast, [GOES_ON, SECOND]))
    assert (found.text, found.calls, found.turned) == (cast.texts()[0], ["0"], [])
    assert [asked.how for asked in cast.asked] == ["stream", *["resume"] * 3]
    assert len({asked.deployment for asked in cast.asked}) == 1, "only that key knows it"
    assert sum(isinstance(said, (Opened, Resumable, Serving)) for said in found.said) == 3


def test_a_tool_call_after_the_last_words_is_not_said_twice() -> None:
    cast = Cast([Cut(6, DOWN)], words=2, has_tools=True)
    found = hastily(played(cast, [GOES_ON]))
    assert isinstance(found.said[-2], types.ToolCall)
    assert (found.calls, found.turned, len(cast.asked)) == (["0"], [], 2)
    assert sum(isinstance(said, types.Thought) for said in found.said) == 1


def test_words_without_a_place_are_void_since_nobody_knows_where_to_go_on() -> None:
    cast = Cast([Cut(4, DOWN)])
    made = cast.compose

    def placeless(call: types.ChatCall) -> list[types.Chunk]:
        return [TextDelta(one.text) if isinstance(one, TextDelta) else one for one in made(call)]

    cast.compose = placeless  # type: ignore[method-assign]
    found = hastily(played(cast, [GOES_ON]))
    assert (found.text, len(found.turned)) == (cast.texts()[1], 1)
    assert cast.abandoned == [{"answer": 0}]


def test_an_answer_that_cannot_be_taken_up_is_stopped_and_made_anew() -> None:
    cast = Cast([Cut(4, DOWN)] * 1 + [Cut(0, DOWN)] * 3)
    found = hastily(played(cast, [GOES_ON, SECOND]))
    assert found.text == cast.texts()[1]
    assert found.turned[0].because == "provider_unavailable"
    assert cast.abandoned == [{"answer": 0}], "nobody pays for what nobody reads"


def test_a_token_brings_the_same_answer_from_its_beginning() -> None:
    cast = Cast()

    async def twice() -> None:
        gateway = Gateway(SETTINGS, vendors=cast)
        async with aclosing(gateway.stream([GOES_ON], CALL)) as chunks:
            token = next(iter([said.token async for said in chunks if isinstance(said, Resumable)]))
        assert token.keys() == {"answer", "deployment", "model"}
        found = await heard(gateway, [SECOND, GOES_ON], token=token)
        assert (found.text, found.turned, found.served) == (cast.texts()[0], [], ["goes-on"])
        assert len(cast.answers) == 1
        cast.lost.add(0)
        found = await heard(gateway, [SECOND, GOES_ON], token=token)
        assert (found.text, found.turned) == (cast.texts()[1], [Turned(model="second", because="answer_lost")])
        found = await heard(gateway, [SECOND], token=token | {"deployment": "gone"})
        assert (found.text, found.turned) == (cast.texts()[2], [Turned(model="second", because="answer_lost")])
        await gateway.abandon(token)
        await gateway.abandon({"deployment": "gone"})
        assert cast.abandoned == [{"answer": 0}]
        await gateway.close()

    hastily(twice())


def test_a_model_has_to_begin_in_time_and_longer_where_it_is_to_think() -> None:
    for effort, seconds in (("low", 60), ("high", 180)):
        cast = Cast([Cut(1, "silence")])
        call = msgspec.structs.replace(CALL, effort=effort)
        assert hastily(played(cast, [FIRST], call=call)).finish
        assert seconds <= cast.asked[1].at_s <= seconds + 0.5


def test_what_comes_before_the_first_words_gives_no_time() -> None:
    cast = Cast([Cut(pause_s=40)])
    assert hastily(played(cast, [FIRST])).finish
    assert 60 <= cast.asked[1].at_s <= 60.5, "it was opened after 40 seconds"


def test_a_door_that_was_shut_is_open_from_the_first_word_on() -> None:
    cast = Cast([Cut(0, DOWN)] * 3)

    async def shut() -> None:
        gateway = Gateway(msgspec.structs.replace(ONE_KEY, breaker_failures=3), vendors=cast)
        await heard(gateway, [FIRST])
        await asyncio.sleep(15)
        cast.cuts = [Cut(pause_s=1)]
        trying = asyncio.create_task(heard(gateway, [FIRST]))
        await asyncio.sleep(2.5)
        began_s = asyncio.get_running_loop().time()
        assert (await heard(gateway, [FIRST])).finish
        assert cast.asked[-1].at_s == began_s
        assert not trying.done()
        assert (await trying).finish
        await gateway.close()

    hastily(shut())


def test_an_answer_may_not_fall_silent_nor_go_on_for_ever() -> None:
    cast = Cast([Cut(3, "silence")])
    assert hastily(played(cast, [FIRST])).turned[0].because == "provider_timed_out"
    assert 30 <= cast.asked[1].at_s <= 30.5
    cast = Cast([Cut(0, pause_s=20)], words=50)
    found = hastily(played(cast, [FIRST]))
    assert isinstance(found.fact, types.ProviderTimedOut)
    assert len(cast.asked) == 1, "another one would take as long"


def test_a_sign_of_life_is_heard_by_the_clock_alone() -> None:
    cast = Cast([Cut(0, pause_s=25)], words=1)
    made = cast.compose
    cast.compose = lambda call: [types.Alive(), types.Alive(), types.Alive(), *made(call)]  # type: ignore[method-assign]
    found = hastily(played(cast, [FIRST]))
    assert [type(said).__name__ for said in found.said] == ["Serving", "Opened", "TextDelta", "Finish"]


def test_a_sign_of_life_takes_no_time_from_a_model_that_thinks_on_in_silence() -> None:
    cast = Cast([Cut(0, pause_s=40)], words=1)
    made = cast.compose
    cast.compose = lambda call: [types.Alive(), made(call)[-1]]  # type: ignore[method-assign]
    found = hastily(played(cast, [FIRST], call=msgspec.structs.replace(CALL, effort="high")))
    assert found.finish
    assert len(cast.asked) == 1, "it was silent for longer than one that speaks may be, and had begun nothing"


@pytest.mark.parametrize("how", ["closed", "canceled"])
def test_whoever_stops_early_stops_the_vendor_and_gives_the_slot_back(how: str) -> None:
    cast = Cast([Cut(3, "silence"), Cut(3, "silence")])

    async def stop() -> None:
        gateway = Gateway(msgspec.structs.replace(ONE_KEY, vendor_slots=1), vendors=cast)
        if how == "closed":
            async with aclosing(gateway.stream([FIRST], CALL)) as chunks:
                async for said in chunks:
                    if isinstance(said, TextDelta):
                        break
        else:
            reading = asyncio.create_task(heard(gateway, [FIRST]))
            await asyncio.sleep(1)
            assert cast.speaking == 1
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert cast.speaking == 0
        assert gateway.tally.total("left") == 1
        cast.cuts.clear()
        assert (await heard(gateway, [FIRST])).finish, "the only slot is free again"
        await gateway.close()

    hastily(stop())


def test_calls_wait_for_a_slot_and_leave_for_another_model_where_there_is_one() -> None:
    cast = Cast([Cut(0, pause_s=2)])

    async def both() -> None:
        gateway = Gateway(msgspec.structs.replace(ONE_KEY, vendor_slots=1), vendors=cast)
        slow = asyncio.create_task(heard(gateway, [FIRST]))
        await asyncio.sleep(0.01)
        waiting, leaving = await asyncio.gather(heard(gateway, [FIRST]), heard(gateway, [FIRST, SECOND]))
        assert (waiting.served, leaving.served) == (["first"], ["second"])
        assert (await slow).finish
        await gateway.close()

    hastily(both())


def test_what_became_of_calls_is_counted() -> None:
    cast = Cast([Cut(0, DOWN), Cut(3, DOWN)])

    async def count() -> dict[str, int]:
        gateway = Gateway(ONE_KEY, vendors=cast)
        await heard(gateway, [FIRST])
        await gateway.close()
        return {what: gateway.tally.total(what) for what in ("tried", "answered", "failed", "turned", "left")}  # type: ignore[misc]

    assert hastily(count()) == {"tried": 3, "answered": 1, "failed": 2, "turned": 1, "left": 0}


def test_a_door_is_shut_after_so_many_failures_and_one_call_tries_it_again() -> None:
    cast = Cast([Cut(0, DOWN)] * 3)

    async def shut() -> None:
        gateway = Gateway(msgspec.structs.replace(ONE_KEY, breaker_failures=3), vendors=cast)
        assert (await heard(gateway, [FIRST])).fact
        found = await heard(gateway, [FIRST])
        assert isinstance(found.fact, types.ProviderUnavailable)
        assert found.fact.retry_after_s == pytest.approx(15, abs=1)
        assert len(cast.asked) == 3, "the second call asked nobody"
        assert (await heard(gateway, [model("other")])).finish, "another model of the same key is none of that"
        await asyncio.sleep(15)
        cast.cuts = [Cut(0, DOWN)]
        assert (await heard(gateway, [FIRST])).fact
        assert len(cast.asked) == 5, "one failure is enough to shut it again"
        await asyncio.sleep(15)
        assert (await heard(gateway, [FIRST])).finish
        assert (await heard(gateway, [FIRST])).finish
        await gateway.close()

    hastily(shut())


def test_a_door_that_is_shut_is_waited_for_by_nobody_who_may_ask_another_model() -> None:
    cast = Cast([Cut(0, DOWN)] * 3)

    async def shut() -> None:
        gateway = Gateway(msgspec.structs.replace(ONE_KEY, breaker_failures=3), vendors=cast)
        await heard(gateway, [FIRST])
        await asyncio.sleep(13)
        began_s = asyncio.get_running_loop().time()
        assert (await heard(gateway, [FIRST, SECOND])).served == ["second"]
        assert cast.asked[-1].at_s == began_s
        await gateway.close()

    hastily(shut())


def test_a_vendor_that_cannot_be_connected_to_takes_no_slot() -> None:
    class Broken(Cast):
        def chat(self, deployment: deployments.Deployment) -> types.ChatModels:
            raise ModuleNotFoundError(deployment.name)

    async def again() -> None:
        gateway = Gateway(msgspec.structs.replace(ONE_KEY, vendor_slots=1), vendors=Broken())
        for _ in range(3):
            with pytest.raises(ModuleNotFoundError):
                await heard(gateway, [FIRST])
        await gateway.close()

    hastily(again())


def test_two_calls_of_a_tool_that_look_alike_are_two() -> None:
    cast = Cast(words=1)
    made, twin = cast.compose, types.ToolCall(id="", name="look", arguments="{}")
    cast.compose = lambda call: [twin, twin, *made(call)]  # type: ignore[method-assign]
    assert hastily(played(cast, [FIRST])).calls == ["", ""]


def test_a_key_of_three_times_the_weight_gets_three_times_the_calls() -> None:
    cast = Cast()

    async def many() -> Counter[str]:
        gateway = Gateway(msgspec.structs.replace(SETTINGS, openai_api_key="key-one,key-two*3"), vendors=cast)
        for _ in range(600):
            await heard(gateway, [FIRST])
        await gateway.close()
        return Counter(asked.deployment for asked in cast.asked)

    (_, most), (_, least) = hastily(many()).most_common()
    assert 2 < most / least < 4.5


def test_no_key_is_in_what_is_said_or_raised_or_counted() -> None:
    cast = Cast([Cut(3, DOWN), *[Cut(0, DOWN)] * 9])

    async def look() -> str:
        gateway = Gateway(SETTINGS, vendors=cast)
        found = await heard(gateway, [FIRST, SECOND])
        await gateway.close()
        return repr((found.said, found.fact, gateway.tally.counts, cast.asked, deployments.of(SETTINGS)))

    assert "key-" not in hastily(look())
