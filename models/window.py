"""The last candles' features of every series, kept so that a window is one contiguous piece of memory.

Enters: rows of features as they are computed. Leaves: batches of windows (n, L, F), newest last.
Does not know: time, absent candles or models. Whoever pushes resets a row whose run of candles was broken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
Rows = NDArray[np.intp]


class WindowRing:
    """A doubled ring, (capacity, 2 * bars, F): every row of features is written twice, `bars` apart.

    So the last L of a series always lie side by side, and a window is one slice of memory, never two.
    """

    def __init__(self, capacity: int, features: int, bars: int = 256) -> None:
        self.bars = bars
        self.filled: NDArray[np.int64] = np.zeros(capacity, np.int64)  # how many were pushed since the row was reset
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
        filled = self.filled[rows]
        place = filled % self.bars
        self._ring[rows, place] = features
        self._ring[rows, place + self.bars] = features
        self.filled[rows] = filled + 1

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
        start = rows * (2 * self.bars) + (self.filled[rows] - 1) % self.bars + (self.bars + 1 - lookback)
        places = start[:, None] + np.arange(lookback)  # (n, L), rows of the ring laid flat
        # Nothing is ever clipped: this mode alone lets numpy write into `out` without a copy on the way.
        flat = self._ring.reshape(-1, self._ring.shape[2])
        if isinstance(columns, slice) and columns == slice(None):
            return flat.take(places, axis=0, out=out, mode="clip")
        chosen = np.arange(flat.shape[1])[columns]
        return flat.take(places, axis=0, mode="clip").take(chosen, axis=2, out=out, mode="clip")
