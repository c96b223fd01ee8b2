"""What a prediction is held against: the realised return and range of the next bars, in units of volatility.

Enters: closes, highs, lows and the volatility known at each close. Leaves: two labels and where they exist.
Does not know: splits, purging or models. A label is a function of the slots t to t + horizon, and of nothing after.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_RANGE = 0.1
"""In volatilities: a standing market has some range, so that its logarithm stays finite."""


def labels(
    close: Floats, high: Floats, low: Floats, volatility: Floats, horizon: int
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Compute both labels of every slot.

    Args:
        close, high, low: (S, T) grid slots, NaN where absent.
        volatility: (S, T) of 1-bar log returns, known at the close; NaN where unknown.
        horizon: bars ahead, 1 or more.

    Returns:
        y_return = ln(C[t+H] / C[t]) / (volatility[t] sqrt(H)) and
        y_range = ln(max(mean over t+1..t+H of (high - low) / close, 0.1 volatility[t]) / volatility[t]), both (S, T), 0
        where not valid; and valid (S, T): no slot of t..t+H is absent, none lies past the end, volatility[t] is known.

    Raises:
        ValueError: the horizon is less than 1.
    """
    if horizon < 1:
        raise ValueError(f"a horizon of {horizon} bars looks at nothing; use 1 or more")
    y_return, y_range = np.zeros_like(close), np.zeros_like(close)
    known = max(close.shape[1] - horizon, 0)  # slots whose horizon has passed
    unit = volatility[:, :known]
    relative = (high - low) / close
    total = np.zeros_like(unit)
    for ahead in range(1, horizon + 1):
        total += relative[:, ahead : known + ahead]  # an absent slot makes it NaN
    y_return[:, :known] = np.log(close[:, horizon:] / close[:, :known]) / (unit * math.sqrt(horizon))
    y_range[:, :known] = np.log(np.maximum(total / horizon, LEAST_RANGE * unit) / unit)
    valid = np.isfinite(y_return) & np.isfinite(y_range)
    valid[:, known:] = False
    return np.where(valid, y_return, 0.0), np.where(valid, y_range, 0.0), valid
