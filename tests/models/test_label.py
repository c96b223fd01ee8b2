from __future__ import annotations

from math import isnan, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.label import labels
from tests.models.random_candles import Floats, random_ohlcv

SLOTS = 60


def some_candles(seed: int, absent: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Close, high, low and a volatility that is unknown at first, (2, T)."""
    ohlcv = random_ohlcv(seed, series=2, slots=SLOTS, absent=absent)
    volatility = np.random.default_rng(seed).uniform(1e-4, 1e-2, (2, SLOTS))
    volatility[:, :5] = np.nan
    return ohlcv[3], ohlcv[1], ohlcv[2], np.where(np.isnan(ohlcv[3]), np.nan, volatility)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), absent=st.sampled_from([0.0, 0.05, 0.4]), horizon=st.sampled_from([1, 2, 15, 59]))
def test_labels_of_any_candles_equal_their_definition(seed: int, absent: float, horizon: int) -> None:
    close, high, low, volatility = some_candles(seed, absent)
    y_return, y_range, valid = labels(close, high, low, volatility, horizon)
    for series in range(2):
        for t in range(SLOTS):
            ahead = range(t + 1, t + horizon + 1)
            known = ahead[-1] < SLOTS and not isnan(volatility[series, t])
            known = known and not any(isnan(close[series, k]) for k in (t, *ahead))
            assert valid[series, t] == known
            unit = volatility[series, t]
            if not known:
                assert y_return[series, t] == y_range[series, t] == 0.0
                continue
            move = log(close[series, ahead[-1]] / close[series, t])
            mean = sum((high[series, k] - low[series, k]) / close[series, k] for k in ahead) / horizon
            assert y_return[series, t] == pytest.approx(move / (unit * sqrt(horizon)), rel=1e-9, abs=1e-12)
            assert y_range[series, t] == pytest.approx(log(max(mean, 0.1 * unit) / unit), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("horizon", [1, 3, 20])
def test_labels_never_look_past_their_horizon(horizon: int) -> None:
    first = some_candles(seed=1, absent=0.0)
    other = some_candles(seed=2, absent=0.2)
    cut = 40  # from here on everything is different
    close, high, low, volatility = (np.where(np.arange(SLOTS) < cut, a, b) for a, b in zip(first, other, strict=True))
    before, after = labels(*first, horizon), labels(close, high, low, volatility, horizon)
    sure = cut - horizon
    for expected, anew in zip(before, after, strict=True):
        np.testing.assert_array_equal(expected[:, :sure], anew[:, :sure])
    assert before[2][:, 5:sure].all()
    assert not np.array_equal(before[0][:, sure], after[0][:, sure])


def test_labels_of_a_standing_market_have_the_least_range() -> None:
    close = np.full((1, 10), 5.0)
    y_return, y_range, valid = labels(close, close, close, np.full((1, 10), 1e-6), 3)
    assert valid.tolist() == [[True] * 7 + [False] * 3]
    assert (y_return == 0.0).all()
    np.testing.assert_allclose(y_range[valid], log(0.1))


def test_labels_of_a_horizon_longer_than_the_table_are_none() -> None:
    assert not labels(*some_candles(seed=3, absent=0.0), horizon=SLOTS)[2].any()
    assert not labels(*some_candles(seed=3, absent=0.0), horizon=SLOTS + 5)[2].any()


def test_labels_of_no_horizon_are_refused() -> None:
    with pytest.raises(ValueError, match="use 1 or more"):
        labels(*some_candles(seed=4, absent=0.0), horizon=0)
