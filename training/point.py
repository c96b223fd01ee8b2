"""How far off the middle of a forecast was: mean absolute and root mean square errors, as ratios to a simple guess.

Enters: errors of n rows. Leaves: figures. Does not know: distributions, labels.

Errors of the range are in logs of (range over volatility), errors of the return in volatilities of the horizon, so that
wild symbols and hours count like calm ones. Errors of the price are over the price at the close: a miss by 1 % weighs
the same for every symbol, however dear its coin, while wild hours weigh as much as they cost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.bootstrap import Blocks, Figure

Floats = NDArray[np.float64]


def error_figures(own: Floats, other: Floats, against: str, blocks: Blocks) -> dict[str, Figure]:
    """Ratios `mae_vs_<against>` and `rmse_vs_<against>` of errors `(n,)`: below 1 the first are the smaller."""
    return {
        f"mae_vs_{against}": blocks.ratio(np.abs(own), np.abs(other)),
        f"rmse_vs_{against}": blocks.figure(_root_quotient, blocks.sums(own * own, other * other)),
    }


def _root_quotient(sums: Floats) -> Floats:
    return np.asarray(np.sqrt(sums[..., 0] / sums[..., 1]))
