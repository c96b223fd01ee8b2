"""Small maximum-likelihood fits of the return's Student-t.

Enters: labels, and forecasts of them. Leaves: one or two numbers. Does not know: datasets, networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.distribution import student_t_log_score

Floats = NDArray[np.float64]

LEAST_DOF, MOST_DOF = 2.1, 100.0
LEAST_SCALE, MOST_SCALE = 1e-3, 1e3


def fit_student_t(values: Floats) -> tuple[float, float]:
    """Scale and degrees of freedom of a Student-t around zero that make `(n,)` values likeliest."""

    def score(log_scale: float, log_dof: float) -> float:
        return float(student_t_log_score(values, 0.0, math.exp(log_scale), 2 + math.exp(log_dof)).mean())

    log_scale, log_dof = _minimum(
        score,
        start=(math.log(float(np.abs(values).mean()) + LEAST_SCALE), math.log(3.0)),
        low=(math.log(LEAST_SCALE), math.log(LEAST_DOF - 2)),
        high=(math.log(MOST_SCALE), math.log(MOST_DOF - 2)),
    )
    return math.exp(log_scale), 2 + math.exp(log_dof)


def fit_location_factor(values: Floats, location: Floats, scale: Floats, dof: float) -> float:
    """The factor on location, within 0 and 1, that makes `(n,)` values likeliest; the scale is fitted along with it."""

    def score(factor: float, log_scale: float) -> float:
        return float(student_t_log_score(values, factor * location, math.exp(log_scale) * scale, dof).mean())

    factor, _ = _minimum(score, start=(0.5, 0.0), low=(0.0, -3.0), high=(1.0, 3.0))
    return factor


def _minimum(
    score: Callable[[float, float], float],
    start: tuple[float, float],
    low: tuple[float, float],
    high: tuple[float, float],
) -> tuple[float, float]:
    """Where a smooth function of two bounded numbers is least."""
    from scipy.optimize import minimize

    bounds = list(zip(low, high, strict=True))
    within = [min(max(x, a), b) for x, (a, b) in zip(start, bounds, strict=True)]
    found = minimize(lambda x: score(*x), within, method="L-BFGS-B", bounds=bounds)
    return float(found.x[0]), float(found.x[1])
