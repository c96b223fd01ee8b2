from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from training.log_odds import LEAST_ROWS, Line, choose_line, fit_line, line_fields

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def market(n: int, spread: float, slope: float, intercept: float, seed: int = 0) -> tuple[Floats, Mask]:
    """Probabilities given, and what came true by the line that the truth follows."""
    rng = np.random.default_rng(seed)
    log_odds = spread * rng.normal(size=n)
    return expit(log_odds), rng.random(n) < expit(intercept + slope * log_odds)


def test_fit_line_finds_a_planted_line() -> None:
    probability, up = market(200_000, 0.8, 0.6, -0.2)
    found = fit_line(logit(probability), up, with_intercept=True)
    assert found == pytest.approx((0.6, -0.2), abs=0.02)


def test_fit_line_equals_the_minimum_that_a_search_finds() -> None:
    from scipy.optimize import minimize

    probability, up = market(3_000, 1.5, 1.7, 0.3)
    log_odds = logit(probability)

    def loss(line: Floats) -> float:
        return float(np.logaddexp(0, np.where(up, -1, 1) * (line[1] + line[0] * log_odds)).mean())

    searched = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    assert fit_line(log_odds, up, with_intercept=True) == pytest.approx(tuple(searched.x), abs=1e-4)


def test_choose_line_of_a_model_too_bold_finds_its_temperature() -> None:
    probability, up = market(60_000, 1.0, 0.5, 0.0)
    found = choose_line(probability, up)
    assert found is not None
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.intercept == pytest.approx(0.0, abs=0.03)


def test_choose_line_of_a_model_that_leans_one_way_finds_by_how_much() -> None:
    found = choose_line(*market(60_000, 0.1, 1.0, 0.25))
    assert found is not None
    assert found.intercept == pytest.approx(0.25, abs=0.03)


def test_choose_line_of_calibrated_probabilities_seldom_touches_them() -> None:
    chosen = [choose_line(*market(2_000, 0.1, 1.0, 0.0, seed)) for seed in range(24)]
    assert sum(line is not None for line in chosen) <= 6


def test_choose_line_of_an_anti_model_stays_rising() -> None:
    found = choose_line(*market(20_000, 0.5, -1.0, 0.0))
    assert found is not None
    assert 0 < found.slope < 0.1


def test_choose_line_of_few_rows_is_none() -> None:
    assert choose_line(*market(LEAST_ROWS - 1, 1.0, 0.3, 0.0)) is None


def test_choose_line_of_certain_and_of_equal_probabilities_is_finite() -> None:
    rng = np.random.default_rng(3)
    up = rng.random(5_000) < 0.5
    certain = choose_line(rng.integers(2, size=5_000).astype(float), up)
    assert certain is not None
    assert np.isfinite(certain).all()
    even = choose_line(np.full(5_000, 0.5), up)
    assert even is None or np.isfinite(even).all()


def test_line_fields_set_only_what_moves() -> None:
    assert line_fields(None) == {}
    assert line_fields(Line(0.5)) == {"probability_slope": 0.5}
    assert line_fields(Line(0.5, 0.1)) == {"probability_slope": 0.5, "probability_intercept": 0.1}
