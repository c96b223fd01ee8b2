from __future__ import annotations

import numpy as np
import pytest

from models.distribution import gaussian_crps
from models.features import CATALOGUE
from models.forecast import Interpreter
from models.spec import Distribution
from tests.models.make_bundle import make_spec
from training.calibrate import calibrate, conformal_quantile


def test_calibrate_undoes_planted_faults() -> None:
    rng = np.random.default_rng(0)
    n, dof = 60_000, 5.0
    location, scale = 0.2 * rng.normal(size=n), np.exp(0.3 * rng.normal(size=n))
    y_return = 0.5 * location + 1.3 * scale * rng.standard_t(dof, n)
    range_location, range_scale = rng.normal(size=n), np.exp(0.3 * rng.normal(size=n))
    y_range = range_location + 0.25 + 0.8 * range_scale * rng.normal(size=n)
    raw = np.stack([location, np.log(scale), range_location, np.log(range_scale)], axis=1).astype(np.float32)
    found = calibrate(raw, y_return, y_range, dof)
    assert found.return_location_factor == pytest.approx(0.5, abs=0.06)
    assert found.return_scale_factor == pytest.approx(1.3, rel=0.02)
    assert found.range_location_shift == pytest.approx(0.25, abs=0.01)
    assert found.range_scale_factor == pytest.approx(0.8, rel=0.02)
    before = gaussian_crps(y_range, range_location, range_scale).mean()
    after = gaussian_crps(y_range, range_location + found.range_location_shift, found.range_scale_factor * range_scale)
    assert after.mean() < 0.95 * before


def test_calibrate_of_a_network_that_never_errs_keeps_scales_above_zero() -> None:
    raw = np.zeros((100, 4), np.float32)
    found = calibrate(raw, np.zeros(100), np.zeros(100), 5.0)
    assert found.return_scale_factor > 0
    assert found.range_scale_factor > 0


@pytest.mark.parametrize("n", [1, 3, 4, 9, 10, 99, 1_000])
def test_conformal_quantile_equals_its_definition(n: int) -> None:
    scores = np.random.default_rng(n).normal(size=n) ** 2
    rank = -(-(n + 1) * 4 // 5)  # ceil((n + 1) * 0.8) in whole numbers
    expected = sorted(scores)[min(rank, n) - 1]
    assert conformal_quantile(scores, 0.8) == expected


def test_conformal_quantile_covers_one_more_draw_as_often_as_it_says() -> None:
    draws = np.abs(np.random.default_rng(5).standard_t(3, (20_000, 10)))
    covered = [row[-1] <= conformal_quantile(row[:-1], 0.8) for row in draws]
    assert np.mean(covered) == pytest.approx(0.8, abs=0.01)  # exactly .8 for 9 known: ceil(10 * .8) = 8 of 10 places


def test_calibrate_of_a_bold_location_leaves_the_probability_calibrated() -> None:
    rng = np.random.default_rng(4)
    n = 40_000
    raw = np.zeros((n, 4), np.float32)
    raw[:, 0] = rng.normal(size=n)
    y_return = 0.3 * raw[:, 0] + rng.standard_t(5.0, n)
    y_return[: n // 10] = 0  # ties teach no direction
    found = calibrate(raw, y_return, np.zeros(n), 5.0)
    spec = make_spec(calibration=found, distribution=Distribution(dof=5.0))
    shown = Interpreter(spec).interpret(raw, np.ones(n), np.ones(n), np.zeros((n, len(CATALOGUE)), np.float32))
    moved = y_return != 0
    for low, high in ((0.0, 0.35), (0.35, 0.5), (0.5, 0.65), (0.65, 1.0)):
        inside = moved & (shown.probability_up >= low) & (shown.probability_up < high)
        assert (y_return[inside] > 0).mean() == pytest.approx(shown.probability_up[inside].mean(), abs=0.02)


def test_calibrate_of_a_leaning_market_shifts_the_probability() -> None:
    rng = np.random.default_rng(6)
    raw = np.zeros((20_000, 4), np.float32)
    found = calibrate(raw, rng.standard_t(5.0, 20_000) + 0.3, np.zeros(20_000), 5.0)
    assert isinstance(found.probability_intercept, float)
    assert found.probability_intercept > 0.3
