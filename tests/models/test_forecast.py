import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from models.distribution import StudentTCdf
from models.features import CATALOGUE
from models.forecast import Forecast, Interpreter
from models.spec import MOST_PARAMETER, Calibration, Distribution, Har, Spec, Thresholds, canonical_json, parse_spec
from tests.models.make_bundle import make_spec

Floats = NDArray[np.float64]
Rows = tuple[NDArray[np.float32], Floats, Floats, NDArray[np.float32]]

CALIBRATION = Calibration(
    return_location_factor=0.4,
    return_scale_factor=1.1,
    range_location_shift=-0.05,
    range_scale_factor=0.9,
    interval_coverage=0.75,
)


def rows(n: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    raw = rng.normal(0.0, 0.6, (n, 4)).astype(np.float32)
    close, volatility = rng.uniform(0.01, 60_000.0, n), rng.uniform(1e-5, 2e-2, n)
    return raw, close, volatility, rng.normal(0.0, 1.5, (n, len(CATALOGUE))).astype(np.float32)


def calibrated_spec() -> Spec:
    return make_spec(calibration=CALIBRATION, horizon_bars=7, distribution=Distribution(dof=4.6))


def test_interpret_equals_the_formulas_row_by_row() -> None:
    spec, n = calibrated_spec(), 50
    raw, close, volatility, features = rows(n)
    forecast = Interpreter(spec).interpret(raw, close, volatility, features)
    t = stats.t(4.6)
    for k in range(n):
        r, c, v = raw[k].astype(float), close[k], volatility[k]
        location, scale = r[0] * 0.4, math.exp(r[1]) * 1.1
        range_location, range_scale = r[2] - 0.05, math.exp(r[3]) * 0.9
        unit, q = v * math.sqrt(7), t.ppf(0.875)
        expected = {
            "location": location,
            "scale": scale,
            "range_location": range_location,
            "range_scale": range_scale,
            "ewma_scale": spec.baselines.return_scale,
            "probability_up": t.cdf(location / scale),
            "expected_return_bps": location * unit * 1e4,
            "expected_range_bps": math.exp(range_location + range_scale**2 / 2) * v * 1e4,
            "interval_low": c * math.exp((location - q * scale) * unit),
            "interval_high": c * math.exp((location + q * scale) * unit),
        }
        for name, value in expected.items():
            assert getattr(forecast, name)[k] == pytest.approx(value, rel=1e-7, abs=1e-12), name


def test_interpret_baseline_of_the_range_follows_har() -> None:
    har = Har(features=(CATALOGUE[20], CATALOGUE[1]), mean=(0.5, 2.0, -1.0), log_sd=(-0.2, 0.1, 0.3))
    spec = make_spec(baselines=msgspec.structs.replace(make_spec().baselines, har=har))
    raw, close, volatility, features = rows(40)
    forecast = Interpreter(spec).interpret(raw, close, volatility, features)
    first, second = features[:, 20].astype(float), features[:, 1].astype(float)
    np.testing.assert_allclose(forecast.har_location, 0.5 + 2.0 * first - second, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(forecast.har_scale, np.exp(-0.2 + 0.1 * first + 0.3 * second), rtol=1e-12)


def test_interpret_of_wild_features_keeps_the_scale_of_har_within_bounds() -> None:
    raw, close, volatility, features = rows(2)
    features[0], features[1] = 1e6, -1e6
    forecast = Interpreter(make_spec()).interpret(raw, close, volatility, features)
    assert sorted(forecast.har_scale.tolist()) == pytest.approx([math.exp(-4), math.exp(4)])


@pytest.mark.parametrize("factor", [1 / MOST_PARAMETER, MOST_PARAMETER])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_interpret_by_a_spec_at_its_bounds_gives_numbers_whatever_the_network_says(factor: float, sign: float) -> None:
    most = sign * MOST_PARAMETER
    har = Har(features=CATALOGUE, mean=(most, *[most, -most] * 11, most), log_sd=(most,) * 24)
    calibration = Calibration(
        return_location_factor=10.0, return_scale_factor=factor, range_scale_factor=factor, range_location_shift=most
    )
    spec = make_spec(calibration=calibration, baselines=msgspec.structs.replace(make_spec().baselines, har=har))
    assert parse_spec(canonical_json(spec)) == spec
    _, close, volatility, features = rows(3)
    huge = float(np.finfo(np.float32).max)
    raw = np.array([[-huge, -4, huge, 4], [huge, 4, -huge, -4], [0, -4, 0, -4]], np.float32)
    features[0], features[1] = huge, -huge
    with np.errstate(over="ignore"):
        forecast = Interpreter(spec).interpret(raw, close, volatility, features)
    assert not np.isnan([forecast._asdict()[name] for name in forecast._fields]).any()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(1, 700), st.data())
def test_interpret_of_a_row_has_the_same_bits_in_any_company(n: int, data: st.DataObject) -> None:
    interpreter, given_rows = Interpreter(calibrated_spec()), rows(n, seed=n)
    together = interpreter.interpret(*given_rows)
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start + 1, n))
    raw, close, volatility, features = given_rows
    mine = slice(start, stop)
    apart = interpreter.interpret(raw[mine], close[mine], volatility[mine], features[mine])
    for name, column in apart._asdict().items():
        assert np.array_equal(column, getattr(together, name)[start:stop]), name


