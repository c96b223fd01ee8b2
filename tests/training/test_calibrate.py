from __future__ import annotations

import numpy as np
import pytest

from models.distribution import gaussian_crps
from training.calibrate import calibrate


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
