"""Signals joined with what happened: candles and signals of the same partitions in, outcomes and their sums out.

Enters: batches of raw records of `candles` and of `signals`, however they are cut and interleaved. Leaves: encoded
outcomes and sums by partition, and the offsets from which all of it can be rebuilt. Does not know: Kafka, drift.

An outcome is a function of its signal and of its series' candles. What makes that hold in any order of reading is that
bars are kept until every signal of theirs is known to have been read: `settle` says so, from what `predict` committed.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from models.bars import NEVER, SILENT_BARS, Bars, Due, Waiting
from models.decode import Batch, decode_batch
from models.events import Message
from models.outcome_writer import OutcomeWriter, Summed
from models.series_table import SeriesTable
from models.signal_records import decode_signals
from models.sums import Sums


class Rewind(NamedTuple):
    """What a commit of one partition must remember."""

    candles: int  # offsets from which the state can be rebuilt
    signals: int
    settled: int  # sums of targets that candles below this offset had passed are out


@dataclass
class Joined:
    """What came of a batch."""

    outcomes: dict[int, list[Message]] = field(default_factory=lambda: defaultdict(list))  # by partition
    joined: Counter[str] = field(default_factory=Counter)  # outcomes by model
    withheld: Counter[str] = field(default_factory=Counter)  # signals that have none, by reason
    ignored: Counter[str] = field(default_factory=Counter)  # records out of the ordinary
    late: int = 0  # outcomes that came after their sum


class _Mark(NamedTuple):
    end: int
    clock_ms: dict[int, int]


class _Part:
    """One partition."""

    def __init__(self, partition: int, rewind: Rewind) -> None:
        self.clock_ms: dict[int, int] = {}  # by timeframe in ms: newest close of a series that runs on
        self.settled_ms: dict[int, int] = {}  # likewise: targets before it were summed
        self.settled = rewind.settled
        self.rebuilding = True  # until the candles below `settled` are read again
        self.marks: deque[_Mark] = deque()  # the clock as it was at offsets
        self.floor = rewind.candles  # signals of candles below are all known
        self.candles_end, self.signals_end = rewind.candles, rewind.signals
        self.sums = Sums(partition)
        self.waiting = 0


class Join:
    """Holds the state of the partitions it was given. One thread owns it."""

    def __init__(self) -> None:
        self._table = SeriesTable()
        self._bars: list[Bars] = []  # by row
        self._partition_of: list[int] = []  # by row
        self._length_of: list[int] = []
        self._parts: dict[int, _Part] = {}
        self._writer = OutcomeWriter()

    def begin(self, partition: int, rewind: Rewind) -> None:
        """Take up a partition where these offsets say."""
        self._parts[partition] = _Part(partition, rewind)

    def forget(self, partitions: Collection[int]) -> None:
        """Drop partitions that went to another process."""
        for row in self._table.drop(partitions).tolist():
            self._bars[row] = Bars()  # another series will have it
        for partition in partitions:
            self._parts.pop(partition, None)

    def waiting(self, partition: int) -> int:
        """Signals whose target has not come."""
        return self._parts[partition].waiting

    def take(self, candles: Batch, signals: Batch) -> Joined:
        """Take what was fetched: advance the bars, then hold against them what is due."""
        joined = Joined()
        touched = self._take_candles(candles, joined)
        touched |= self._take_signals(signals, joined)
        self._join(touched, joined)
        return joined

    # --- candles

    def _take_candles(self, batch: Batch, joined: Joined) -> set[int]:
        columns, rejects = decode_batch(self._table, batch)
        self._make_room()
        joined.ignored["poison_candle"] += sum(bool(batch.speaks[reject.position]) for reject in rejects)
        columns = columns.take(columns.revision == 0)
        ranges = (columns.high - columns.low) / columns.close
        partitions = self._table.partition[columns.row]
        lengths = self._table.timeframe_ms[columns.row]
        of_each = (partitions, lengths, columns.row, columns.close_time_ms, columns.close, ranges, columns.offset,
                   columns.speaks)  # fmt: skip
        for candle in zip(*(column.tolist() for column in of_each), strict=True):
            self._take_candle(*candle)
        for partition, offset in zip(batch.partitions, batch.offsets.tolist(), strict=True):
            self._parts[partition].candles_end = offset + 1
        for partition in set(batch.partitions):
            part = self._parts[partition]
            part.marks.append(_Mark(part.candles_end, dict(part.clock_ms)))
        return set(columns.row.tolist())

    def _take_candle(  # noqa: PLR0913 - columns of one candle, unpacked once
        self, partition: int, length_ms: int, row: int, close_ms: int, close: float, range_: float, offset: int,
        speaks: bool,
    ) -> None:  # fmt: skip
        part, bars, slot = self._parts[partition], self._bars[row], close_ms // length_ms
        if slot <= bars.last:
            return  # the first word counts
        clock = part.clock_ms.get(length_ms, NEVER)
        late = clock > close_ms
        if clock - bars.heard_ms > SILENT_BARS * length_ms:
            if bars.last != NEVER:
                range_ = float("nan")  # no label spans the silence
        elif slot == bars.last + 1 and not late:  # a lone candle from a wrong future moves no clock
            part.clock_ms[length_ms] = clock = close_ms
        bars.add(slot, close, range_, offset, speaks, late)
        bars.heard_ms = max(clock, close_ms)
        if offset < part.settled:
            part.settled_ms[length_ms] = clock

    # --- signals

    def _take_signals(self, batch: Batch, joined: Joined) -> set[int]:
        decoded = decode_signals(self._table, batch, joined.ignored)
        self._make_room()
        touched = set()
        for row, signal, offset, speaks in decoded:
            bars, model = self._bars[row], signal.model
            slot = signal.close_time_ms // self._length_of[row]
            if slot <= bars.spoken.get(model, NEVER):
                joined.ignored["duplicate_signal"] += speaks
                continue
            bars.spoken[model] = slot
            if model not in bars.waiting:
                bars.waiting[model] = deque()
            bars.waiting[model].append(Waiting(slot, slot + signal.horizon_bars, signal, offset, speaks))
            self._parts[self._partition_of[row]].waiting += 1
            touched.add(row)
        for partition, offset in zip(batch.partitions, batch.offsets.tolist(), strict=True):
            self._parts[partition].signals_end = offset + 1
        return touched

    def _make_room(self) -> None:
        """Rows are given out by the table; plain lists beside its columns answer one row faster."""
        while len(self._bars) < len(self._table.keys):
            self._bars.append(Bars())
        self._partition_of = self._table.partition.tolist()
        self._length_of = self._table.timeframe_ms.tolist()

    # --- the join

    def _join(self, rows: set[int], joined: Joined) -> None:
        due: list[Due] = []
        for row in sorted(rows):
            taken = self._bars[row].due(row, due, joined.withheld)
            if taken:
                self._parts[self._partition_of[row]].waiting -= taken
        for each, text, summed in zip(due, *self._writer.write(due), strict=True):
            if text is None:  # a scale that is not above 0, and the like
                joined.withheld["not_finite"] += each.speaks
                continue
            partition = self._partition_of[each.row]
            self._sum(self._parts[partition], each, summed, joined)
            if each.speaks:
                signal = each.signal
                joined.joined[signal.model] += 1
                joined.outcomes[partition].append(Message(self._table.keys[each.row], text, signal.target_time_ms))

    def _sum(self, part: _Part, due: Due, values: Summed, joined: Joined) -> None:
        signal, length_ms = due.signal, self._length_of[due.row]
        part.sums.see(signal, length_ms)
        if not due.late and signal.target_time_ms >= part.settled_ms.get(length_ms, 0):
            part.sums.add(signal, due.offset, values)
        else:
            joined.late += due.speaks

    # --- what is done with

    def settle(self, partition: int, offset: int) -> list[Message]:
        """Every signal of candles below this offset has been taken: give the sums of what they passed."""
        part = self._parts[partition]
        if part.candles_end < part.settled:
            return []
        if part.rebuilding:
            part.sums.forget(part.settled_ms)
            part.rebuilding = False
        while part.marks and part.marks[0].end <= offset:
            mark = part.marks.popleft()
            if mark.end > part.settled:
                part.settled, part.settled_ms = mark.end, mark.clock_ms
        self.let_go(partition, offset)
        return part.sums.close(part.settled_ms)

    def let_go(self, partition: int, offset: int) -> None:
        """Forget the bars of candles below this offset that nothing known asks for, and who has fallen silent."""
        part = self._parts[partition]
        part.floor = max(part.floor, offset)
        for row in np.flatnonzero(self._table.partition == partition).tolist():
            bars, length_ms = self._bars[row], int(self._table.timeframe_ms[row])
            live = part.clock_ms.get(length_ms, NEVER) - bars.heard_ms <= SILENT_BARS * length_ms
            if not live:
                part.waiting -= bars.forget_silent()
            settled = part.settled_ms.get(length_ms, NEVER) // length_ms
            bars.trim(part.floor, settled - part.sums.horizon_bars(length_ms), live)

    def forget_orphans(self, partition: int, offset: int) -> int:
        """Give up the signals below this offset whose own candle is not in the log any more, and say how many."""
        rows = np.flatnonzero(self._table.partition == partition).tolist()
        gone = sum(self._bars[row].forget_orphans(offset) for row in rows)
        self._parts[partition].waiting -= gone
        return gone

    def rewinds(self) -> dict[int, Rewind]:
        """By partition, from where the state as it is now can be rebuilt."""
        found = {
            partition: (part.candles_end, part.sums.rewind_offset(part.signals_end))
            for partition, part in self._parts.items()
        }
        for row in self._table.rows.tolist():
            partition = int(self._table.partition[row])
            found[partition] = self._bars[row].rewind_offsets(*found[partition])
        return {
            partition: Rewind(candles, signals, self._parts[partition].settled)
            for partition, (candles, signals) in found.items()
        }
