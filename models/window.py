"""The last candles' features of every series, kept so that a window is one contiguous piece of memory.

Enters: rows of features as they are computed. Leaves: batches of windows (n, L, F), newest last.
Does not know: time, absent candles or models. Whoever pushes resets a row whose run of candles was broken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.window_kernel import gather, push

Features = NDArray[np.float32]
Rows = NDArray[np.intp]
_ALL = np.empty(0, np.int64)


class WindowRing:
    """A doubled ring, (capacity, 2 * bars, F): every row of features is written twice, `bars` apart.

    So the last L of a series always lie side by side, and a window is one slice of memory, never two.
    """

    def __init__(self, capacity: int, features: int, bars: int = 256) -> None:
        self.bars = bars
        self.filled: NDArray[np.int64] = np.zeros(capacity, np.int64)  # how many were pushed since the row was reset
        self._features = np.arange(features)
        self._ring: Features = np.zeros((capacity, 2 * bars, features), np.float32)

    @property
    def capacity(self) -> int:
        """How many rows there are."""
        return len(self.filled)

    def grow(self, capacity: int) -> None:
        """Make room for at least `capacity` rows, at least doubling; what is known stays."""
        if capacity <= self.capacity:
            return
        missing = max(capacity, 2 * self.capacity) - self.capacity
        self.filled = np.concatenate([self.filled, np.zeros(missing, np.int64)])
        self._ring = np.concatenate([self._ring, np.zeros((missing, *self._ring.shape[1:]), np.float32)])

    def reset(self, rows: Rows) -> None:
        """Forget what rows hold: their windows are zeros again."""
        self.filled[rows] = 0
        self._ring[rows] = 0.0

    def push(self, rows: Rows, features: Features) -> None:
        """Append features (n, F) to unique rows."""
        push(self._ring, self.filled, rows, features)

    def gather(
        self, rows: Rows, lookback: int, columns: NDArray[np.intp] | slice = slice(None), out: Features | None = None
    ) -> Features:
        """Copy the last `lookback` rows of features of each row, newest last, zeros where `filled` is less.

        Args:
            rows: (n,), repeats allowed.
            lookback: L, at most `bars`.
            columns: which features; the whole ring's by default.
            out: (n, L, F) to write into, e.g. pinned memory.

        Returns:
            (n, L, F) float32, C-contiguous; `out` where given.
        """
        chosen = _ALL if isinstance(columns, slice) and columns == slice(None) else self._features[columns]
        if out is None:
            out = np.empty((len(rows), lookback, len(chosen) or len(self._features)), np.float32)
        gather(self._ring, self.filled, rows, chosen, out)
        return out
