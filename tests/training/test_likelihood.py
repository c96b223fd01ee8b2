from __future__ import annotations

import numpy as np
import pytest

from training.likelihood import LEAST_DOF, LEAST_SCALE, fit_location_factor, fit_student_t


def test_fit_student_t_finds_what_the_values_were_drawn_from() -> None:
    values = 0.7 * np.random.default_rng(0).standard_t(5.0, 100_000)
    scale, dof = fit_student_t(values)
    assert scale == pytest.approx(0.7, rel=0.02)
    assert dof == pytest.approx(5.0, rel=0.08)


def test_fit_student_t_of_equal_values_stays_within_its_bounds() -> None:
    scale, dof = fit_student_t(np.zeros(100))
    assert scale == pytest.approx(LEAST_SCALE)
    assert dof >= LEAST_DOF - 1e-9


@pytest.mark.parametrize("true", [0.0, 0.4, 1.0])
def test_fit_location_factor_finds_how_much_of_the_location_is_true(true: float) -> None:
    rng = np.random.default_rng(1)
    location, scale = rng.normal(size=50_000), rng.uniform(0.5, 2, 50_000)
    values = true * location + scale * rng.standard_t(6.0, 50_000)
    assert fit_location_factor(values, location, scale, 6.0) == pytest.approx(true, abs=0.03)


def test_fit_location_factor_of_a_location_with_the_wrong_sign_is_nil() -> None:
    rng = np.random.default_rng(2)
    location = rng.normal(size=20_000)
    assert fit_location_factor(-location + rng.standard_t(6.0, 20_000), location, np.ones(20_000), 6.0) == 0
