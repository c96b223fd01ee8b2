"""However the log is cut, and wherever a process stops and another takes over: the same signals."""

from __future__ import annotations

import numpy as np
import pytest

from models.decode import Batch
from models.pending import CAPACITY
from models.series import Series
from tests.models.candle_records import BTC, MINUTE, START_SLOT
from tests.models.histories import random_history
from tests.models.market import Arrival, assert_same_signals, market, run, steady
from tests.models.small_bundles import (
    FIRST_SIGNAL,
    FIVES,
    NEW,
    OLD,
    ONE_MODEL,
    OTHER,
    close_ms,
    epoch,
    new_engine,
    timeline_of,
)


def some_series(seed: int, slots: int) -> list[Arrival]:
    rng = np.random.default_rng(seed)
    series = [Series("binance", f"S{i}/USDT", "5m" if i == 6 else "1m") for i in range(7)] + [BTC]
    stories = {}
    for i, each in enumerate(series):
        start = (START_SLOT + int(rng.integers(-20, 20))) * MINUTE // each.timeframe_ms
        stories[each] = (i % 3, random_history(rng, slots * MINUTE // each.timeframe_ms, start=start))
    return market(stories, seed)


@pytest.mark.parametrize("seed", range(2))
def test_engine_gives_the_same_however_the_log_is_cut(seed: int) -> None:
    rng, arrivals = np.random.default_rng(seed), some_series(seed, 500)
    swap_ms = close_ms(200)
    timeline = timeline_of(epoch(1, OLD), epoch(2, OTHER), epoch(3, FIVES), epoch(9, NEW, swap_ms))
    whole = run(new_engine(), arrivals, timeline)
    sizes = rng.choice([0, 1, 7, 60, 900], 200).tolist()
    cut = run(new_engine(), arrivals, timeline, sizes)
    assert_same_signals(cut.signals, whole.signals)
    for name in ("withheld", "ignored", "signalled"):
        assert +getattr(cut, name) == +getattr(whole, name), name
    assert (cut.candles, cut.dead) == (whole.candles, whole.dead)
    assert {signal.epoch for signal in whole.signals} == {1, 2, 3, 9}


@pytest.mark.parametrize("seed", range(2))
def test_engine_accounts_for_every_candle_and_keeps_the_order_of_each_series(seed: int) -> None:
    arrivals = some_series(seed, 500)
    outcome = run(new_engine(), arrivals, ONE_MODEL, sizes=[333] * 3)
    stale = outcome.ignored["duplicate"] + outcome.ignored["out_of_order"]
    assert outcome.candles == len(arrivals)
    assert outcome.candles - stale == len(outcome.signals) + sum(outcome.withheld.values())
    assert all(outcome.withheld[reason] for reason in ("absent", "warming_up", "absent_in_window", "no_bundle"))
    told = [(signal.symbol, signal.model, signal.close_time_ms) for signal in outcome.signals]
    assert len(set(told)) == len(told)
    for symbol in {symbol for symbol, _, _ in told}:
        own = [close for name, _, close in told if name == symbol]
        assert own == sorted(own)


def test_engine_of_a_burst_larger_than_a_model_call_gives_every_signal_once() -> None:
    series = [Series("binance", f"S{i}/USDT", "1m") for i in range(CAPACITY // 8 + 5)]
    arrivals = market({each: (i % 4, steady(FIRST_SIGNAL + 12, START_SLOT)) for i, each in enumerate(series)})
    outcome = run(new_engine(), arrivals, ONE_MODEL)
    assert len(outcome.signals) == 12 * len(series) > CAPACITY
    small = run(new_engine(), arrivals, ONE_MODEL, sizes=[len(series)] * 50)
    assert_same_signals(outcome.signals, small.signals)


def test_engine_of_an_empty_batch_gives_nothing() -> None:
    nothing = Batch([], [], [], np.zeros(0, np.int64), np.zeros(0, np.bool_))
    served = new_engine().serve(nothing, ONE_MODEL, now_ms=0)
    assert (served.signals, served.dead_letters, served.candles) == ([], [], 0)
    assert new_engine().rewind_offsets() == {}
