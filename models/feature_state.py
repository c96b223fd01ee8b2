"""What the feature step remembers of every series: a struct of arrays, one row a series.

Enters: row numbers, and what happened to them. Leaves: features. Does not know: the formulas, which are the kernel's,
or which series a row belongs to. Zeros are a cold row: no real close is 0.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.feature_kernel import BLOCKS, CLOSES, PLACES, SUMS, advance

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = NDArray[np.intp]

_NO_FEATURES, _NO_VOLATILITY = np.empty((0, 0), np.float32), np.empty(0)


class Candles(NamedTuple):
    """Columns of n PRESENT candles, at most one per series."""

    close_time_ms: Ints  # (n,) UTC
    timeframe_ms: Ints  # (n,)
    open: Floats  # (n,) and so the others; prices above 0, volume 0 or more, all finite
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class FeatureState:
    """The memory of `capacity` series; new rows are cold."""

    def __init__(self, capacity: int) -> None:
        self.last_slot: Ints = np.zeros(capacity, np.int64)
        self.values: Floats = np.zeros((capacity, PLACES))
        self.closes: Floats = np.zeros((capacity, CLOSES))  # by slot % 20; 0 is absent
        self.blocks: Floats = np.zeros((capacity, SUMS, BLOCKS))  # by block % 24
        self.block_numbers: Ints = np.zeros((capacity, BLOCKS), np.int64)

    @property
    def capacity(self) -> int:
        """How many rows there are."""
        return len(self.values)

    def grow(self, capacity: int) -> None:
        """Make room for at least `capacity` rows, at least doubling; what is known stays."""
        missing = max(capacity, 2 * self.capacity) - self.capacity
        if capacity <= self.capacity:
            return
        for name in ("last_slot", "values", "closes", "blocks", "block_numbers"):
            known = getattr(self, name)
            setattr(self, name, np.concatenate([known, np.zeros((missing, *known.shape[1:]), known.dtype)]))

    def reset(self, rows: Rows) -> None:
        """Make rows cold."""
        for array in (self.last_slot, self.values, self.closes, self.blocks, self.block_numbers):
            array[rows] = 0

    def advance(self, rows: Rows, candles: Candles) -> None:
        """Move unique rows on by one candle each, over the absent slots between, if any."""
        self._advance(rows, candles, False, _NO_FEATURES, _NO_VOLATILITY)

    def describe(self, rows: Rows, candles: Candles, features: int) -> tuple[NDArray[np.float32], Floats]:
        """Do so, and give so many features (n, features) and the volatility (n,) at each close."""
        count = len(rows)
        found, volatility = np.empty((count, features), np.float32), np.empty(count)
        self._advance(rows, candles, True, found, volatility)
        return found, volatility

    def _advance(
        self, rows: Rows, candles: Candles, describe: bool, features: NDArray[np.float32], volatility: Floats
    ) -> None:
        advance(
            self.last_slot, self.values, self.closes, self.blocks, self.block_numbers, rows, *candles,
            describe, features, volatility,
        )  # fmt: skip
