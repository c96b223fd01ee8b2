"""How well a signal did, once its horizon has passed: from its own fields and what came, nothing else.

Enters: signals and the realised candles. Leaves: labels and proper scores. Does not know: the model that made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.distribution import gaussian_crps, gaussian_quantile, student_t_crps
from models.events import Signal
from models.label import LEAST_RANGE

Floats = NDArray[np.float64]

COVERAGE = 0.8
"""The central interval of the range head that is scored; the return's is the signal's own."""


class Realised(NamedTuple):
    """What came after a signal."""

    close: float  # at the target
    mean_range: float  # mean of (high - low) / close over the horizon


class Scores(NamedTuple):
    """Columns `(n,)`; CRPS in the unit of the labels, smaller is better."""

    range_crps: Floats
    range_crps_har: Floats
    return_crps: Floats
    return_crps_ewma: Floats
    range_covered: NDArray[np.bool_]  # inside the central 80 %
    return_covered: NDArray[np.bool_]  # the target's price is inside the signal's interval
    y_range: Floats


def score(signals: Sequence[Signal], realised: Sequence[Realised]) -> Scores:
    """Hold signals against what came.

    The labels are those of `models.label`; the CRPS closed forms those of `models.distribution`.
    """
    column = {name: np.array([getattr(signal, name) for signal in signals], np.float64) for name in _FIELDS}
    close = np.array([outcome.close for outcome in realised], np.float64)
    mean_range = np.array([outcome.mean_range for outcome in realised], np.float64)
    unit = column["volatility"]
    y_return = np.log(close / column["close"]) / (unit * np.sqrt(column["horizon_bars"]))
    y_range = np.log(np.maximum(mean_range, LEAST_RANGE * unit) / unit)
    half = float(gaussian_quantile((1 + COVERAGE) / 2, 0.0, 1.0))
    return Scores(
        range_crps=gaussian_crps(y_range, column["range_location"], column["range_scale"]),
        range_crps_har=gaussian_crps(y_range, column["har_location"], column["har_scale"]),
        return_crps=student_t_crps(y_return, column["location"], column["scale"], column["dof"]),
        return_crps_ewma=student_t_crps(y_return, 0.0, column["ewma_scale"], column["ewma_dof"]),
        range_covered=np.abs(y_range - column["range_location"]) <= half * column["range_scale"],
        return_covered=(close >= column["interval_low"]) & (close <= column["interval_high"]),
        y_range=y_range,
    )


_FIELDS = (
    "close", "volatility", "horizon_bars", "location", "scale", "dof", "range_location", "range_scale",
    "ewma_scale", "ewma_dof", "har_location", "har_scale", "interval_low", "interval_high",
)  # fmt: skip
