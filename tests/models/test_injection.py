"""A made-up change is a market like any other: whole candles on one path, wilder where it was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.candle_table import CandleTable, build_table
from models.injection import HOUR_MS, Injection, inject
from tests.training.make_candles import make_table, with_gaps

BARS = 600
FROM_BAR = 250


def begin_of(table: CandleTable, bar: int = FROM_BAR) -> int:
    return int(table.open_time_ms[bar])


def chosen(table: CandleTable, stop_ms: int = 600_000) -> NDArray[np.bool_]:
    """Slots whose moves are to be five times as far."""
    return (table.open_time_ms >= begin_of(table)) & (table.open_time_ms % HOUR_MS < stop_ms)


def log_steps(table: CandleTable) -> NDArray[np.float64]:
    """`(4, S, T - 1)`: log distance of open, high, low and close from the close before."""
    return np.asarray(np.log(table.ohlcv[:4, :, 1:] / table.ohlcv[3, :, :-1]))


def injected_into(table: CandleTable, injection: Injection) -> tuple[CandleTable, NDArray[np.bool_]]:
    moved = inject(table, injection)
    assert moved.injected is not None
    return moved, moved.injected


def test_inject_in_its_minutes_moves_five_times_as_far_and_elsewhere_as_before() -> None:
    table = make_table(BARS)
    moved = inject(table, Injection(begin_of(table)))
    factor = np.where(chosen(table)[1:], 5.0, 1.0)
    assert 50 < (factor == 5).sum() < 70  # ten of every sixty
    np.testing.assert_allclose(log_steps(moved), factor * log_steps(table), rtol=0, atol=1e-12)


def test_inject_leaves_everything_before_it_and_all_volumes_to_the_last_bit() -> None:
    table = make_table(BARS)
    moved, injected = injected_into(table, Injection(begin_of(table)))
    np.testing.assert_array_equal(moved.ohlcv[:, :, :FROM_BAR], table.ohlcv[:, :, :FROM_BAR])
    np.testing.assert_array_equal(moved.ohlcv[4], table.ohlcv[4])
    assert not injected[:, :FROM_BAR].any()


def test_inject_marks_every_candle_from_the_first_changed_one_on() -> None:
    table = make_table(BARS)
    moved, injected = injected_into(table, Injection(begin_of(table)))
    first = int(np.flatnonzero(chosen(table))[0])
    assert first > FROM_BAR
    np.testing.assert_array_equal(injected, np.broadcast_to(np.arange(BARS) >= first, injected.shape))
    differs = (moved.ohlcv != table.ohlcv).any(axis=0)
    assert not (differs & ~injected).any()
    assert differs[injected].all()


def test_inject_gives_whole_candles() -> None:
    moved = inject(make_table(BARS), Injection(0, factor=7.3))
    opening, high, low, close, _volume = moved.ohlcv
    assert np.isfinite(moved.ohlcv).all()
    assert (low > 0).all()
    assert (low <= np.minimum(opening, close)).all()
    assert (high >= np.maximum(opening, close)).all()


def test_inject_over_gaps_keeps_them_absent_and_scales_the_step_across() -> None:
    table = make_table(BARS)
    hole = int(np.flatnonzero(chosen(table))[3])  # the bar after the hole is in the chosen minutes as well
    gapped = with_gaps(table, [(0, hole, 2)])
    moved, injected = injected_into(gapped, Injection(begin_of(table)))
    np.testing.assert_array_equal(moved.present, gapped.present)
    assert not injected[0, hole : hole + 2].any()
    across = np.log(moved.ohlcv[3, 0, hole + 2] / moved.ohlcv[3, 0, hole - 1])
    was = np.log(gapped.ohlcv[3, 0, hole + 2] / gapped.ohlcv[3, 0, hole - 1])
    assert across == pytest.approx(5 * was, rel=1e-9)


def test_inject_of_five_minute_candles_takes_those_that_open_in_the_span() -> None:
    minute = make_table(BARS, ("AAA/USDT",))
    times = 300_000 * (1_700_000_100_000 // 300_000) + 300_000 * np.arange(BARS, dtype=np.int64)
    table = build_table("binance", 300_000, {"AAA/USDT": (times, minute.ohlcv[:, 0])})
    moved = inject(table, Injection(begin_of(table)))
    factor = log_steps(moved)[3, 0] / log_steps(table)[3, 0]
    np.testing.assert_allclose(factor, np.where(chosen(table)[1:], 5.0, 1.0), rtol=1e-6)
    assert chosen(table).sum() == pytest.approx((BARS - FROM_BAR) / 6, abs=2)


def test_inject_from_the_first_candle_on_keeps_the_opening_price() -> None:
    table = make_table(BARS)
    whole = Injection(0, first_ms=0, stop_ms=HOUR_MS)
    moved, injected = injected_into(table, whole)
    np.testing.assert_allclose(moved.ohlcv[0, :, 0], table.ohlcv[0, :, 0], rtol=1e-12)
    assert injected.all()


def test_inject_twice_forgets_no_mark() -> None:
    table = make_table(BARS)
    once, first = injected_into(table, Injection(begin_of(table)))
    _, second = injected_into(once, Injection(int(table.close_time_ms[-1])))
    np.testing.assert_array_equal(first, second)


def test_inject_after_the_last_candle_changes_nothing() -> None:
    table = make_table(BARS)
    moved, injected = injected_into(table, Injection(int(table.close_time_ms[-1])))
    np.testing.assert_array_equal(moved.ohlcv, table.ohlcv)
    assert not injected.any()


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_inject_with_a_factor_that_is_none_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="factor"):
        inject(make_table(100), Injection(0, factor=factor))
