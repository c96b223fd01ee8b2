from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import CandlewickError
from training.folds import Schedule, Scheme, combinatorial, walk_forward
from training.split import Fractions, Span, Split, split_spread, split_time, validate_newest, validate_spread


def history(slots: int, symbols: int, seed: int, gaps: list[tuple[int, int]]) -> NDArray[np.int64]:
    """How many labelled rows each slot has: series begin and end when they like, outages lie where they like."""
    rng = np.random.default_rng(seed)
    labelled = rng.random((symbols, slots)) < 0.9
    for symbol in range(symbols):
        labelled[symbol, : rng.integers(slots // 2)] = False
        labelled[symbol, slots - rng.integers(slots // 3) :] = False
    for first, length in gaps:
        labelled[:, first : first + length] = False
    return np.asarray(labelled.sum(axis=0))


histories = st.builds(
    history,
    slots=st.integers(300, 2_500),
    symbols=st.integers(1, 4),
    seed=st.integers(0, 1_000),
    gaps=st.lists(st.tuples(st.integers(0, 2_400), st.integers(1, 300)), max_size=4),
)


def slots_of(span: Span, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(span.holds(np.arange(len(rows))) & (rows > 0))


def labels_of(slots: NDArray[np.int64], horizon: int, length: int) -> NDArray[np.bool_]:
    """Which slots the labels of these rows see: t + 1 .. t + H."""
    edges = np.zeros(length + 1, int)
    edges[slots + 1] += 1
    edges[np.minimum(slots + horizon + 1, length)] -= 1
    return np.cumsum(edges)[:-1] > 0


def hold_apart(rows: NDArray[np.int64], learned: Span, tested: Span, horizon: int) -> None:
    """No label of the one overlaps a label of the other, or a row of it."""
    own, other = slots_of(learned, rows), slots_of(tested, rows)
    length = len(rows) + horizon + 1
    mine, theirs = labels_of(own, horizon, length), labels_of(other, horizon, length)
    assert not (mine & theirs).any()
    assert not mine[other].any()
    assert not theirs[own].any()


def hold_complete(rows: NDArray[np.int64], split: Split, horizon: int, embargo: int = 0) -> None:
    """Each row until the end of the test is in one span, or in none because it lies within the purge of a border."""
    slots = np.arange(split.test.stop)
    held = np.stack([span.holds(slots) for span in split])
    assert (held.sum(axis=0) <= 1).all()
    borders = np.flatnonzero((np.diff(held.astype(np.int8), axis=1) != 0).any(axis=0))
    borders = np.append(borders, split.train.first - 1)
    lost = np.flatnonzero((rows[slots] > 0) & ~held.any(axis=0) & (slots >= split.train.first))
    assert (np.abs(lost[:, None] - borders).min(axis=1) <= horizon + embargo).all()


@settings(deadline=None, max_examples=60)
@given(rows=histories, horizon=st.integers(1, 200), parts=st.tuples(*[st.integers(1, 8)] * 3), spread=st.booleans())
def test_split_any_history_no_label_of_one_span_overlaps_another_and_no_row_is_lost(
    rows: NDArray[np.int64], horizon: int, parts: tuple[int, int, int], spread: bool
) -> None:
    cut = split_spread if spread else split_time
    try:
        split = cut(rows, Fractions(*(part / sum(parts) for part in parts)), horizon)
    except CandlewickError:
        return
    for one, other in itertools.combinations(split, 2):
        hold_apart(rows, one, other, horizon)
    hold_complete(rows, split, horizon)


@settings(deadline=None, max_examples=40)
@given(
    rows=histories,
    horizon=st.integers(1, 60),
    groups=st.integers(2, 7),
    tested=st.integers(1, 3),
    embargo=st.integers(0, 80),
)
def test_combinatorial_any_history_no_label_of_training_overlaps_a_tested_one(
    rows: NDArray[np.int64], horizon: int, groups: int, tested: int, embargo: int
) -> None:
    try:
        folds = list(combinatorial(rows, groups, tested, horizon, embargo))
    except CandlewickError:
        return
    assert [fold.groups for fold in folds] == list(itertools.combinations(range(groups), tested))
    for fold in folds:
        split = fold.split
        hold_apart(rows, split.train, split.validation, horizon)
        hold_apart(rows, split.train, split.test, horizon)
        hold_apart(rows, split.validation, split.test, horizon)
        hold_complete(rows, split, horizon, embargo)
        after = labels_of(slots_of(split.test, rows), horizon + embargo, len(rows) + horizon + embargo + 1)
        assert not any(after[slots_of(learned, rows)].any() for learned in split[:2])  # purge and embargo
    times_tested = np.sum([fold.split.test.holds(np.arange(len(rows))) for fold in folds], axis=0)
    assert set(times_tested[rows > 0].tolist()) == {math.comb(groups - 1, tested - 1)}  # each row equally often


def test_combinatorial_of_six_groups_trains_before_between_and_after_two_tested_ones() -> None:
    rows = np.full(6_000, 5)
    fold = next(fold for fold in combinatorial(rows, 6, 2, 3, 10) if fold.groups == (1, 3))
    test, train = slots_of(fold.split.test, rows), slots_of(fold.split.train, rows)
    assert test.tolist() == [*range(1_000, 2_000), *range(3_000, 4_000)]
    for first, stop in ((0, 997), (2_013, 2_997), (4_013, 6_000)):
        assert ((train >= first) & (train < stop)).sum() > 0.7 * (stop - first)
    assert not ((train >= 997) & (train < 2_013)).any()
    learned = len(train) + len(slots_of(fold.split.validation, rows))
    assert len(slots_of(fold.split.validation, rows)) / learned == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize(("groups", "tested"), [(3, 0), (3, 3), (1, 1)])
def test_combinatorial_without_a_group_to_test_or_to_train_is_refused(groups: int, tested: int) -> None:
    with pytest.raises(CandlewickError, match="cannot be tested on: at least 1, and 1 left to train"):
        next(combinatorial(np.ones(1_000, int), groups, tested, 3))


def test_combinatorial_of_a_horizon_longer_than_a_group_says_what_to_give() -> None:
    with pytest.raises(CandlewickError, match=r"0 usable rows are left for .*a horizon shorter than 900 bars"):
        list(combinatorial(np.ones(2_000, int), 4, 2, 900))


@settings(deadline=None, max_examples=60)
@given(
    rows=histories,
    train_bars=st.integers(100, 1_500),
    step_bars=st.integers(20, 600),
    horizon=st.integers(1, 100),
    embargo=st.integers(0, 30),
    scheme=st.sampled_from(["expanding", "rolling"]),
    spread=st.booleans(),
)
def test_walk_forward_any_history_learns_only_from_what_is_past(
    rows: NDArray[np.int64],
    train_bars: int,
    step_bars: int,
    horizon: int,
    embargo: int,
    scheme: Scheme,
    spread: bool,
) -> None:
    try:
        windows = walk_forward(rows, Schedule(train_bars, step_bars, horizon, scheme, embargo))
    except CandlewickError:
        return
    last_row = int(np.flatnonzero(rows)[-1])
    for window in {windows[0], windows[len(windows) // 2], windows[-1]}:
        assert window.cut == train_bars + window.step * step_bars
        assert slots_of(window.learned, rows).max() + horizon < window.cut
        assert slots_of(window.test, rows).min() >= window.cut + embargo
        hold_apart(rows, window.learned, window.test, horizon)
        oldest = window.cut - train_bars if scheme == "rolling" else 0
        due = (rows > 0) & (np.arange(len(rows)) >= oldest) & (np.arange(len(rows)) < window.cut - horizon)
        assert slots_of(window.learned, rows).tolist() == np.flatnonzero(due).tolist()
        parts = (
            validate_spread(window.learned, 0.2, horizon)
            if spread
            else validate_newest(window.learned, 0.2, rows, horizon)
        )
        hold_apart(rows, *parts, horizon)
        hold_complete(rows, Split(*parts, window.test), horizon, embargo)
    assert all(a.test.stop <= b.test.first for a, b in itertools.pairwise(windows))
    assert windows[-1].test.stop <= last_row + 1


def test_walk_forward_of_26_weeks_has_26_windows_the_last_one_shorter() -> None:
    rows = np.where(np.arange(72_031) < 1_563, 0, 10)
    windows = walk_forward(rows, Schedule(20_160, 2_016, 3))
    assert len(windows) == 26
    assert windows[0].learned == Span(1_563, 20_157)
    assert windows[0].test == Span(20_160, 22_176)
    assert windows[-1].learned == Span(1_563, 70_557)
    assert windows[-1].test == Span(70_560, 72_031)


def test_walk_forward_leaves_out_a_step_in_an_outage_and_keeps_count() -> None:
    rows = np.full(2_000, 3)
    rows[1_200:1_400] = 0
    assert [window.step for window in walk_forward(rows, Schedule(1_000, 200, 3))] == [0, 2, 3, 4]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule(3_000, 100, 3), r"no rows are left to test on: the candles have 2,000 bars.*smaller --train-bars"),
        (Schedule(1_000, 100, 990), r"would learn from 10 rows, at least 128.*a horizon shorter than 990"),
        (Schedule(40, 100, 3), "give --train-bars above 40"),
        (Schedule(1_000, 0, 3), "step_bars 0 must be 1 or more"),
        (Schedule(1_000, 100, 3, "sliding"), "scheme 'sliding' is unknown: expanding or rolling"),  # type: ignore[arg-type]
    ],
)
def test_walk_forward_schedule_that_cannot_work_is_told(schedule: Schedule, message: str) -> None:
    with pytest.raises(CandlewickError, match=message):
        walk_forward(np.ones(2_000, int), schedule)


def test_validate_newest_takes_its_share_of_the_rows_not_of_the_time() -> None:
    rows = np.where(np.arange(1_000) < 500, 10, 1)
    train, validation = validate_newest(Span(0, 1_000), 0.2, rows, 5)
    assert int(rows[validation.first :].sum()) == pytest.approx(0.2 * rows.sum(), abs=10)
    assert train == Span(0, validation.first - 5)
