"""Calibration: the factors that make a trained network's distributions as wide, and as bold, as validation data say.

Enters: raw outputs and what came true. Leaves: the `Calibration` of a spec. Does not know: networks, training, test.

Locations are fitted by likelihood; scales so that the central interval held its nominal share. For the range's scale a
likelihood would listen to its long upper tail: .81 to .83 of test labels in an interval meant for .80, no gain in CRPS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.distribution import gaussian_quantile, student_t_quantile
from models.spec import Calibration
from training.likelihood import fit_location_factor

Floats = NDArray[np.float64]


COVERAGE = 0.8
LEAST_FACTOR = 1e-3


def calibrate(raw: NDArray[np.float32], y_return: Floats, y_range: Floats, dof: float) -> Calibration:
    """Fit location and scale factor of the return, shift and scale factor of the range.

    Args:
        raw: `(n, 4)` outputs of the network for validation rows.
        y_return: `(n,)` their labels.
        y_range: `(n,)` likewise.
        dof: of the return's Student-t.
    """
    location, log_scale, range_location, range_log_scale = raw.T.astype(np.float64)
    scale, range_scale = np.exp(log_scale), np.exp(range_log_scale)
    location_factor = fit_location_factor(y_return, location, scale, dof)
    weight = range_scale**-2
    shift = float(((y_range - range_location) * weight).sum() / weight.sum())
    half = (1 + COVERAGE) / 2
    return Calibration(
        return_location_factor=location_factor,
        return_scale_factor=_factor(
            (y_return - location_factor * location) / scale, float(student_t_quantile(half, 0.0, 1.0, dof))
        ),
        range_location_shift=shift,
        range_scale_factor=_factor(
            (y_range - range_location - shift) / range_scale, float(gaussian_quantile(half, 0.0, 1.0))
        ),
        interval_coverage=COVERAGE,
    )


def _factor(error: Floats, nominal: float) -> float:
    """What makes the nominal half width that of the interval which held its share of the errors, in scales."""
    return max(float(np.quantile(np.abs(error), COVERAGE)) / nominal, LEAST_FACTOR)
