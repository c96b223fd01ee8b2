"""The bars of one series that a signal may still be held against, and the signals that wait for more of them.

Enters: the series' candles of revision 0, in the order of the log. Leaves: what came after a close, or why that is
unknown. Does not know: partitions, scores, Kafka.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from math import fsum, isnan

import msgspec

from models.events import Signal

NEVER = -(1 << 60)
KEPT_BARS = 5
"""Bars kept although nothing asks for them: after a restart they tell what is new, and what the time is."""
SILENT_BARS = 240
"""A series that its partition's clock has left so far behind is not waited for; no label spans such a silence."""


class Waiting(msgspec.Struct, frozen=True, gc=False):  # a named tuple takes six times as long to make
    """A signal whose target has not come."""

    slot: int  # of its close
    target: int  # slot
    signal: Signal
    offset: int  # in `signals`
    speaks: bool


class Due(msgspec.Struct, frozen=True, gc=False):
    """A signal and what came."""

    row: int  # of its series
    signal: Signal
    offset: int  # in `signals`
    close: float  # at the target
    mean_range: float  # over the horizon
    speaks: bool  # the signal or the candle that decides is new since the last commit
    late: bool  # other series of its partition had gone on by then


class Bars:
    """Columns in the order of time; `slots` may have gaps."""

    __slots__ = ("_closes", "_late", "_offsets", "_ranges", "_slots", "_speaks", "heard_ms", "last", "spoken",
                 "waiting")  # fmt: skip

    def __init__(self) -> None:
        self._slots: list[int] = []  # close_time_ms // timeframe
        self._closes: list[float] = []
        self._ranges: list[float] = []  # (high - low) / close; NaN where absent, and at the first bar after a silence
        self._offsets: list[int] = []
        self._speaks: list[bool] = []
        self._late: list[bool] = []
        self.last = NEVER  # slot of the newest bar
        self.heard_ms = NEVER  # the partition's clock when that came
        self.waiting: dict[str, deque[Waiting]] = {}  # by model, in the order of time
        self.spoken: dict[str, int] = {}  # by model: newest slot it gave a signal for

    def add(  # noqa: PLR0913 - columns of one bar; a record for them costs as much as all the rest
        self, slot: int, close: float, range_: float, offset: int, speaks: bool, late: bool
    ) -> None:
        """Add the bar after all others."""
        self._slots.append(slot)
        self._closes.append(close)
        self._ranges.append(range_)
        self._offsets.append(offset)
        self._speaks.append(speaks)
        self._late.append(late)
        self.last = slot

    def due(self, row: int, found: list[Due], withheld: Counter[str]) -> int:
        """Take the signals whose target slot has passed: add those that something came of, count the others by reason.

        Returns how many were taken.
        """
        taken, last = 0, self.last
        for waiting in self.waiting.values():
            while waiting and waiting[0].target <= last:
                self._hold_against(waiting.popleft(), row, found, withheld)
                taken += 1
        return taken

    def _hold_against(self, one: Waiting, row: int, found: list[Due], withheld: Counter[str]) -> None:
        slots = self._slots
        at = bisect_left(slots, one.slot)
        if at == len(slots) or slots[at] != one.slot:
            withheld["candle_gone"] += one.speaks
            return
        then = at + one.target - one.slot
        if then >= len(slots) or slots[then] != one.target:  # slots only ever grow: no gap, or not there
            withheld["undeclared_gap"] += one.speaks or self._speaks[bisect_left(slots, one.target)]
            return
        speaks = one.speaks or self._speaks[then]
        mean_range = fsum(self._ranges[at + 1 : then + 1]) / (then - at)
        if isnan(mean_range):  # an absent slot, or a silence within
            withheld["absent_or_silent"] += speaks
            return
        found.append(Due(row, one.signal, one.offset, self._closes[then], mean_range, speaks, self._late[then]))

    def forget_silent(self) -> int:
        """Give up the signals that wait across a silence, and say how many; those of closes still to come wait on."""
        gone = 0
        for waiting in self.waiting.values():
            while waiting and waiting[0].slot <= self.last:
                waiting.popleft()
                gone += 1
        return gone

    def forget_orphans(self, offset: int) -> int:
        """Give up signals below this offset whose own candle never came, and say how many."""
        gone = 0
        for model, waiting in self.waiting.items():
            if waiting and waiting[-1].slot > self.last:
                self.waiting[model] = deque(one for one in waiting if one.slot <= self.last or one.offset >= offset)
                gone += len(waiting) - len(self.waiting[model])
        return gone

    def trim(self, offset: int, slot: int, live: bool) -> None:
        """Forget bars that nothing can ask for, but for the last few of a live series.

        Args:
            offset: signals of candles from here on may still come.
            slot: bars from here on are wanted anyway.
            live: whether the series is not silent.
        """
        oldest = min((waiting[0].slot for waiting in self.waiting.values() if waiting), default=slot)
        first = min(bisect_left(self._offsets, offset), bisect_left(self._slots, min(slot, oldest)))
        if live or first < len(self._slots):
            first = min(first, len(self._slots)) - KEPT_BARS
        if first <= 0:
            return
        for column in (self._slots, self._closes, self._ranges, self._offsets, self._speaks, self._late):
            del column[:first]
        if not self._slots:
            self.last = NEVER  # as after a restart, which would no longer see it

    def rewind_offsets(self, candles: int, signals: int) -> tuple[int, int]:
        """The smallest offsets that this series needs, or these where they are smaller."""
        if self._offsets:
            candles = min(candles, self._offsets[0])
        for waiting in self.waiting.values():
            if waiting:
                signals = min(signals, waiting[0].offset)
        return candles, signals
