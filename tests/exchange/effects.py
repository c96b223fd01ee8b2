"""Faults that act: on the world, the clock, open sockets, the port. The others are asked for where they strike.

Enters: faults that begin, go on and end. Leaves: their effects. Does not know: HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

from tests.exchange.catalogue import Fault
from tests.exchange.edits import FOR_EVER, Edit, Kind
from tests.exchange.exchange import Exchange
from tests.exchange.sockets import Connection, Hub

EDITS = ("no_rows", "zero_trade", "delist", "revision")


class Door(Protocol):
    """The port that clients come by."""

    def shut(self, *, reset_later: bool) -> None:
        """Refuse connections, and reset the open ones."""

    def open(self) -> None:
        """Accept them again."""


class Effects:
    """Begins and ends faults."""

    def __init__(self, exchange: Exchange, hub: Hub, door: Door) -> None:
        self._exchange, self._hub, self._door = exchange, hub, door
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, fault: Fault) -> None:
        """Let a fault start.

        Raises:
            ValueError: a symbol that does not exist, or a parameter that cannot be.
        """
        if fault.name == "list":
            for name in fault.symbols or ():
                self._exchange.list_symbol(name)
        elif fault.symbols and (unknown := fault.symbols - set(self._exchange.number)):
            raise ValueError(f"no symbols {', '.join(sorted(unknown))}")
        if fault.name in EDITS:
            fault.edits = [self._edit(fault)]
            self._exchange.world.change(*fault.edits)
        elif fault.name == "skew":
            self._exchange.clock.slew(fault.params["ms"], fault.params["rate"])
        elif fault.name == "refuse":
            self._door.shut(reset_later=fault.params["how"] == "reset")
        self._exchange.faults.append(fault)
        self._exchange.note("fault", name=fault.name, **fault.params)
        self.sweep()

    def end(self, name: str | None = None) -> None:
        """End all faults, or those of a name; what was listed stays, and what did not exist stays so."""
        for fault in [fault for fault in self._exchange.faults if name in {None, fault.name}]:
            self._end(fault)

    def sweep(self) -> None:
        """Repeat what is due again, end what is over."""
        now_s = time.monotonic()
        for fault in list(self._exchange.faults):
            if fault.due_s is not None and now_s >= fault.due_s:
                every_s = fault.params["every_s"]
                fault.due_s = None if every_s is None else now_s + every_s
                self._strike(fault)
            once = "every_s" in fault.params and fault.due_s is None
            if once or fault.left == 0 or (fault.until_s is not None and now_s >= fault.until_s):
                self._end(fault)
        rotation = self._exchange.fault("rotation")
        if rotation:
            for connection in list(self._hub.connections):
                self._rotate(connection, rotation, now_s)

    def ping(self) -> None:
        """Ping every client that is not to be left in silence; a server's clients answer, or lose their place."""
        bound_s = 3 * self._exchange.options.ping_s
        for connection in list(self._hub.connections):
            if time.monotonic() - connection.heard_s > bound_s:
                self._exchange.note("client without pongs dropped")
                connection.kill()
            elif not connection.dead:
                connection.ping()

    def _edit(self, fault: Fault) -> Edit:
        exchange, params = self._exchange, fault.params
        first = exchange.slot + 1 if params.get("first_ms") is None else params["first_ms"] // exchange.options.base_ms
        stop = FOR_EVER if params.get("slots") is None else first + params["slots"]
        symbols = frozenset(exchange.number[name] for name in fault.symbols or ())
        kind, share, after_ms = cast(Kind, fault.name), params.get("share", 1.0), params.get("after_ms", 0)
        return Edit(kind, symbols or None, first, stop, share, after_ms)

    def _end(self, fault: Fault) -> None:
        self._exchange.faults.remove(fault)
        for edit in fault.edits:
            if fault.params.get("slots") is None:
                self._exchange.world.end(edit, self._exchange.slot + 1)
        if fault.name == "skew":
            self._exchange.clock.slew(self._exchange.options.skew_ms, min(0.9, fault.params["rate"]))
        elif fault.name == "refuse" and self._exchange.fault("refuse") is None:
            self._door.open()

    def _strike(self, fault: Fault) -> None:
        """Do to the sockets what a fault of one moment does."""
        self._exchange.counts[f"fault {fault.name}"] += 1
        for connection in list(self._hub.connections):
            if fault.name == "unsubscribe_one":
                for stream in [stream for stream in connection.streams if fault.touches(stream.symbol)]:
                    self._hub.unsubscribe(connection, stream)
            elif fault.symbols is None or any(fault.touches(stream.symbol) for stream in connection.streams):
                if fault.name == "tcp_kill":
                    connection.kill()
                else:
                    self._later(connection.close, 1001, b"")

    def _rotate(self, connection: Connection, fault: Fault, now_s: float) -> None:
        age_s = now_s - connection.opened_s
        if age_s >= fault.params["age_s"] and not connection.warned:
            self._exchange.counts["fault rotation"] += 1
            connection.shut_down_soon()
        if age_s >= fault.params["age_s"] + fault.params["notice_s"]:
            self._hub.leave(connection)
            self._later(connection.close, 1001, b"")

    def _later(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        """Close a socket beside the loop that found it."""
        task = asyncio.create_task(work(*arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
