"""A compacted transcript gives back every event under the id that it had."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from infra.streams import Event, EventId
from workers import events, transcript

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=8)
_said = st.lists(
    st.one_of(
        _texts.map(lambda text: events.Delta(text=text)),
        st.integers(1, 9).map(lambda attempt: events.Started(attempt=attempt)),
        st.just(events.Progress(done=1, total=2, stage="تنضيد")),
        st.just(events.Queued()),
    ),
    max_size=30,
)


@given(said=_said, attempt=st.integers(0, 5), after=st.integers(0, 31))
def test_unfolding_is_compacting_backwards_from_any_id(said: list[events.Said], attempt: int, after: int) -> None:
    encoded = [events.encode(event) for event in said]
    kept = msgspec.json.decode(transcript.compact(attempt, encoded))
    expected = [Event(EventId(attempt, n), data) for n, data in enumerate(encoded, start=1) if n > after]
    assert transcript.unfold(kept, EventId(attempt, after)) == expected


def test_deltas_are_kept_as_one_text() -> None:
    said = [events.encode(events.Delta(text=word)) for word in ("مرحبا ", "بك", "!")]
    kept = msgspec.json.decode(transcript.compact(1, said))
    assert kept["entries"] == [{"type": "deltas", "text": "مرحبا بك!", "lengths": [6, 2, 1]}]


def test_nothing_kept_is_nothing_told() -> None:
    assert transcript.unfold(None, EventId(0, 0)) == []