def test_interpret_direction_turns_at_the_thresholds() -> None:
    spec = make_spec(thresholds=Thresholds(long=0.6, short=0.3), distribution=Distribution(dof=5.0))
    t = stats.t(5)
    z = np.array([t.ppf(0.601), t.ppf(0.599), 0.0, t.ppf(0.301), t.ppf(0.299)])
    raw = np.zeros((5, 4), np.float32)
    raw[:, 0] = z
    _, close, volatility, features = rows(5)
    forecast = Interpreter(spec).interpret(raw, close, volatility, features)
    assert forecast.direction.tolist() == [1, 0, 0, 0, -1]
    assert forecast.direction.dtype == np.int8


def test_interpret_interval_holds_its_coverage_of_simulated_returns() -> None:
    raw, close, volatility, features = rows(1)
    forecast = Interpreter(calibrated_spec()).interpret(raw, close, volatility, features)
    draws = stats.t(4.6).rvs(200_000, random_state=np.random.default_rng(3))
    y = forecast.location[0] + forecast.scale[0] * draws
    prices = close[0] * np.exp(y * volatility[0] * math.sqrt(7))
    inside = (prices >= forecast.interval_low[0]) & (prices <= forecast.interval_high[0])
    assert inside.mean() == pytest.approx(0.75, abs=0.005)
    assert (prices > close[0]).mean() == pytest.approx(forecast.probability_up[0], abs=0.005)


def test_interpret_of_a_spec_without_a_line_of_log_odds_shows_the_distribution_bit_for_bit() -> None:
    spec, given_rows = calibrated_spec(), rows(300)
    assert "probability" not in canonical_json(spec)
    forecast = Interpreter(spec).interpret(*given_rows)
    own = StudentTCdf(4.6)(forecast.location / forecast.scale)
    assert forecast.probability_up.tobytes() == own.tobytes()


def test_interpret_of_a_spec_with_a_line_moves_the_probability_alone() -> None:
    line = msgspec.structs.replace(CALIBRATION, probability_slope=0.5, probability_intercept=0.2)
    plain = Interpreter(calibrated_spec()).interpret(*rows(300))
    spec = msgspec.structs.replace(calibrated_spec(), calibration=line)
    forecast = Interpreter(parse_spec(canonical_json(spec))).interpret(*rows(300))
    odds = 0.5 * np.log(plain.probability_up / (1 - plain.probability_up)) + 0.2
    np.testing.assert_allclose(forecast.probability_up, 1 / (1 + np.exp(-odds)), rtol=1e-9)
    for name, column in forecast._asdict().items():
        if name not in {"probability_up", "direction"}:
            assert column.tobytes() == getattr(plain, name).tobytes(), name
    assert forecast.direction.tolist() == [int(p >= 0.55) - int(p <= 0.45) for p in forecast.probability_up]


def test_interpret_with_a_line_keeps_certainty_strictly_within_0_and_1() -> None:
    steep = Calibration(probability_slope=10.0, probability_intercept=1.0)
    raw, close, volatility, features = rows(4)
    raw[:, 0], raw[:, 1], volatility = [-1e4, 1e4, -30.0, 30.0], -4.0, np.full(4, 1e-5)
    chance = Interpreter(make_spec(calibration=steep)).interpret(raw, close, volatility, features).probability_up
    assert ((chance > 0) & (chance < 1)).all()
    assert (np.sign(chance - 0.5) == [-1, 1, -1, 1]).all()


def test_interpret_with_a_line_keeps_the_bits_of_a_row_in_any_company() -> None:
    spec = make_spec(calibration=Calibration(probability_slope=0.7))
    together = Interpreter(spec).interpret(*rows(257)).probability_up
    interpreter, (raw, close, volatility, features) = Interpreter(spec), rows(257)
    alone = [
        interpreter.interpret(raw[k : k + 1], close[k : k + 1], volatility[k : k + 1], features[k : k + 1])
        for k in range(257)
    ]
    assert np.concatenate([one.probability_up for one in alone]).tobytes() == together.tobytes()


def test_interpret_without_rows_gives_empty_columns() -> None:
    forecast = Interpreter(make_spec()).interpret(*rows(0))
    assert all(column.shape == (0,) for column in forecast)


def test_interpret_leaves_its_input_alone() -> None:
    given_rows = rows(20)
    kept = [column.tobytes() for column in given_rows]
    Interpreter(calibrated_spec()).interpret(*given_rows)
    assert [column.tobytes() for column in given_rows] == kept


def test_forecast_columns_are_float64_and_own_their_rows() -> None:
    forecast = Interpreter(make_spec()).interpret(*rows(9))
    assert isinstance(forecast, Forecast)
    for name, column in forecast._asdict().items():
        assert column.shape == (9,), name
        assert name == "direction" or column.dtype == np.float64, name
