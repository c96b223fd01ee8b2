"""The truth: what every bar of every symbol is, was when it closed, and will be. Pure but for the edits it is given.

Enters: a tape, listings, edits. Leaves: bars of any timeframe as seen at any time, finished or running. Does not know:
what time it is, and whom it is told to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.exchange.edits import FOR_EVER, Edit, revised, without_trade
from tests.exchange.listing import Listing
from tests.exchange.tape import CLOSE, FIRST_ID, HIGH, LOW, OPEN, Ints, Tape


class Bar(NamedTuple):
    """One bar in whole units of its symbol's decimals."""

    open: int
    high: int
    low: int
    close: int
    volume: int
    quote: int
    trades: int
    first_id: int


class Told(NamedTuple):
    """What is to be compared with what a client made of it."""

    rows: list[tuple[int, Bar]]  # open time (UTC ms) and the bar as it was at its close
    absent: list[int]  # open times between the first row and the end that have no bar
    revised: list[tuple[int, Bar]]  # bars that look different now


@dataclass
class World:
    """The symbols' story on the grid of the base timeframe; a slot is an open time divided by its length."""

    tape: Tape
    base_ms: int
    origin: int  # the slot that shows each listing's `offset`
    listings: list[Listing]
    edits: list[Edit] = field(default_factory=list)
    _columns: dict[int, list[Bar | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._index()

    def add(self, listing: Listing) -> int:
        """List one more symbol; its number."""
        self.listings.append(listing)
        self._index()
        return len(self.listings) - 1

    def change(self, *edits: Edit) -> None:
        """Let edits hold from now on."""
        self.edits.extend(edits)
        self._columns.clear()

    def end(self, edit: Edit, slot: int) -> None:
        """Let an edit touch nothing from a slot on."""
        edit.stop = max(edit.first, min(edit.stop, slot))
        self._columns.clear()

    def bars(self, symbol: Ints, slot: Ints, seen_ms: Ints | int) -> tuple[Ints, NDArray[np.bool_]]:
        """Finished base bars `(8, n)` of symbols at slots as they look at a time, and which of them exist."""
        bars = self._taped(symbol, slot)
        exists = slot >= self._born[symbol]
        for edit in self.edits:
            touched = edit.mask(symbol, slot)
            if edit.kind == "zero_trade":
                price = self._taped(symbol, np.full_like(slot, edit.first - 1))[CLOSE]
                without_trade(bars, touched, price)
            elif edit.kind == "revision":
                revised(bars, touched & ((slot + 1) * self.base_ms + edit.after_ms <= seen_ms))
            else:
                exists = exists & ~touched
        return bars, exists

    def column(self, slot: int) -> list[Bar | None]:
        """Every symbol's finished bar at one slot as it is at its close; none where there is none."""
        if slot not in self._columns:
            if len(self._columns) > 3:
                self._columns.pop(min(self._columns))
            symbols = np.arange(len(self.listings))
            bars, exists = self.bars(symbols, np.full_like(symbols, slot), (slot + 1) * self.base_ms)
            rows, there = bars.T.tolist(), exists.tolist()
            self._columns[slot] = [Bar(*row) if yes else None for row, yes in zip(rows, there, strict=True)]
        return self._columns[slot]

    def rows(self, symbol: int, length_ms: int, first_ms: int, last_ms: int, now_ms: int) -> list[tuple[int, Bar]]:
        """Bars with `first_ms <= open time <= last_ms` as they look now; the newest one is unfinished."""
        first = max(first_ms // length_ms * length_ms, self.origin * self.base_ms) // self.base_ms
        now = now_ms // self.base_ms
        stop = min((last_ms // length_ms + 1) * length_ms // self.base_ms, now + 1)
        slots = np.arange(first, max(first, stop))
        bars, exists = self.bars(np.full_like(slots, symbol), slots, now_ms)
        if len(slots) and slots[-1] == now and exists[-1]:
            fraction = (now_ms - now * self.base_ms) / self.base_ms
            bars[:, -1] = running(Bar(*bars[:, -1].tolist()), fraction)
        groups = slots[exists] * self.base_ms // length_ms * length_ms
        opens, grouped = aggregate(bars[:, exists], groups)
        inside = (opens >= first_ms) & (opens <= last_ms)
        return [(at, Bar(*row)) for at, row in zip(opens[inside].tolist(), grouped[:, inside].T.tolist(), strict=True)]

    def truth(self, symbol: int, length_ms: int, from_ms: int, until_ms: int, now_ms: int) -> Told:
        """All that is settled of a series between two times, `until_ms` not included; only bars closed by now."""
        born = int(self._born[symbol]) * self.base_ms // length_ms * length_ms
        first = max(-(-from_ms // length_ms) * length_ms, born)
        stop = min(until_ms, now_ms) // length_ms * length_ms
        slots = np.arange(first // self.base_ms, max(first, stop) // self.base_ms)
        symbols, groups = np.full_like(slots, symbol), slots * self.base_ms // length_ms * length_ms
        then, exists = self.bars(symbols, slots, groups + length_ms)
        now, _ = self.bars(symbols, slots, now_ms)
        opens, at_close = aggregate(then[:, exists], groups[exists])
        at_present = aggregate(now[:, exists], groups[exists])[1]
        rows = [(at, Bar(*row)) for at, row in zip(opens.tolist(), at_close.T.tolist(), strict=True)]
        changed = (at_close != at_present).any(axis=0).nonzero()[0]
        left = self._delisted(symbol)
        absent = sorted(set(groups.tolist()) - set(opens.tolist()))
        return Told(
            rows,
            [at for at in absent if at < left * self.base_ms],
            [(int(opens[i]), Bar(*at_present[:, i].tolist())) for i in changed],
        )

    def partials(self, symbols: list[int], length_ms: int, slot: int) -> list[Bar | None]:
        """Bars of a higher timeframe as they are when a base slot closes, which may be their own last one."""
        first = max(slot * self.base_ms // length_ms * length_ms // self.base_ms, self.origin)
        slots = np.tile(np.arange(first, slot + 1), len(symbols))
        places = np.repeat(np.arange(len(symbols)), slot + 1 - first)
        bars, exists = self.bars(np.array(symbols, dtype=np.int64)[places], slots, (slot + 1) * self.base_ms)
        where, grouped = aggregate(bars[:, exists], places[exists])
        found = dict(zip(where.tolist(), grouped.T.tolist(), strict=True))
        return [Bar(*found[place]) if place in found else None for place in range(len(symbols))]

    def _taped(self, symbol: Ints, slot: Ints) -> Ints:
        source = self._source[symbol]
        bars = self.tape.bars[:, source, (self._offset[symbol] + slot - self.origin) % self.tape.lengths[source]]
        bars[FIRST_ID] += 1 + (slot - self.origin) * 1_000  # ids grow for ever, though the tape is a loop
        return np.asarray(bars)

    def _index(self) -> None:
        self._source = np.array([listing.source for listing in self.listings], dtype=np.int64)
        self._offset = np.array([listing.offset for listing in self.listings], dtype=np.int64)
        self._born = np.array([listing.born for listing in self.listings], dtype=np.int64)
        self._columns.clear()

    def _delisted(self, symbol: int) -> int:
        """First slot of a removal that stands, or one beyond all time."""
        gone = (edit for edit in self.edits if edit.kind == "delist" and edit.stop >= FOR_EVER)
        return min((e.first for e in gone if e.symbols is None or symbol in e.symbols), default=FOR_EVER)


def aggregate(bars: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """Join `(8, n)` bars that share a group, which must be sorted: the groups `(m,)` and their bars `(8, m)`."""
    if not len(groups):
        return groups, bars
    starts = np.flatnonzero(np.concatenate(([True], groups[1:] != groups[:-1])))
    joined = np.add.reduceat(bars, starts, axis=1)
    joined[[OPEN, FIRST_ID]] = bars[[OPEN, FIRST_ID]][:, starts]
    joined[HIGH] = np.maximum.reduceat(bars[HIGH], starts)
    joined[LOW] = np.minimum.reduceat(bars[LOW], starts)
    joined[CLOSE] = bars[CLOSE, np.concatenate((starts[1:], [len(groups)])) - 1]
    return groups[starts], joined


def running(bar: Bar, fraction: float) -> Bar:
    """A bar of which a fraction of the time has passed: high, low, volume and trades never shrink on the way.

    The price goes from the open by the farther extreme's opposite to the close, each leg a third of the bar.
    """
    if not bar.trades or fraction >= 1:
        return bar
    turns = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
    points = (bar.open, *turns, bar.close)
    leg = min(int(fraction * 3), 2)
    price = points[leg] + int((points[leg + 1] - points[leg]) * (fraction * 3 - leg))
    seen = (*points[: leg + 1], price)
    volume = min(bar.volume, max(1, int(bar.volume * fraction)))
    trades = max(1, int(bar.trades * fraction))
    quote = bar.quote * volume // max(1, bar.volume)
    return Bar(bar.open, max(seen), min(seen), price, volume, quote, trades, bar.first_id)
