"""A made-up change of the market, for tests and the demo: minutes that move several times as far.

Enters: a table of candles. Leaves: the table with the change, which says what of it is no longer the exchange's.
Does not know: models, detectors, Kafka.

Features are free of scale, so a market that is wilder at all times still fits; what does not fit is a new pattern. The
change therefore comes and goes within every hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.candle_table import CandleTable

HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Injection:
    """What is made up."""

    from_ms: int  # candles that open at this time or later (UTC)
    factor: float = 5.0  # on log returns and on ranges
    first_ms: int = 0  # candles that open in this part of every hour: `first_ms <= time within the hour < stop_ms`
    stop_ms: int = 600_000


def inject(table: CandleTable, injection: Injection) -> CandleTable:
    """Move every series further in the chosen minutes; elsewhere it moves as it did, from wherever it is by then.

    The path is continuous: each open lies from the close before it as far as it did, times the factor of its minute.
    All candles of a series from its first changed one on are marked `injected`, beside those that were so before, since
    their prices are no longer real. Volumes, absent bars, and everything before are untouched.

    Raises:
        ValueError: the factor is not above 0.
    """
    if not injection.factor > 0:
        raise ValueError(f"a factor of {injection.factor} makes no candles; use one above 0")
    ohlcv = table.ohlcv.copy()
    injected = np.zeros(ohlcv.shape[1:], np.bool_) if table.injected is None else table.injected.copy()
    for series in range(len(table.symbols)):
        slots = np.flatnonzero(table.present[series])
        factors = _factors(table.open_time_ms[slots], injection)
        if (factors != 1).any():
            first = int(np.argmax(factors != 1))
            changed = slots[first:]
            before = table.ohlcv[3, series, slots[first - 1]] if first else table.ohlcv[0, series, slots[0]]
            ohlcv[:4, series, changed] = _moved(table.ohlcv[:4, series, changed], float(before), factors[first:])
            injected[series, changed] = True
    return replace(table, ohlcv=ohlcv, injected=injected)


def _factors(open_time_ms: NDArray[np.int64], injection: Injection) -> NDArray[np.float64]:
    within = open_time_ms % HOUR_MS
    chosen = (open_time_ms >= injection.from_ms) & (within >= injection.first_ms) & (within < injection.stop_ms)
    return np.where(chosen, injection.factor, 1.0)


def _moved(ohlc: NDArray[np.float64], before: float, factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Candles `(4, n)` that follow a close, with every log distance times the factor of its candle."""
    logs = np.log(ohlc)
    close = np.log(before) + np.cumsum(factors * np.diff(logs[3], prepend=np.log(before)))
    moved = np.exp(close + factors * (logs - logs[3]))
    moved[1], moved[2] = moved.max(axis=0), moved.min(axis=0)  # rounding must not put a close above its high
    return np.asarray(moved)
