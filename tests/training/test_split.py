from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import CandlewickError
from training.split import MIN_ROWS, VALIDATION_BLOCK_BARS, Fractions, Span, split_spread, split_time

gaps = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 200)), max_size=4)


@settings(deadline=None)
@given(
    slots=st.integers(1, 3_000),
    gaps=gaps,
    horizon=st.integers(1, 240),
    parts=st.tuples(*[st.integers(1, 8)] * 3),
    seed=st.integers(0, 1_000),
)
def test_split_time_any_history_no_label_reaches_a_later_span(
    slots: int, gaps: list[tuple[int, int]], horizon: int, parts: tuple[int, int, int], seed: int
) -> None:
    rows = np.random.default_rng(seed).integers(0, 10, slots)
    for first, length in gaps:
        rows[first : first + length] = 0
    try:
        split = split_time(rows, Fractions(*(part / sum(parts) for part in parts)), horizon)
    except CandlewickError:
        return
    own = [set(range(span.first, span.stop)) for span in split]
    seen_by_labels = [set(range(span.first + 1, span.stop + horizon)) for span in split]
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        assert max(seen_by_labels[earlier]) < min(own[later])
        assert not seen_by_labels[earlier] & seen_by_labels[later]
    assert min(rows[span.first : span.stop].sum() for span in split) >= MIN_ROWS
    assert rows[: split.train.first].sum() == rows[split.test.stop :].sum() == 0


def test_split_time_default_fractions_cut_at_60_and_75_percent() -> None:
    split = split_time(np.full(10_000, 9), Fractions(), 3)
    assert split == (Span(0, 5_997), Span(6_000, 7_497), Span(7_500, 10_000))


def test_split_time_series_that_ends_late_does_not_get_the_test_span_alone() -> None:
    rows = np.where(np.arange(10_000) < 7_000, 10, 1)  # nine of ten symbols end at 7,000
    split = split_time(rows, Fractions(), 3)
    assert rows[split.test.first : split.test.stop].sum() == pytest.approx(0.25 * rows.sum(), rel=0.01)
    assert rows[split.test.first] == 10


def test_split_time_horizon_longer_than_a_span_says_what_to_give() -> None:
    with pytest.raises(CandlewickError, match=r"0 usable rows are left for validation.*shorter than 300 bars"):
        split_time(np.ones(1_000, int), Fractions(), 300)


def test_split_time_without_a_row_is_refused() -> None:
    with pytest.raises(CandlewickError, match="0 usable rows are left for train"):
        split_time(np.zeros(1_000, int), Fractions(), 3)


@pytest.mark.parametrize("fractions", [Fractions(0.7, 0.3, 0.0), Fractions(0.7, 0.2, 0.2), Fractions(1.2, -0.1, -0.1)])
def test_split_time_fractions_that_are_no_shares_are_refused(fractions: Fractions) -> None:
    with pytest.raises(CandlewickError, match="must be above 0 and sum to 1"):
        split_time(np.ones(10_000, int), fractions, 3)


@settings(deadline=None)
@given(
    slots=st.integers(500, 6_000),
    horizon=st.integers(1, 60),
    parts=st.tuples(st.integers(6, 20), st.integers(1, 4), st.integers(1, 4)),
)
def test_split_spread_no_label_of_one_span_lies_in_another(
    slots: int, horizon: int, parts: tuple[int, int, int]
) -> None:
    rows = np.full(slots, 3)
    try:
        split = split_spread(rows, Fractions(*(part / sum(parts) for part in parts)), horizon)
    except CandlewickError:
        return
    own = [np.flatnonzero(span.holds(np.arange(slots))) for span in split]
    seen_by_labels = [set((slot[:, None] + np.arange(1, horizon + 1)).ravel().tolist()) for slot in own]
    for one, other in ((0, 1), (1, 0), (0, 2), (1, 2)):
        assert not seen_by_labels[one] & set(own[other].tolist())
        assert not seen_by_labels[one] & seen_by_labels[other]


@pytest.mark.parametrize("horizon", [3, 60, 240, 1_440])
def test_split_spread_of_a_long_horizon_leaves_most_rows_to_train(horizon: int) -> None:
    slots = np.arange(131_400)
    split = split_spread(np.full(len(slots), 9), Fractions(0.89, 0.1, 0.01), horizon)
    train, validation, _ = (int(span.holds(slots).sum()) for span in split)
    assert train > 0.6 * len(slots)
    assert validation > 0.07 * len(slots)


def test_split_spread_trains_on_the_newest_bars_and_validates_all_over() -> None:
    split = split_spread(np.full(20_000, 9), Fractions(0.88, 0.1, 0.02), 3)
    train, validation, test = (np.flatnonzero(span.holds(np.arange(20_000))) for span in split)
    assert test.tolist() == list(range(19_600, 20_000))
    assert train[-1] == 19_596  # its label ends right before the test span
    assert train[-1] - validation[-1] > VALIDATION_BLOCK_BARS * 5
    assert len(validation) / (len(train) + len(validation)) == pytest.approx(0.1, abs=0.02)
    assert validation[0] < 2_500


@pytest.mark.parametrize("share", [1e-9, 1e-3])
def test_split_spread_with_a_share_too_small_to_test_on_takes_the_least_rows_that_do(share: float) -> None:
    rows = np.full(20_000, 3)
    split = split_spread(rows, Fractions(0.9 - share, 0.1, share), 3)
    assert split.test == Span(20_000 - -(-MIN_ROWS // 3), 20_000)
    assert split.train.stop == split.test.first - 3
    with pytest.raises(CandlewickError, match="must be above 0"):
        split_spread(rows, Fractions(0.9, 0.1, 0.0), 3)
