"""What each series has behind it: order, gaps, absents, warmth, and from which offset its state can be rebuilt.

Enters: the slots of candles, at most one a series a call. Leaves: which of them may advance the features, and which
series may speak. Everything is a function of a finite past (`REWIND_BARS` slots), so a replica that starts there agrees
with one that never stopped. Does not know: prices, features, Kafka beyond an offset being a number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.continuity_kernel import all_speak, take_calm
from models.features import WARM_UP_BARS
from models.spec import MAX_LOOKBACK_BARS

COLD_AFTER_ABSENT = 60
"""So many absent slots in a row, and the series starts anew."""
MAX_ABSENT = WARM_UP_BARS // 20
"""More absent slots than this among the last `WARM_UP_BARS` withhold the signal (docs/adr/0009)."""
MARK_BARS = 64
"""An offset is remembered once in so many slots."""
REWIND_BARS = WARM_UP_BARS + MAX_LOOKBACK_BARS + COLD_AFTER_ABSENT + MARK_BARS
"""A cold start this far back is warm again: warm-up, window, a run of absents at the start, the spacing of marks."""
_MARKS = REWIND_BARS // MARK_BARS + 3

NEVER = np.int64(-1) << 40


class Verdict(NamedTuple):
    """What one round of candles is good for; boolean masks `(n,)`."""

    advances: NDArray[np.bool_]  # present and next in order: its features are computed
    restarts: NDArray[np.bool_]  # of these, the ones whose state must be cleared first
    duplicate: NDArray[np.bool_]  # the slot was seen before
    out_of_order: NDArray[np.bool_]  # older than the newest slot
    undeclared_gap: NDArray[np.bool_]  # slots are missing that nobody declared absent
    calm: bool = False  # every one simply advances, as nearly always


def _calm(count: int) -> Verdict:
    none = np.zeros(count, np.bool_)
    return Verdict(~none, none, none, none, none, calm=True)


class Continuity:
    """One column of counters a series row. Slots are `close_time_ms // timeframe_ms`."""

    def __init__(self, capacity: int) -> None:
        self.last_slot = np.full(capacity, NEVER)  # newest slot accepted, present or absent
        self.start_slot = np.full(capacity, NEVER)  # first present slot since the cold start; NEVER while cold
        self.start_offset = np.zeros(capacity, np.int64)
        self.last_absent = np.full(capacity, NEVER)
        self.absent_run = np.zeros(capacity, np.int64)
        self.absent_count = np.zeros(capacity, np.int64)  # in the last WARM_UP_BARS slots
        self._absent = np.zeros((capacity, WARM_UP_BARS), np.bool_)
        self._mark_block = np.full((capacity, _MARKS), NEVER)
        self._mark_offset = np.zeros((capacity, _MARKS), np.int64)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` rows; new rows were never seen."""
        fresh = Continuity(capacity - len(self.last_slot))
        for name, column in vars(self).items():
            setattr(self, name, np.concatenate([column, getattr(fresh, name)]))

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Forget these rows altogether, as if they were never seen."""
        self.last_slot[rows] = NEVER
        self._cool(rows)

    def accept(
        self, rows: NDArray[np.intp], slots: NDArray[np.int64], absent: NDArray[np.bool_], offsets: NDArray[np.int64]
    ) -> Verdict:
        """Take one candle a row, in the order of the log.

        Args:
            rows: `(n,)`, unique.
            slots: `(n,)` grid slot of each candle.
            absent: `(n,)` whether it only says that there is none.
            offsets: `(n,)` its offset in its partition.
        """
        if take_calm(
            self.last_slot, self.start_slot, self.absent_run, self.absent_count, self._absent, self._mark_block,
            self._mark_offset, NEVER, MARK_BARS, rows, slots, absent, offsets,
        ):  # fmt: skip
            return _calm(len(rows))
        steps = slots - self.last_slot[rows]
        seen = self.last_slot[rows] != NEVER
        duplicate, out_of_order, gap = seen & (steps == 0), seen & (steps < 0), seen & (steps > 1)
        taken = ~(duplicate | out_of_order)
        self._cool(rows[gap])
        self._take(rows[taken], slots[taken], absent[taken])
        advances = taken & ~absent
        restarts = advances & (self.start_slot[rows] == NEVER)
        self._start(rows[restarts], slots[restarts], offsets[restarts])
        self._mark(rows[taken], slots[taken], offsets[taken])
        return Verdict(advances, restarts, duplicate, out_of_order, gap)

    def _take(self, rows: NDArray[np.intp], slots: NDArray[np.int64], absent: NDArray[np.bool_]) -> None:
        self.last_slot[rows] = slots
        at = slots % WARM_UP_BARS
        self.absent_count[rows] += absent.astype(np.int64) - self._absent[rows, at]
        self._absent[rows, at] = absent
        self.absent_run[rows] = np.where(absent, self.absent_run[rows] + 1, 0)
        if absent.any():
            gone = rows[absent]
            self.last_absent[gone] = slots[absent]
            ended = gone[self.absent_run[gone] >= COLD_AFTER_ABSENT]
            if len(ended):
                self._cool(ended)

    def _start(self, rows: NDArray[np.intp], slots: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        self._cool(rows)  # absents from before the start would count for those alone who saw them
        self.start_slot[rows] = slots
        self.start_offset[rows] = offsets

    def _cool(self, rows: NDArray[np.intp]) -> None:
        self.start_slot[rows] = NEVER
        self.last_absent[rows] = NEVER
        self.absent_run[rows] = 0
        self.absent_count[rows] = 0
        self._absent[rows] = False
        self._mark_block[rows] = NEVER

    def _mark(self, rows: NDArray[np.intp], slots: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        blocks = slots // MARK_BARS
        at = blocks % _MARKS
        new = self._mark_block[rows, at] != blocks
        if new.any():
            self._mark_block[rows[new], at[new]] = blocks[new]
            self._mark_offset[rows[new], at[new]] = offsets[new]

    def withheld(self, rows: NDArray[np.intp], warm_up_bars: int, lookback_bars: int) -> dict[str, NDArray[np.bool_]]:
        """Why these rows, just advanced, may not speak yet: reason to mask `(n,)`, each row under one at most.

        Nothing where all may, as nearly always.
        """
        young_bars = warm_up_bars + lookback_bars - 1
        counters = self.last_slot, self.start_slot, self.last_absent, self.absent_count
        if all_speak(*counters, rows, young_bars, lookback_bars, MAX_ABSENT):
            return {}
        slots = self.last_slot[rows]
        young = slots - self.start_slot[rows] < young_bars
        touched = slots - self.last_absent[rows] < lookback_bars
        sparse = self.absent_count[rows] > MAX_ABSENT
        return {
            "warming_up": young,
            "absent_in_window": touched & ~young,
            "too_many_absent": sparse & ~touched & ~young,
        }

    def rewind_offsets(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """The offset `(n,)` from which each row's state can be rebuilt; of no use for rows that are cold."""
        blocks = (self.last_slot[rows] - REWIND_BARS) // MARK_BARS
        at = blocks % _MARKS
        marked = self._mark_block[rows, at] == blocks
        return np.where(marked, self._mark_offset[rows, at], self.start_offset[rows])

    def has_run(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether these rows have gone on for an hour's bars: a lone candle from a wrong future never does."""
        start = self.start_slot[rows]
        return np.asarray((start != NEVER) & (self.last_slot[rows] - start >= COLD_AFTER_ABSENT))

    def is_cold(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether these rows have no state at all."""
        return np.asarray(self.start_slot[rows] == NEVER)
