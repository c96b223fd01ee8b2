from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import CandlewickError
from training.split import MIN_ROWS, Fractions, split_time

shares = st.integers(1, 8)


@settings(deadline=None)
@given(
    first=st.integers(0, 5_000),
    slots=st.integers(1, 20_000),
    horizon=st.integers(1, 240),
    parts=st.tuples(*[shares] * 3),
)
def test_split_time_any_history_no_label_reaches_a_later_span(
    first: int, slots: int, horizon: int, parts: tuple[int, int, int]
) -> None:
    fractions = Fractions(*(part / sum(parts) for part in parts))
    try:
        split = split_time(first, first + slots, fractions, horizon)
    except CandlewickError:
        return
    rows = [set(range(span.first, span.stop)) for span in split]
    seen_by_labels = [set(range(span.first + 1, span.stop + horizon)) for span in split]
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        assert max(seen_by_labels[earlier]) < min(rows[later])
        assert not seen_by_labels[earlier] & seen_by_labels[later]
    assert min(map(len, rows)) >= MIN_ROWS
    assert rows[0] <= set(range(first, first + slots))
    assert max(seen_by_labels[2]) == first + slots - 1


def test_split_time_default_fractions_cut_at_70_and_85_percent() -> None:
    split = split_time(0, 10_000, Fractions(), 3)
    assert split == ((0, 6_997), (7_000, 8_497), (8_500, 9_997))


def test_split_time_horizon_longer_than_a_span_says_how_many_bars_are_needed() -> None:
    with pytest.raises(CandlewickError, match=r"leave 0 for validation; with horizon 300 at least 2428 are needed"):
        split_time(0, 1_000, Fractions(), 300)
    assert split_time(0, 2_428, Fractions(), 300).test.slots >= MIN_ROWS


@pytest.mark.parametrize("fractions", [Fractions(0.7, 0.3, 0.0), Fractions(0.7, 0.2, 0.2), Fractions(1.2, -0.1, -0.1)])
def test_split_time_fractions_that_are_no_shares_are_refused(fractions: Fractions) -> None:
    with pytest.raises(CandlewickError, match="must be above 0 and sum to 1"):
        split_time(0, 10_000, fractions, 3)
