from __future__ import annotations

import numpy as np
import pytest
import talib

from models.features import CATALOGUE, Candles, FeatureState, select, step
from tests.models.plain_features import plain_features
from tests.models.random_candles import FIRST_SLOT, MINUTE, candles_at, random_ohlcv, step_through

BARS = 3_000
WARM = slice(1_500, None)


class Served:
    """One long series without absents, served from its first candle; what is looked at is warm."""

    def __init__(self) -> None:
        self.ohlcv = random_ohlcv(seed=1, series=1, slots=BARS)
        self.open, self.high, self.low, self.close, self.volume = self.ohlcv[:, 0]
        features, volatility = step_through(FeatureState(1), self.ohlcv)
        self.columns = dict(zip(CATALOGUE, features[0].T.astype(np.float64), strict=True))
        self.volatility = volatility[0]
        self.true_range = np.maximum(talib.ATR(self.high, self.low, self.close, 14), 0.2 * self.close * self.volatility)


@pytest.fixture(scope="module")
def served() -> Served:
    return Served()


def test_rsi_14_equals_talib(served: Served) -> None:
    expected = (talib.RSI(served.close, 14) - 50) / 20
    np.testing.assert_allclose(served.columns["rsi_14"][WARM], expected[WARM], atol=1e-5)


def test_macd_and_its_histogram_equal_talib_over_its_true_range(served: Served) -> None:
    macd, _, histogram = talib.MACD(served.close, 12, 26, 9)
    np.testing.assert_allclose(served.columns["macd"][WARM], (macd / served.true_range)[WARM], atol=1e-6)
    np.testing.assert_allclose(served.columns["macd_histogram"][WARM], (histogram / served.true_range)[WARM], atol=1e-6)


def test_distance_ema_20_equals_talib_over_its_true_range(served: Served) -> None:
    expected = (served.close - talib.EMA(served.close, 20)) / served.true_range
    np.testing.assert_allclose(served.columns["distance_ema_20"][WARM], expected[WARM], rtol=1e-6, atol=1e-6)


def test_bollinger_b_equals_the_bands_of_talib(served: Served) -> None:
    upper, middle, lower = talib.BBANDS(served.close, 20, 2.0, 2.0)
    expected = (served.close - middle) / ((upper - lower) / 2 + 0.05 * served.close * served.volatility)
    np.testing.assert_allclose(served.columns["bollinger_b"][WARM], expected[WARM], atol=1e-5)


@pytest.mark.parametrize("absent", [0.0, 0.15])
@pytest.mark.parametrize("at", [0, 1, 19, 21, 59, 60, 245, 1_800])
def test_step_at_any_age_equals_the_plain_definitions(absent: float, at: int) -> None:
    ohlcv = random_ohlcv(seed=2, series=1, slots=at + 1, absent=absent)
    ohlcv[:, 0, at] = random_ohlcv(seed=3, series=1, slots=1)[:, 0, 0]  # the last candle is there
    features, volatility = step_through(FeatureState(1), ohlcv)
    past = {FIRST_SLOT + s: tuple(ohlcv[:, 0, s].tolist()) for s in np.flatnonzero(np.isfinite(ohlcv[3, 0])).tolist()}
    expected = plain_features(past, MINUTE)
    assert volatility[0, at] == pytest.approx(expected.pop("volatility"), rel=1e-9)
    # A hundredth of a millionth of the usual move keeps the RSI of a dead market finite; hence its 1e-5.
    tolerances = [1e-5 if name == "rsi_14" else 2e-6 for name in CATALOGUE]
    differences = {
        name: (float(value), expected[name])
        for name, value, tolerance in zip(CATALOGUE, features[0, at], tolerances, strict=True)
        if abs(value - expected[name]) > tolerance * max(1.0, abs(expected[name]))
    }
    assert differences == {}


