"""How well a signal did, once its horizon has passed: from its own fields and what came, nothing else.

Enters: signals and the realised candles. Leaves: labels, proper scores, and the truth's place in each forecast. Does
not know: the model that made them. What it says of one signal depends on that signal alone, never on its company.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from operator import attrgetter
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.distribution import gaussian_cdf, gaussian_crps, student_t_cdf, student_t_crps
from models.events import Signal
from models.label import LEAST_RANGE

Floats = NDArray[np.float64]

COVERAGE = 0.8
"""Of the central interval in which both heads are to hold the truth."""


class Realised(NamedTuple):
    """What came after a signal."""

    close: float  # at the target
    mean_range: float  # mean of (high - low) / close over the horizon


class Scores(NamedTuple):
    """Columns `(n,)`; CRPS in the unit of the labels, smaller is better."""

    y_return: Floats
    y_range: Floats
    return_crps: Floats
    return_crps_ewma: Floats
    range_crps: Floats
    range_crps_har: Floats
    return_pit: Floats  # the truth's place in its forecast, 0..1
    range_pit: Floats
    return_covered: NDArray[np.bool_]  # inside the central 80 %
    range_covered: NDArray[np.bool_]


def score(signals: Sequence[Signal], realised: Sequence[Realised]) -> Scores:
    """Hold signals against what came."""
    return score_columns(signals, *np.array(realised, np.float64).reshape(-1, 2).T)


def score_columns(signals: Sequence[Signal], close: Floats, mean_range: Floats) -> Scores:
    """The same, with what came as columns `(n,)`: the price at the target, and the mean of (high - low) / close.

    The labels are those of `models.label`; the CRPS closed forms those of `models.distribution`.
    """
    columns = np.frombuffer(b"".join(starmap(_pack, map(_numbers_of, signals)))).reshape(-1, len(_NUMBERS)).T
    (price, unit, horizon, location, scale, dof, range_location, range_scale, ewma_scale, ewma_dof, har_location,
     har_scale) = columns.copy()  # fmt: skip
    dof, ewma_dof = _common(dof), _common(ewma_dof)
    y_return = np.log(close / price) / (unit * np.sqrt(horizon))
    y_range = np.log(np.maximum(mean_range, LEAST_RANGE * unit) / unit)
    return_pit = student_t_cdf(y_return, location, scale, dof)
    range_pit = gaussian_cdf(y_range, range_location, range_scale)
    return Scores(
        y_return=y_return,
        y_range=y_range,
        return_crps=student_t_crps(y_return, location, scale, dof),
        return_crps_ewma=student_t_crps(y_return, 0.0, ewma_scale, ewma_dof),
        range_crps=gaussian_crps(y_range, range_location, range_scale),
        range_crps_har=gaussian_crps(y_range, har_location, har_scale),
        return_pit=return_pit,
        range_pit=range_pit,
        return_covered=np.abs(return_pit - 0.5) <= COVERAGE / 2,
        range_covered=np.abs(range_pit - 0.5) <= COVERAGE / 2,
    )


def _common(column: Floats) -> Floats:
    """One number where all are the same, as under one bundle: much of the CRPS depends on it alone."""
    return column[:1] if len(column) and (column == column[0]).all() else column


_NUMBERS = (
    "close", "volatility", "horizon_bars", "location", "scale", "dof", "range_location", "range_scale",
    "ewma_scale", "ewma_dof", "har_location", "har_scale",
)  # fmt: skip
_numbers_of = attrgetter(*_NUMBERS)
_pack = Struct(f"{len(_NUMBERS)}d").pack
