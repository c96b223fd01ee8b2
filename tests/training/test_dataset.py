from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.features import WARM_UP_BARS
from models.networks import build_network
from models.spec import Network
from tests.training.make_candles import MINUTE_MS, START_MS, SYMBOLS, make_table, with_gaps
from training import baselines
from training import dataset as module
from training.baselines import fit_baselines
from training.dataset import build_dataset, long_enough, whole_windows
from training.split import Fractions, split_time
from training.train import set_feature_scale

LOOKBACK = 16
gaps = st.lists(st.tuples(st.integers(0, 2), st.integers(1_400, 2_300), st.integers(1, 30)), max_size=5)


@settings(deadline=None, max_examples=15)
@given(gaps=gaps, horizon=st.integers(1, 20))
def test_dataset_any_gaps_no_window_and_no_label_touches_an_absent_slot(
    gaps: list[tuple[int, int, int]], horizon: int
) -> None:
    table = with_gaps(make_table(), gaps)
    dataset = build_dataset(table, LOOKBACK, horizon)
    symbol, slot = np.nonzero(dataset.labelled)
    assert len(symbol)
    around = slot[:, None] + np.arange(1 - LOOKBACK, horizon + 1)
    assert table.present[symbol[:, None], around].all()
    assert slot.min() == WARM_UP_BARS + LOOKBACK - 1


