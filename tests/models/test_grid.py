from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.candle_files import read_candles
from models.continuity import COLD_AFTER_ABSENT, MAX_ABSENT
from models.features import CATALOGUE, WARM_UP_BARS, FeatureState, step
from models.grid import grid_features, warm_slots
from tests.models.random_candles import MINUTE, candles_at, closes_at, random_ohlcv

REAL = Path(__file__).parents[3] / "shared" / "data" / "binance_spot_1m" / "BTCUSDT_2020covid.csv.xz"

Floats = NDArray[np.float64]


def serve(ohlcv: Floats) -> tuple[NDArray[np.float32], Floats]:
    """Candle by candle as it is served, with the cold restarts of serving: NaN where absent."""
    _, series, slots = ohlcv.shape
    state, missing = FeatureState(series), np.full(series, COLD_AFTER_ABSENT)
    features, volatility = (
        np.full((series, slots, len(CATALOGUE)), np.nan, np.float32),
        np.full((series, slots), np.nan),
    )
    for at in range(slots):
        present = np.isfinite(ohlcv[3, :, at])
        rows = np.flatnonzero(present)
        state.reset(rows[missing[rows] >= COLD_AFTER_ABSENT])
        features[rows, at], volatility[rows, at] = step(state, rows, candles_at(ohlcv, rows, at))
        missing = np.where(present, 0, missing + 1)
    return features, volatility


def assert_same_where_warm(ohlcv: Floats) -> NDArray[np.bool_]:
    features, volatility, warm = grid_features(closes_at(ohlcv.shape[2]), MINUTE, ohlcv)
    served, served_volatility = serve(ohlcv)
    np.testing.assert_allclose(features[warm], served[warm], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(volatility[warm], served_volatility[warm], rtol=1e-6)
    assert (features[~warm] == 0).all()
    assert np.isnan(volatility[~warm]).all()
    return warm


@pytest.mark.parametrize(("seed", "absent"), [(1, 0.0), (2, 0.01), (3, 0.04)])
def test_grid_features_of_random_candles_equal_the_served_ones(seed: int, absent: float) -> None:
    ohlcv = random_ohlcv(seed, series=3, slots=4_000, absent=absent)
    ohlcv[:, 1, :777] = np.nan  # listed later
    ohlcv[:, 2, 2_400 : 2_400 + COLD_AFTER_ABSENT - 1] = np.nan  # a gap just short of a cold restart
    warm = assert_same_where_warm(ohlcv)
    assert warm[0].sum() > 1_500


def test_grid_features_restart_cold_after_60_absent_slots() -> None:
    ohlcv = random_ohlcv(seed=4, series=2, slots=3_800)
    ohlcv[:, 0, 1_900 : 1_900 + COLD_AFTER_ABSENT] = np.nan
    warm = assert_same_where_warm(ohlcv)
    back = 1_900 + COLD_AFTER_ABSENT
    assert warm[0, WARM_UP_BARS:1_900].all()
    assert not warm[0, 1_900 : back + WARM_UP_BARS].any()
    assert warm[0, back + WARM_UP_BARS :].all()
    assert warm[1, WARM_UP_BARS:].all()


def test_grid_features_of_real_candles_with_an_outage_equal_the_served_ones() -> None:
    if not REAL.exists():
        pytest.skip(f"no real candles at {REAL}; run from a checkout beside shared/data")
    ohlcv = read_candles([REAL]).ohlcv[:, :, :8_500]
    assert np.isnan(ohlcv).any()  # 2020-02-19: the exchange was down for hours
    warm = assert_same_where_warm(ohlcv)
    assert 4_000 < warm.sum() < 6_000


def test_grid_features_never_change_with_later_candles() -> None:
    ohlcv, later = random_ohlcv(seed=5, series=2, slots=3_000, absent=0.02), 2_345
    changed = ohlcv.copy()
    changed[:, :, later:] = random_ohlcv(seed=6, series=2, slots=3_000 - later)
    features, volatility, warm = grid_features(closes_at(3_000), MINUTE, ohlcv)
    anew, volatility_anew, warm_anew = grid_features(closes_at(3_000), MINUTE, changed)
    np.testing.assert_array_equal(features[:, :later], anew[:, :later])
    np.testing.assert_array_equal(volatility[:, :later], volatility_anew[:, :later])
    np.testing.assert_array_equal(warm[:, :later], warm_anew[:, :later])
    assert (features[:, later:] != anew[:, later:]).any()


def test_grid_features_of_times_with_a_jump_are_refused() -> None:
    times = closes_at(10)
    times[5:] += MINUTE
    with pytest.raises(ValueError, match="consecutive"):
        grid_features(times, MINUTE, random_ohlcv(seed=7, series=1, slots=10))


@pytest.mark.parametrize("shape", [(1, 0), (0, 10), (2, 1), (1, 61)])
def test_grid_features_of_a_short_table_are_not_warm(shape: tuple[int, int]) -> None:
    features, volatility, warm = grid_features(closes_at(shape[1]), MINUTE, random_ohlcv(8, *shape))
    assert features.shape == (*shape, len(CATALOGUE))
    assert volatility.shape == warm.shape == shape
    assert not warm.any()


def test_warm_slots_start_anew_after_60_absent() -> None:
    present = np.ones((1, 5_000), np.bool_)
    present[0, :5] = False
    present[0, 1_600 : 1_600 + COLD_AFTER_ABSENT] = False
    present[0, 4_000 : 4_000 + COLD_AFTER_ABSENT - 1] = False  # not long enough
    back = 1_600 + COLD_AFTER_ABSENT
    expected = [*range(5 + WARM_UP_BARS, 1_600), *range(back + WARM_UP_BARS, 4_000), *range(4_059, 5_000)]
    assert np.flatnonzero(warm_slots(present)).tolist() == expected


def test_warm_slots_need_the_warm_up_and_few_absents() -> None:
    present = np.ones((2, 2 * WARM_UP_BARS + 200), np.bool_)
    present[1, 100 : 100 + 2 * (MAX_ABSENT + 1) : 2] = False  # one too many
    warm = warm_slots(present)
    assert np.flatnonzero(warm[0])[0] == WARM_UP_BARS
    assert np.flatnonzero(warm[1])[0] == 100 + WARM_UP_BARS  # as the first of them drops out
    assert warm[1, 100 + WARM_UP_BARS :].all()
