"""No window and no label spans a slot without a candle: held against a walk over each series, slot by slot.

The walk knows the law in words (docs/adr/0009) and no array of the code under test.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.candle_table import CandleTable, build_table
from tests.training.make_candles import make_table, with_gaps
from training.dataset import build_dataset

WARM_UP = 1_500
COLD_AFTER = 60
MOST_ABSENT = 75
BARS = 1_800
SYMBOLS = ("AAA/USDT", "BBB/USDT")
Gaps = list[tuple[int, int, int]]

lengths = st.one_of(st.integers(1, 5), st.integers(55, 80))
anywhere = st.tuples(st.integers(0, 1), st.integers(0, BARS - 1), lengths)
late = st.tuples(st.integers(0, 1), st.integers(1_480, BARS - 1), lengths)
gaps_anywhere = st.lists(st.one_of(late, anywhere), max_size=5)


@cache
def market() -> CandleTable:
    return make_table(BARS, SYMBOLS)


def is_warm(times: set[int], slot: int, cold_since: int) -> bool:
    """A candle, long enough after the cold start, and few of the slots since the warm-up began are absent."""
    if slot not in times or slot - cold_since < WARM_UP:
        return False
    return sum(back not in times for back in range(slot - WARM_UP + 1, slot + 1)) <= MOST_ABSENT


def walk(times: set[int], last: int, lookback: int, horizon: int) -> tuple[set[int], set[int]]:
    """The slots of one series whose window may be used, and those whose label is known too."""
    usable, labelled = set(), set()
    cold_since, newest, run = -1, -1, 0
    for slot in range(last + 1):
        if slot in times:
            if newest < 0 or slot - newest > COLD_AFTER:
                cold_since = slot
            newest = slot
        run = run + 1 if cold_since >= 0 and is_warm(times, slot, cold_since) else 0
        if run >= lookback:
            usable.add(slot)
            if all(ahead in times for ahead in range(slot, slot + horizon + 1)):
                labelled.add(slot)
    return usable, labelled


@settings(deadline=None, max_examples=10)
@given(gaps=gaps_anywhere, lookback=st.integers(1, 40), horizon=st.integers(1, 30))
@example(gaps=[(0, 1_600, 59)], lookback=8, horizon=3)  # the series goes on
@example(gaps=[(0, 100, 60)], lookback=8, horizon=3)  # it starts anew
@example(gaps=[(0, 500, 50), (0, 600, 25)], lookback=8, horizon=3)  # 5 % of the warm-up, and one more
@example(gaps=[(0, 500, 50), (0, 600, 26)], lookback=8, horizon=3)
@example(gaps=[(1, BARS - 1, 1)], lookback=1, horizon=1)
def test_dataset_of_any_gaps_uses_exactly_the_rows_that_the_law_allows(gaps: Gaps, lookback: int, horizon: int) -> None:
    table = with_gaps(market(), gaps)
    dataset = build_dataset(table, lookback, horizon)
    for i in range(len(table.symbols)):
        times = set(np.flatnonzero(table.present[i]).tolist())
        usable, labelled = walk(times, len(table.open_time_ms) - 1, lookback, horizon)
        assert set(np.flatnonzero(dataset.usable[i]).tolist()) == usable
        assert set(np.flatnonzero(dataset.labelled[i]).tolist()) == labelled


@pytest.mark.parametrize("silence", [1_501, 100_000])
def test_dataset_across_a_silence_of_all_is_two_histories(silence: int) -> None:
    whole, half = market(), BARS - 150
    late = replace(whole, open_time_ms=whole.open_time_ms + (BARS + silence) * whole.timeframe_ms)
    late = late.until(int(late.close_time_ms[half - 1]))
    times = np.concatenate([whole.open_time_ms, late.open_time_ms])
    ohlcv = np.concatenate([whole.ohlcv, late.ohlcv], axis=2)
    series = {symbol: (times, ohlcv[:, i]) for i, symbol in enumerate(whole.symbols)}
    joined = build_dataset(build_table(whole.exchange, whole.timeframe_ms, series), 8, 5)
    apart = [build_dataset(one, 8, 5) for one in (whole, late)]
    assert joined.labelled.shape[1] == BARS + half
    assert all(one.labelled.any() for one in apart)
    for name in ("usable", "labelled", "features", "y_return", "y_range"):
        two = np.concatenate([getattr(one, name) for one in apart], axis=1)
        np.testing.assert_array_equal(getattr(joined, name), two)


@settings(deadline=None, max_examples=4)
@given(gaps=st.lists(late, min_size=1, max_size=3), horizon=st.integers(1, 30))
def test_dataset_label_of_any_gaps_is_what_the_prices_say(gaps: Gaps, horizon: int) -> None:
    table = with_gaps(market(), gaps)
    dataset = build_dataset(table, 8, horizon)
    _, high, low, close, _ = table.ohlcv
    symbol, slot = dataset.rows(0, len(table.open_time_ms))
    assert len(slot)
    for i, t in list(zip(symbol.tolist(), slot.tolist(), strict=True))[:: max(1, len(slot) // 20)]:
        volatility = dataset.volatility[i, t]
        ahead = slice(t + 1, t + horizon + 1)
        moved = np.log(close[i, t + horizon] / close[i, t]) / (volatility * horizon**0.5)
        spread = max(float(np.mean((high[i, ahead] - low[i, ahead]) / close[i, ahead])), 0.1 * volatility)
        assert dataset.y_return[i, t] == pytest.approx(moved, rel=1e-9, abs=1e-12)
        assert dataset.y_range[i, t] == pytest.approx(np.log(spread / volatility), rel=1e-9, abs=1e-12)
