"""Any script of faults over keys and models: one whole answer of one model, or a fact; never two texts mixed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers import deployments, types
from providers.catalog import Model
from providers.gateway import Serving, Turned
from providers.types import Finish, Resumable, TextDelta
from tests.support.cast import SETTINGS, Cast, Cut, Heard, model, played
from tests.support.hasty import hastily


def _waits(fact: type[types.ProviderError], wait_s: float | None) -> types.ProviderError:
    return fact(retry_after_s=wait_s)


_FAULTS = st.one_of(
    st.sampled_from(["end", "silence", "none"]),
    st.builds(
        _waits,
        st.sampled_from(
            [types.ProviderUnavailable, types.ProviderTimedOut, types.ProviderRateLimited, types.AnswerTruncated]
        ),
        st.none() | st.sampled_from([0.0, -1.0, 0.5, 4.0, 20.0, 1e9]),
    ),
    st.builds(types.ProviderMisconfigured),
    st.builds(types.AnswerLost),
    st.builds(types.ProviderError),
    st.builds(types.ProviderRefused, reason=st.just("no")),
)
_LIMITS = st.builds(
    types.Limits,
    requests_left=st.none() | st.integers(0, 3),
    requests_reset_s=st.none() | st.floats(0, 90),
    tokens_left=st.none() | st.integers(0, 3),
    tokens_reset_s=st.none() | st.floats(0, 90),
)
_CUTS = st.builds(
    Cut, after=st.integers(0, 9), fault=_FAULTS, pause_s=st.sampled_from([0.0, 0.0, 0.0, 40.0]), limits=_LIMITS
)
_MODELS = st.sampled_from(
    [
        model("a", "openai"),
        model("b", "openai", resumable=True),
        model("c", "anthropic"),
        model("d", "google", resumable=True),
        model("e", "compatible"),  # which this installation has not
    ]
)
_CHAINS = st.lists(_MODELS, min_size=1, max_size=3, unique_by=lambda one: one.id)


_RUNS = pytest.mark.parametrize(
    "runs",
    [
        settings(max_examples=100, deadline=None),
        pytest.param(settings(max_examples=10_000, deadline=None), marks=pytest.mark.trial),
    ],
    ids=["some", "many"],
)


@_RUNS
def test_whatever_befalls_one_answer_is_whole_or_a_fact_is_told(runs: settings) -> None:
    @runs
    @given(st.lists(_CUTS, max_size=12), _CHAINS, st.booleans(), st.none() | st.floats(0, 300))
    def law(cuts: list[Cut], chain: list[Model], has_tools: bool, left_s: float | None) -> None:
        cast = Cast(cuts, has_tools=has_tools)
        found = hastily(played(cast, chain, left_s=left_s))
        _one_answer_or_a_fact(cast, found, has_tools=has_tools)
        _asked_with_measure(cast, chain)

    law()


@_RUNS
def test_whatever_befalls_an_answer_that_is_taken_up_it_is_that_one_or_another(runs: settings) -> None:
    @runs
    @given(st.lists(_CUTS, max_size=8), _CHAINS, st.booleans())
    def law(cuts: list[Cut], chain: list[Model], is_lost: bool) -> None:
        cast = Cast(cuts)
        resumable = model("b", "openai", resumable=True)
        cast.compose(types.ChatCall(model="", turns=[], output_tokens=1, resumable=True))
        cast.lost |= {0} if is_lost else set()
        token = {"answer": 0, "deployment": deployments.of(SETTINGS)["openai"][0].name, "model": "b"}
        found = hastily(played(cast, [resumable, *(one for one in chain if one.id != "b")], token=token))
        _one_answer_or_a_fact(cast, found, has_tools=False)
        if found.finish and found.text != cast.texts()[0]:
            assert found.turned, "another answer than the one that may have been shown already"

    law()


def _one_answer_or_a_fact(cast: Cast, found: Heard, *, has_tools: bool) -> None:
    """Judge what was heard: `Cast`'s answers have no word in common."""
    assert (found.finish is None) != (found.fact is None)
    assert sum(isinstance(said, Finish) for said in found.said) == (found.finish is not None)
    if found.finish is not None:
        assert found.text in cast.texts()
        number = found.text.partition(".")[0]
        assert found.calls == ([number] if has_tools else [])
        assert found.said[-1] is found.finish
        assert found.served[-1] in {asked.model for asked in cast.asked}
    began = {said.text.partition(".")[0] for said in _since_the_last_turn(found) if isinstance(said, TextDelta)}
    assert len(began) <= 1, "two answers are mixed"
    for before, said in zip(found.said, found.said[1:], strict=False):
        assert not isinstance(before, Turned) or isinstance(said, Serving), "who goes on is said at once"
    assert all({"deployment", "model"} <= said.token.keys() for said in found.said if isinstance(said, Resumable))


def _since_the_last_turn(found: Heard) -> list[object]:
    places = [place for place, said in enumerate(found.said) if isinstance(said, Turned)]
    return list(found.said[places[-1] if places else 0 :])


def _asked_with_measure(cast: Cast, chain: list[Model]) -> None:
    for one in chain:
        streams = [asked for asked in cast.asked if asked.model == one.id and asked.how == "stream"]
        resumes = [asked for asked in cast.asked if asked.model == one.id and asked.how == "resume"]
        assert len(streams) <= SETTINGS.vendor_tries
        assert len(resumes) <= SETTINGS.vendor_tries * len(streams)
