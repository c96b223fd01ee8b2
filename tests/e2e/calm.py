"""A made-up market that is learned in seconds: prices walk at random, and nothing ever changes.

Enters: how many series and slots. Leaves: a `CandleTable` that replay can publish. Does not know: Kafka.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.candle_table import CandleTable, build_table
from models.spec import Calibration
from tests.e2e.market import BEGIN_MS
from tests.models.make_bundle import make_bundle

MINUTE_MS = 60_000
VOLATILITY = 1e-3


def calm_market(series: int, slots: int, seed: int = 2) -> CandleTable:
    """`S000/USDT`, `S001/USDT`... without a gap, independent of each other."""
    rng = np.random.default_rng(seed)
    times = BEGIN_MS + MINUTE_MS * np.arange(slots, dtype=np.int64)
    return build_table("binance", MINUTE_MS, {f"S{i:03d}/USDT": (times, _walk(slots, rng)) for i in range(series)})


def poor_champion() -> bytes:
    """A small bundle that expects ranges e^2 times too wide, and returns 3 times."""
    return make_bundle(lookback=8, hidden=8, calibration=Calibration(range_location_shift=2.0, return_scale_factor=3.0))


def _walk(slots: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(5, slots)`."""
    close = 100 * np.exp(np.cumsum(VOLATILITY * rng.standard_normal(slots)))
    open_ = np.concatenate([[100.0], close[:-1]])
    wicks = 0.5 * VOLATILITY * np.abs(rng.standard_normal((2, slots)))
    high, low = np.maximum(open_, close) * (1 + wicks[0]), np.minimum(open_, close) * (1 - wicks[1])
    return np.stack([open_, high, low, close, rng.gamma(2.0, 5.0, slots)])