def test_step_after_a_gap_has_no_return_and_leaves_the_variance_alone() -> None:
    ohlcv = random_ohlcv(seed=4, series=1, slots=300)
    state = FeatureState(1)
    _, before = step_through(state, ohlcv[:, :, :200])
    features, volatility = step(state, np.array([0]), candles_at(ohlcv, np.array([0]), 202))
    assert features[0, CATALOGUE.index("return")] == 0.0
    assert volatility[0] == before[0, 199]


def test_step_when_nothing_traded_for_240_bars_says_that_volume_is_usual() -> None:
    ohlcv = random_ohlcv(seed=5, series=2, slots=600)
    ohlcv[4, 0, 300:] = 0.0  # traded, then stopped
    ohlcv[4, 1, :] = 0.0  # never traded
    features, _ = step_through(FeatureState(2), ohlcv)
    volumes = features[:, :, [CATALOGUE.index("log_volume"), CATALOGUE.index("volume_10_240")]]
    assert (volumes[0, 540:] == 0.0).all()
    assert (volumes[0, 301:480] != 0.0).all()
    assert (volumes[1] == 0.0).all()


def test_step_of_no_candle_returns_nothing() -> None:
    nothing = np.empty(0)
    none = np.empty(0, np.int64)
    features, volatility = step(FeatureState(3), none, Candles(none, none, *[nothing] * 5))
    assert features.shape == (0, len(CATALOGUE))
    assert volatility.shape == (0,)


def test_step_of_other_timeframes_tells_their_time_of_day() -> None:
    ohlcv = random_ohlcv(seed=6, series=3, slots=1)[:, :, 0]
    timeframes = np.array([60_000, 300_000, 3_600_000])
    closes = np.array([6, 15, 18]) * 3_600_000 + np.array([15, 30, 0]) * 60_000
    features, _ = step(FeatureState(3), np.arange(3), Candles(closes, timeframes, *ohlcv))
    hours = np.array([6.25, 15.5, 18.0]) / 24 * 2 * np.pi
    quarters = np.array([0.25, 0.5, 0.0]) * 2 * np.pi
    column = dict(zip(CATALOGUE, features.T, strict=True))
    np.testing.assert_allclose(column["day_sin"], np.sin(hours), atol=1e-6)
    np.testing.assert_allclose(column["day_cos_2"], np.cos(2 * hours), atol=1e-6)
    np.testing.assert_allclose(column["hour_sin"], np.sin(quarters), atol=1e-6)
    np.testing.assert_allclose(column["hour_cos"], np.cos(quarters), atol=1e-6)


def test_reset_row_is_as_cold_as_a_new_one() -> None:
    ohlcv = random_ohlcv(seed=7, series=2, slots=200)
    used, fresh = FeatureState(2), FeatureState(2)
    step_through(used, ohlcv[:, :, :130])
    used.reset(np.array([1]))
    after, _ = step_through(used, ohlcv[:, :, 130:])
    anew, _ = step_through(fresh, ohlcv[:, :, 130:])
    np.testing.assert_array_equal(after[1], anew[1])
    assert (after[0] != anew[0]).any()


def test_grown_state_keeps_what_it_knew_and_adds_cold_rows() -> None:
    ohlcv = random_ohlcv(seed=8, series=3, slots=150)
    small, large = FeatureState(2), FeatureState(3)
    step_through(small, ohlcv[:, :2, :100])
    step_through(large, np.where(np.arange(3)[:, None] < 2, ohlcv[:, :, :100], np.nan))
    small.grow(3)
    assert small.capacity == 4  # doubled
    grown, _ = step_through(small, ohlcv[:, :, 100:])
    never, _ = step_through(large, ohlcv[:, :, 100:])
    np.testing.assert_array_equal(grown, never)


def test_select_of_the_whole_catalogue_is_everything() -> None:
    assert select(CATALOGUE) == slice(None)


def test_select_of_some_names_gives_their_columns_in_order() -> None:
    columns = select(("macd", "return"))
    assert isinstance(columns, np.ndarray)
    assert columns.tolist() == [7, 0]


def test_select_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        select(("moon_phase",))
