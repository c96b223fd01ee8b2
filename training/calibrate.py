"""Calibration: the factors that make a trained network's distributions as wide, and as bold, as validation data say.

Enters: raw outputs and what came true. Leaves: the `Calibration` of a spec. Does not know: networks, training, test.

Locations are fitted by likelihood; scales so that the central interval held its nominal share. For the range's scale a
likelihood would listen to its long upper tail: .81 to .83 of test labels in an interval meant for .80, no gain in CRPS.
The probability up has its own line (`training.log_odds`), mostly none.

The scale factors are those of split-conformal prediction, its correction for few rows included. Its guarantee is not
claimed: it needs exchangeable rows, and those of a market depend on each other and change. What coverage comes out is
measured on later rows, with an interval, and watched while serving.

Source: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World; Lei et al. 2018, Distribution-Free
Predictive Inference for Regression (errors in units of a learned scale).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.distribution import gaussian_quantile, student_t_cdf, student_t_quantile
from models.scoring import COVERAGE
from models.spec import Calibration
from training.likelihood import fit_location_factor
from training.log_odds import choose_line, line_fields

Floats = NDArray[np.float64]

UPPER_END = (1 + COVERAGE) / 2
"""The probability at the upper end of the central interval."""
LEAST_FACTOR = 1e-3


def calibrate(raw: NDArray[np.float32], y_return: Floats, y_range: Floats, dof: float) -> Calibration:
    """Fit location and scale factor of the return, shift and scale factor of the range, and the line of log odds.

    Args:
        raw: `(n, 4)` outputs of the network for validation rows, in order of time.
        y_return: `(n,)` their labels.
        y_range: `(n,)` likewise.
        dof: of the return's Student-t.
    """
    location, log_scale, range_location, range_log_scale = raw.T.astype(np.float64)
    scale = np.exp(log_scale)
    location_factor = fit_location_factor(y_return, location, scale, dof)
    error = (y_return - location_factor * location) / scale
    return_factor = scale_factor(error, float(student_t_quantile(UPPER_END, 0.0, 1.0, dof)))
    shift, range_factor = fit_range_calibration(range_location, np.exp(range_log_scale), y_range)
    moved = y_return != 0  # a return of exactly 0 has no direction
    probability_up = student_t_cdf(location_factor * location, 0.0, return_factor * scale, dof)[moved]
    return Calibration(
        return_location_factor=location_factor,
        return_scale_factor=return_factor,
        range_location_shift=shift,
        range_scale_factor=range_factor,
        interval_coverage=COVERAGE,
        **line_fields(choose_line(probability_up, y_return[moved] > 0)),
    )


def fit_range_calibration(location: Floats, scale: Floats, y_range: Floats) -> tuple[float, float]:
    """Shift of the location and factor on the scale of `(n,)` normal forecasts of the range label."""
    weight = scale**-2
    shift = float(((y_range - location) * weight).sum() / weight.sum())
    return shift, scale_factor((y_range - location - shift) / scale, float(gaussian_quantile(UPPER_END, 0.0, 1.0)))


def scale_factor(error: Floats, nominal: float) -> float:
    """What makes the nominal half width that of the interval which held its share of the errors, in scales."""
    return max(conformal_quantile(np.abs(error), COVERAGE) / nominal, LEAST_FACTOR)


def conformal_quantile(scores: Floats, coverage: float) -> float:
    """The ceil((n + 1) coverage)-th smallest of `(n,)` scores; the largest where there are too few for that.

    One more score, exchangeable with these, is no larger with a probability of `coverage` or a little more.
    """
    rank = min(math.ceil((len(scores) + 1) * coverage), len(scores))
    return float(np.partition(scores, rank - 1)[rank - 1])
