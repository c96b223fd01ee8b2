"""One simulated exchange in one place: its clock, its world, its faults and its memory of what it did.

Enters: options. Leaves: what REST, sockets and control share. Does not know: any protocol.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from typing import Any

from tests.exchange.catalogue import Fault
from tests.exchange.clock import ExchangeClock
from tests.exchange.frames import Printer, printer
from tests.exchange.intervals import served
from tests.exchange.listing import listing, listings
from tests.exchange.options import Options
from tests.exchange.tape import read_tape
from tests.exchange.world import World


class Exchange:
    """State and questions; whatever acts on it has a module of its own."""

    def __init__(self, options: Options, clock: ExchangeClock | None = None) -> None:
        self.options = options
        self.clock = clock or ExchangeClock(options.skew_ms)
        self.intervals = served(options.base_ms)
        tape = read_tape(options.candles)
        origin = int(self.clock.now_ms()) // options.base_ms - options.history
        self.world = World(tape, options.base_ms, origin, listings(tape, options.symbols, origin))
        self.number = {item.name: i for i, item in enumerate(self.world.listings)}
        self.faults: list[Fault] = []
        self.random = random.Random(options.seed)
        self.counts: Counter[str] = Counter()
        self.events: deque[dict[str, Any]] = deque(maxlen=500)

    @property
    def now_ms(self) -> int:
        """UTC milliseconds of the exchange's clock."""
        return int(self.clock.now_ms())

    @property
    def slot(self) -> int:
        """The base slot that is running."""
        return self.now_ms // self.options.base_ms

    def fault(self, name: str, symbol: str | None = None) -> Fault | None:
        """The newest fault of a name at work, on a symbol if one is given."""
        now_s = time.monotonic()
        for fault in reversed(self.faults):
            over = fault.left == 0 or (fault.until_s is not None and now_s >= fault.until_s)
            if fault.name == name and not over and (symbol is None or fault.touches(symbol)):
                return fault
        return None

    def strikes(self, name: str, symbol: str | None = None) -> Fault | None:
        """The fault, if it is at work and, by its `share`, hits this time; counted."""
        if not self.faults:
            return None
        fault = self.fault(name, symbol)
        if fault is None or self.random.random() >= fault.params.get("share", 1.0) or not fault.spend():
            return None
        self.counts[f"fault {name}"] += 1
        return fault

    def status(self, name: str) -> str | None:
        """`TRADING`, or `BREAK`; none of a symbol that is not in the list."""
        if name not in self.number:
            return None
        fault = self.fault("delist", name)
        return "TRADING" if fault is None else (fault.params["status"] or None)

    def printer(self, number: int) -> Printer:
        """How a symbol's numbers are written."""
        return printer(self.world.listings[number], self.options.spot)

    def list_symbol(self, name: str) -> None:
        """Let a new symbol appear with the next bar; one that exists already stays as it is.

        Raises:
            ValueError: its name does not end with a quote that the tape has.
        """
        if name in self.number:
            return
        count = len(self.world.listings)
        new = listing(self.world.tape, count, count + len(self.world.tape.names), self.slot + 1, name)
        self.number[name] = self.world.add(new)

    def note(self, event: str, **details: Any) -> None:
        """Remember an event; the newest 500 are kept."""
        self.events.append({"at_ms": self.now_ms, "event": event, **details})
