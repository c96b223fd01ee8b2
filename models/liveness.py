"""Which series are still heard, and so from which offset each partition's state must be rebuilt.

Enters: the rows that a batch moved. Leaves: one offset a partition. Does not know: prices, features, wall clocks.

A partition's clock is the newest close among its series that have run for a while. A series is silent once that clock
has gone on for longer than the series' own span since it was last heard; by its own closes it may lag behind as far as
it likes, as it does while older history is published after newer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.continuity import NEVER, REWIND_BARS, Continuity
from models.series_table import SeriesTable

_NOWHERE = np.iinfo(np.int64).max


class Liveness:
    """Reads the table and the continuity of an engine; owns when each row was last heard."""

    def __init__(self, table: SeriesTable, continuity: Continuity) -> None:
        self._table = table
        self._continuity = continuity
        self._clock_ms = np.zeros(16, np.int64)  # by partition
        self._heard_ms = np.zeros(0, np.int64)  # by row: its partition's clock when its newest slot came
        self._heard_slot = np.zeros(0, np.int64)

    def hear(self, rows: NDArray[np.intp]) -> None:
        """Note the rows of a batch, after it has been taken; repeats are welcome."""
        self._make_room()
        slots = self._continuity.last_slot[rows]
        moved = slots != self._heard_slot[rows]  # a duplicate says nothing new
        rows, slots = rows[moved], slots[moved]
        partitions, closes = self._table.partition[rows], slots * self._table.timeframe_ms[rows]
        sure = self._continuity.has_run(rows)
        np.maximum.at(self._clock_ms, partitions[sure], closes[sure])
        self._heard_ms[rows] = np.maximum(self._clock_ms[partitions], closes)
        self._heard_slot[rows] = slots

    def forget(self, rows: NDArray[np.intp]) -> None:
        """Drop rows, whose places others will take; the clock of a partition only ever goes on."""
        self._make_room()
        self._heard_slot[rows] = NEVER

    def rewind_offsets(self) -> dict[int, int]:
        """By partition, the smallest offset that any series needs which is neither cold nor silent."""
        rows = self._table.rows
        rows = rows[~self._continuity.is_cold(rows)]
        silent_ms = self._clock_ms[self._table.partition[rows]] - self._heard_ms[rows]
        rows = rows[silent_ms <= REWIND_BARS * self._table.timeframe_ms[rows]]
        smallest = np.full(len(self._clock_ms), _NOWHERE)
        np.minimum.at(smallest, self._table.partition[rows], self._continuity.rewind_offsets(rows))
        known = np.flatnonzero(smallest < _NOWHERE)
        return dict(zip(known.tolist(), smallest[known].tolist(), strict=True))

    def _make_room(self) -> None:
        missing = self._table.capacity - len(self._heard_ms)
        if missing > 0:
            self._heard_ms = np.concatenate([self._heard_ms, np.zeros(missing, np.int64)])
            self._heard_slot = np.concatenate([self._heard_slot, np.full(missing, NEVER)])
        missing = int(self._table.partition.max()) + 1 - len(self._clock_ms)
        if missing > 0:
            self._clock_ms = np.concatenate([self._clock_ms, np.zeros(missing, np.int64)])
