"""Candles of one series from several sources, each time once.

Enters: rows of files, of an exchange, of the topic. Leaves: rows in order of time.
Does not know: where they came from, or which series it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SeriesRows(NamedTuple):
    """Candles `(n,)` of one series."""

    open_time_ms: NDArray[np.int64]  # UTC
    ohlcv: NDArray[np.float64]  # (5, n)
    revision: NDArray[np.int32]  # 0 is the first word

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> SeriesRows:
        """The candles at these places."""
        return SeriesRows(self.open_time_ms[index], self.ohlcv[:, index], self.revision[index])


NO_ROWS = SeriesRows(np.empty(0, np.int64), np.empty((5, 0)), np.empty(0, np.int32))


def united(sources: Sequence[SeriesRows]) -> SeriesRows:
    """All of them in order of time; of one time the highest revision stands, and of equal ones the first source's."""
    if not sources:
        return NO_ROWS
    time = np.concatenate([own.open_time_ms for own in sources])
    ohlcv = np.concatenate([own.ohlcv for own in sources], axis=1)
    rows = SeriesRows(time, ohlcv, np.concatenate([own.revision for own in sources]))
    order = np.lexsort((np.arange(len(time)), -rows.revision, time))
    first = np.ones(len(time), bool)
    first[1:] = np.diff(time[order]) > 0
    return rows.take(order[first])


def same(one: SeriesRows, other: SeriesRows) -> bool:
    """Whether two sources say exactly the same."""
    times, values = np.array_equal(one.open_time_ms, other.open_time_ms), np.array_equal(one.ohlcv, other.ohlcv)
    return times and values and np.array_equal(one.revision, other.revision)
