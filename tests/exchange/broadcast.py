"""The heartbeat: at each boundary the frames that close bars, between them unfinished ones, to whom it concerns.

Enters: the exchange's world and clock, the hub's subscribers. Leaves: bytes on sockets. Does not know: requests.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from tests.exchange.disturb import FRAME_FAULTS, Late, Sending, disturbed
from tests.exchange.exchange import Exchange
from tests.exchange.frames import combined, framed, kline
from tests.exchange.intervals import Stream
from tests.exchange.sockets import Connection, Hub
from tests.exchange.world import Bar, running

SLICES = 20
"""Unfinished frames of a bar leave at one of so many moments, one a second if that is more: the middles of slices."""
LEAD_MS = 150
"""The frames that close a bar are made so long before its end, when they need only be sent."""
MAX_BEHIND = 600
"""Bars told late after a pause of the machine or a jump of the clock; older ones are for REST alone."""


class Broadcast:
    """Runs until cancelled."""

    def __init__(self, exchange: Exchange, hub: Hub) -> None:
        self._exchange, self._hub = exchange, hub
        self._world, self._base_ms = exchange.world, exchange.options.base_ms
        self._slices = max(SLICES, self._base_ms // 1_000)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._closing: dict[tuple[int, Stream], tuple[bytes, bytes]] = {}
        self._planned = exchange.slot
        self._prepared: dict[int, int] = {}  # slot to the hub's version then

    async def run(self, sweep: Callable[[], None]) -> None:
        """Do what is due, then sleep until the next; `sweep` is called at least every 50 ms, to end faults in time."""
        while True:
            sweep()
            now = self._exchange.clock.now_ms()
            self._plan(now)
            while self._agenda and self._agenda[0][0] <= now:
                heapq.heappop(self._agenda)[2]()
            due = self._agenda[0][0] if self._agenda else now + 50
            await asyncio.sleep(min(0.05, max(0.0005, (due - self._exchange.clock.now_ms()) / 1_000)))

    def at(self, due_ms: float, action: Callable[[], None]) -> None:
        """Do something at a time of the exchange's clock."""
        heapq.heappush(self._agenda, (due_ms, next(self._ticket), action))

    def _plan(self, now: float) -> None:
        """Put the running bar's moments on the agenda."""
        slot = int(now) // self._base_ms
        self._planned = max(self._planned, slot - MAX_BEHIND)
        while self._planned <= slot:
            self._plan_bar(self._planned)
            self._planned += 1

    def _plan_bar(self, slot: int) -> None:
        start, end = slot * self._base_ms, (slot + 1) * self._base_ms
        options = self._exchange.options
        seeded = np.random.default_rng((options.seed, slot))
        moments = seeded.integers(0, self._slices, (len(self._world.listings), options.updates))
        for piece in range(self._slices):
            chosen = np.flatnonzero((moments == piece).any(axis=1)).tolist()
            if chosen:
                self.at(
                    start + (piece + 0.5) * self._base_ms / self._slices, partial(self._update, slot, piece, chosen)
                )
        self.at(max(start, end - LEAD_MS), partial(self._prepare, slot))
        self.at(end + options.close_delay_ms + float(seeded.random()), partial(self._close, slot))

    def _update(self, slot: int, piece: int, numbers: list[int]) -> None:
        """Send an unfinished bar of each of these symbols."""
        fraction = (piece + 0.5) / self._slices
        event_ms = int((slot + fraction) * self._base_ms)
        interval, column = self._exchange.options.timeframe, self._world.column(slot)
        frames: list[tuple[Stream, bytes, bytes]] = []
        for number in numbers:
            stream = Stream(self._world.listings[number].name, interval)
            bar = column[number] if number < len(column) else None
            if stream in self._hub.subscribers and bar is not None and bar.trades:
                unfinished = running(bar, fraction)
                frames.append((stream, *self._printed(stream, number, slot, unfinished, event_ms, closed=False)))
        self.send(frames)

    def _prepare(self, slot: int) -> None:
        event_ms = int((slot + 1) * self._base_ms + self._exchange.options.close_delay_ms)
        self._prepared[slot] = self._hub.version
        for stream, number, bar in self._ending(slot):
            length = self._exchange.intervals[stream.interval]
            closed = (slot + 1) * self._base_ms % length == 0
            self._closing[slot, stream] = self._printed(stream, number, slot, bar, event_ms, closed=closed)

    def _ending(self, slot: int) -> Iterable[tuple[Stream, int, Bar]]:
        """Every subscribed stream's bar at the end of a base slot: finished ones, and longer ones that go on."""
        column = self._world.column(slot)
        longer: dict[str, list[int]] = {}
        for stream in self._hub.subscribers:
            number = self._exchange.number.get(stream.symbol)
            if number is None:
                continue
            if stream.interval != self._exchange.options.timeframe:
                longer.setdefault(stream.interval, []).append(number)
            elif (bar := column[number]) is not None:
                yield stream, number, bar
        for interval, numbers in longer.items():
            length = self._exchange.intervals[interval]
            if (slot + 1) % max(1, length // self._base_ms // 60) == 0:  # at most 60 updates a bar
                for number, found in zip(numbers, self._world.partials(numbers, length, slot), strict=True):
                    if found is not None:
                        yield Stream(self._world.listings[number].name, interval), number, found

    def _close(self, slot: int) -> None:
        """Send the frames that close a slot, together, or each at a time of its own if a fault says so."""
        if self._prepared.get(slot) != self._hub.version:  # somebody subscribed meanwhile
            self._prepare(slot)
        del self._prepared[slot]
        late: dict[float, list[tuple[Stream, bytes, bytes]]] = {0.0: []}
        for (at, stream), printed in list(self._closing.items()):
            if at != slot:
                continue
            del self._closing[at, stream]
            fault = self._exchange.strikes("late_close", stream.symbol)
            delay_s = round(self._exchange.random.random() * fault.params["delay_s"], 2) if fault else 0.0
            late.setdefault(delay_s, []).append((stream, *printed))
        self.send(late.pop(0.0))
        for delay_s, frames in late.items():
            self.at(self._exchange.clock.now_ms() + delay_s * 1_000, partial(self.send, frames))

    def _printed(
        self, stream: Stream, number: int, slot: int, bar: Bar, event_ms: int, *, closed: bool
    ) -> tuple[bytes, bytes]:
        """A frame as it goes to `/ws`, and as it goes to `/stream`."""
        length = self._exchange.intervals[stream.interval]
        open_ms = slot * self._base_ms // length * length
        show = self._exchange.printer(number)
        event = kline(stream.symbol, stream.interval, length, show, open_ms, bar, event_ms, closed)
        return framed(event.encode()), framed(combined(stream.name, event).encode())

    def send(self, frames: list[tuple[Stream, bytes, bytes]]) -> None:
        """Give each client its frames in one write."""
        outboxes: dict[Connection, list[Sending]] = {}
        for stream, raw, enveloped in frames:
            for connection in self._hub.subscribers.get(stream, ()):
                outboxes.setdefault(connection, []).append(Sending(stream, enveloped if connection.combined else raw))
        harmed = any(fault.name in FRAME_FAULTS for fault in self._exchange.faults)
        for connection, outbox in outboxes.items():
            self._exchange.counts["frames"] += len(outbox)
            if connection.dead:
                continue
            if harmed:
                data, later = disturbed(self._exchange, outbox, stalled=connection.quiet("stall_with_pongs"))
                self._postpone(connection, later)
            else:
                data = b"".join([frame.data for frame in outbox])
            connection.write(data)

    def _postpone(self, connection: Connection, later: list[Late]) -> None:
        now = self._exchange.clock.now_ms()
        for late in later:
            self.at(now + late.after_s * 1_000, partial(connection.write, late.data))
