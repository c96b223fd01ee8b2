"""Laws of the feature step that hold for any candles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.continuity import COLD_AFTER_ABSENT
from models.features import CATALOGUE, WARM_UP_BARS, Candles, FeatureState, step
from tests.models.random_candles import FIRST_SLOT, MINUTE, candles_at, closes_at, random_ohlcv, step_through

laws = settings(derandomize=True, deadline=None, max_examples=20, phases=(Phase.explicit, Phase.generate, Phase.shrink))
seeds = st.integers(0, 2**32 - 1)
exponents = st.floats(-8, 8)


@laws
@given(seed=seeds, price=exponents, volume=exponents)
def test_features_of_any_scale_of_price_and_volume_are_the_same(seed: int, price: float, volume: float) -> None:
    ohlcv = np.repeat(random_ohlcv(seed, series=1, slots=150, absent=0.05), 2, axis=1)
    ohlcv[:4, 1] *= 10.0**price
    ohlcv[4, 1] *= 10.0**volume
    features, volatility = step_through(FeatureState(2), ohlcv)
    np.testing.assert_allclose(features[1], features[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(volatility[1], volatility[0], rtol=1e-7)


prices = st.sampled_from([1e-8, 1.5e-8, 0.1, 1.0, 1.0000001, 100.0, 123_456.0, 1e8])
bars = st.tuples(st.lists(prices, min_size=4, max_size=4), st.sampled_from([0.0, 1e-12, 1.0, 1e12]), st.integers(1, 3))
runs = st.tuples(bars, st.integers(1, 90))  # a bar, repeated


@laws
@given(runs=st.lists(runs, min_size=1, max_size=12), jump=st.integers(1, COLD_AFTER_ABSENT))
def test_features_of_degenerate_candles_are_finite(
    runs: list[tuple[tuple[list[float], float, int], int]], jump: int
) -> None:
    state, slot, row = FeatureState(1), FIRST_SLOT, np.array([0])
    for (four, volume, pace), times in runs:
        low, first, last, high = sorted(four)
        for _ in range(times):
            slot += pace
            values = (np.array([value]) for value in (first, high, low, last, volume))
            features, volatility = step(state, row, Candles(np.array([slot * MINUTE]), np.array([MINUTE]), *values))
            assert np.isfinite(features).all()
            assert 1e-6 <= volatility[0] < np.inf
        slot += jump - 1


def test_features_of_a_price_that_stands_still_for_a_day_are_finite_and_calm() -> None:
    ohlcv = random_ohlcv(seed=1, series=1, slots=2_000)
    ohlcv[:4, :, 200:] = 1e-8
    ohlcv[4, :, 200:] = 0.0
    features, volatility = step_through(FeatureState(1), ohlcv)
    assert np.isfinite(features).all()
    assert volatility[0, -1] == 1e-6
    calm = dict(zip(CATALOGUE, features[0, -1], strict=True))
    still = ("return", "range", "rsi_14", "macd", "macd_histogram", "distance_ema_20", "bollinger_b", "log_volume")
    np.testing.assert_allclose([calm[name] for name in still], 0.0, atol=1e-6)


@settings(laws, max_examples=6)
@given(seed=seeds, absent=st.sampled_from([0.0, 0.02, 0.2]))
def test_features_of_a_series_do_not_depend_on_its_company_by_a_single_bit(seed: int, absent: float) -> None:
    ohlcv = random_ohlcv(seed, series=9, slots=130, absent=absent)
    random = np.random.default_rng(seed)
    together, grouped, alone = FeatureState(9), FeatureState(9), FeatureState(9)
    for at in range(130):
        rows = np.flatnonzero(np.isfinite(ohlcv[3, :, at]))
        expected = step(together, rows, candles_at(ohlcv, rows, at))
        shuffled = random.permutation(rows)
        cut = int(random.integers(0, len(rows) + 1))
        for state, parts in ((grouped, [shuffled[:cut], shuffled[cut:]]), (alone, shuffled[:, None])):
            for part in parts:
                features, volatility = step(state, part, candles_at(ohlcv, part, at))
                places = np.searchsorted(rows, part)
                assert (features == expected[0][places]).all()
                assert (volatility == expected[1][places]).all()


@laws
@given(seed=seeds, cut=st.integers(1, 119))
def test_features_never_change_with_later_candles(seed: int, cut: int) -> None:
    ohlcv, other = random_ohlcv(seed, 2, 120, absent=0.05), random_ohlcv(seed + 1, 2, 120, absent=0.3)
    changed = np.concatenate([ohlcv[:, :, :cut], other[:, :, cut:]], axis=2)
    features, volatility = step_through(FeatureState(2), ohlcv)
    anew, volatility_anew = step_through(FeatureState(2), changed)
    np.testing.assert_array_equal(features[:, :cut], anew[:, :cut])
    np.testing.assert_array_equal(volatility[:, :cut], volatility_anew[:, :cut])


def _from_cold(ohlcv: NDArray[np.float64], start: int) -> NDArray[np.float32]:
    """Features of a run that begins at slot `start` of the table, NaN before."""
    later = ohlcv.copy()
    later[:, :, :start] = np.nan
    return step_through(FeatureState(ohlcv.shape[1]), later)[0]


@pytest.mark.parametrize(("seed", "absent"), [(1, 0.0), (2, 0.03), (3, 0.05)])
def test_features_from_cold_are_exact_after_the_warm_up(seed: int, absent: float) -> None:
    slots, start = WARM_UP_BARS + 1_000, 641
    ohlcv = random_ohlcv(seed, series=8, slots=slots, absent=absent)
    ohlcv[4, 1, :start] *= 1e6  # a volume, a price and a volatility of another world before the restart
    ohlcv[:4, 2, :start] *= 1e3
    ohlcv[3, 3, :start:2] *= 1.2
    ohlcv[1, 3] = np.maximum(ohlcv[1, 3], ohlcv[3, 3])
    ohlcv[:4, 4, start:] = 55.0  # and one that stands still ever after
    ohlcv[4, 4, start:] = 0.0
    ohlcv[:, :, start] = ohlcv[:, :, start + 1] = 55.0  # both runs know this slot
    whole, restarted = step_through(FeatureState(8), ohlcv)[0], _from_cold(ohlcv, start)
    exact = slice(start + WARM_UP_BARS, None)
    np.testing.assert_allclose(restarted[:, exact], whole[:, exact], rtol=1e-6, atol=1e-6)
    assert np.nanmax(np.abs(restarted[:, start : start + 200] - whole[:, start : start + 200])) > 0.1


def test_features_see_no_more_than_the_warm_up() -> None:
    """The longest memory is the 1,440-bar window: a shock is forgotten for good between 1,381 and 1,440 bars later."""
    calm = random_ohlcv(seed=4, series=1, slots=1_700)
    shocked = calm.copy()
    shocked[:4, 0, 100:] *= 1.5
    differences = np.abs(step_through(FeatureState(1), shocked)[0] - step_through(FeatureState(1), calm)[0])[0]
    column = CATALOGUE.index("volatility_1440")
    assert differences[1_480, column] > 0.1
    assert (differences[100 + 1_440 :] < 2e-6).all()


def test_closes_at_is_the_grid_that_the_step_counts() -> None:
    np.testing.assert_array_equal(closes_at(3) // MINUTE, FIRST_SLOT + np.arange(3))