@settings(deadline=None, max_examples=8)
@given(gaps=gaps, horizon=st.integers(1, 20))
def test_dataset_what_comes_after_a_cut_changes_nothing_before_it(
    gaps: list[tuple[int, int, int]], horizon: int
) -> None:
    table = with_gaps(make_table(), gaps)
    dataset = build_dataset(table, LOOKBACK, horizon)
    split = split_time(dataset.labelled.sum(axis=0), Fractions(), horizon)
    ohlcv = table.ohlcv.copy()
    ohlcv[:4, :, split.validation.first :] *= 1.5
    other = build_dataset(replace(table, ohlcv=ohlcv), LOOKBACK, horizon)
    rows = dataset.rows(*split.train)
    np.testing.assert_array_equal(dataset.y_return[rows], other.y_return[rows])
    np.testing.assert_array_equal(dataset.y_range[rows], other.y_range[rows])
    for mine, theirs in zip(dataset.windows(rows), other.windows(rows), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    first = dataset.rows(split.validation.first, split.validation.first + 1)
    assert not np.array_equal(dataset.features[first], other.features[first])


def test_dataset_windows_are_the_last_rows_of_features() -> None:
    dataset = build_dataset(make_table(), LOOKBACK, 3)
    rows = dataset.rows(0, 2_400)
    windows = np.concatenate(list(dataset.windows(rows, chunk=1_000)))
    for n in (0, 999, 1_000, len(windows) - 1):
        symbol, slot = rows[0][n], rows[1][n]
        np.testing.assert_array_equal(windows[n], dataset.features[symbol, slot - LOOKBACK + 1 : slot + 1])


def test_dataset_rows_come_in_order_of_time_and_inside_the_span() -> None:
    dataset = build_dataset(make_table(), LOOKBACK, 3)
    symbol, slot = dataset.rows(1_700, 1_710)
    assert slot.tolist() == np.repeat(np.arange(1_700, 1_710), 3).tolist()
    assert symbol.tolist() == [0, 1, 2] * 10


def test_dataset_of_two_blocks_of_time_warms_up_in_each() -> None:
    table = make_table(bars=8_000)
    parts = with_gaps(table, [(symbol, 3_000, 2_000) for symbol in range(3)])
    dataset = build_dataset(parts, LOOKBACK, 3)
    assert len(parts.blocks()) == 2
    assert np.flatnonzero(np.diff(dataset.usable[0].astype(int)) == 1).tolist() == [1_514, 4_514]
    assert not dataset.labelled[:, 2_997:3_000].any()


def test_whole_windows_count_good_slots_only() -> None:
    good = np.array([[True, True, False, True, True, True, True]])
    assert whole_windows(good, 3).tolist() == [[False, False, False, False, False, True, True]]
    assert whole_windows(good, 1).tolist() == good.tolist()


def test_long_enough_leaves_out_what_is_short_or_stands_still() -> None:
    table = make_table(symbols=("AAA/USDT", "BBB/USDT", "CCC/USDT"))
    ohlcv = table.ohlcv.copy()
    ohlcv[:, 0, :1_000] = np.nan
    ohlcv[:4, 2] = 7.0
    changed = with_gaps(replace(table, ohlcv=ohlcv), [])
    kept, lacks = long_enough(changed, LOOKBACK, 3)
    assert kept.symbols == ("BBB/USDT",)
    assert lacks == {
        "AAA/USDT": "1400 bars in a row, 1519 are needed (warm-up, lookback, horizon)",
        "CCC/USDT": "its price never changes",
    }


def test_long_enough_with_nothing_left_names_every_series() -> None:
    with pytest.raises(CandlewickError, match=r"AAA/USDT: 900 bars in a row, 1519 are needed.*CCC/USDT"):
        long_enough(make_table(bars=900), LOOKBACK, 3)
    nothing = make_table().until(START_MS - MINUTE_MS)
    with pytest.raises(CandlewickError, match=f"{SYMBOLS[0]}: 0 bars"):
        long_enough(nothing, LOOKBACK, 3)


@contextmanager
def holding_at_most(times: float, features_of: CandleTable) -> Iterator[None]:
    """Fail where the block takes more memory than so many times the features of a table."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < times * features_of.present.size * 23 * 4


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As small beside these histories as they are beside real ones."""
    monkeypatch.setattr(module, "PIECE_ROWS", 256)
    monkeypatch.setattr(baselines, "PIECE_SLOTS", 64)


MANY = tuple(f"S{number}/USDT" for number in range(12))


@pytest.mark.parametrize("gap", [False, True], ids=["one block", "two blocks"])
def test_dataset_its_scale_and_its_baselines_take_little_more_memory_than_its_arrays(
    gap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arrays are 1.3 times the features. A copy of those in float64 alone would be twice as much as they are."""
    small_pieces(monkeypatch)
    table = make_table(bars=4_000, symbols=MANY)
    table = with_gaps(table, [(symbol, 1_700, 1_600) for symbol in range(12)]) if gap else table
    network = build_network(Network(kind="lstm", hidden=4, layers=1), 23, LOOKBACK)
    fit_baselines(warm := build_dataset(make_table(), LOOKBACK, 3), warm.rows(0, 2_400))  # imports and compiles
    with holding_at_most(1.6, table):
        dataset = build_dataset(table, LOOKBACK, 3)
        split = split_time(dataset.labelled.sum(axis=0), Fractions(0.9, 0.05, 0.05), 3)
        set_feature_scale(network, dataset, split.train)
    with holding_at_most(0.6, table):
        fit_baselines(dataset, dataset.rows(*split.train))


def test_feature_moments_and_baselines_by_pieces_are_those_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build_dataset(with_gaps(make_table(), [(1, 2_000, 30)]), LOOKBACK, 3)
    rows = dataset.rows(0, 2_300)
    at_once = fit_baselines(dataset, rows)
    small_pieces(monkeypatch)
    mean, sd = dataset.feature_moments(rows)
    known = dataset.features[rows].astype(float)
    np.testing.assert_allclose(mean, known.mean(axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(sd, known.std(axis=0), rtol=1e-12)
    found = fit_baselines(dataset, rows)
    assert found.har.mean == pytest.approx(at_once.har.mean, rel=1e-9)
    assert found.har.log_sd == pytest.approx(at_once.har.log_sd, rel=1e-6, abs=1e-9)
    assert found.range_ewma.span_bars == at_once.range_ewma.span_bars
    level = baselines.range_levels(dataset, (found.range_ewma.span_bars,))[0][rows]
    slope, intercept = np.polyfit(level, dataset.y_range[rows], 1)
    left = dataset.y_range[rows] - intercept - slope * level
    line = found.range_ewma
    assert (line.slope, line.intercept, line.sd) == pytest.approx((slope, intercept, left.std()), rel=1e-9)
