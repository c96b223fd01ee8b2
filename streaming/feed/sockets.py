"""All sockets of a process: which series is heard on which line.

Enters: series to watch, as they come and go. Leaves: their bars, told to a `Listener`. Does not know: the sequencer,
and what becomes of a line's sockets (`line.py`).

There is no queue here: a bar goes from the socket's read to the listener in one call, and while the listener works
nothing is read, so a burst waits in the kernel's buffers and the exchange's.

A series that the exchange refuses is asked for again, later each time: whether an objection is for good nobody can tell
from its words.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from models.series import Series
from streaming.feed.frames import dialect_of
from streaming.feed.line import Connection, Line
from streaming.feed.socket import Listener, Socket, Surroundings
from streaming.feed.subscriptions import Pair, Subscriptions
from streaming.feed.tally import FeedStatus, Tally
from streaming.feed.watching import Watching
from streaming.settings import ExchangeSettings

FIRST_AGAIN_S, MOST_AGAIN_S = 5.0, 600.0
"""From a refusal to the next try: twice as long each time. After a longer peace than the longest it begins anew."""
LOOK_S = 0.5


class Refusal(NamedTuple):
    """What is remembered of a series that the exchange would not send."""

    times: int  # in a row
    again_s: float  # monotonic; when it is asked for again, or was


class Sockets:
    """The websocket feed of one exchange, a `Feed` of polling.py.

    Args:
        exchange: ccxt.pro's, with markets loaded; whoever opened it closes it, after `run` has ended.
        settings: of the exchange.
        listener: gets every bar, at once.
        rng: for jitter.
    """

    def __init__(
        self, exchange: Any, settings: ExchangeSettings, listener: Listener, rng: random.Random | None = None
    ) -> None:
        self._surroundings = Surroundings(exchange, settings, listener, Tally())
        self._subscriptions = Subscriptions(exchange)
        self._rng = rng or random.Random()
        self._lines: list[Line] = []
        self._refusals: dict[Pair, Refusal] = {}  # of what is wanted
        self._tasks: asyncio.TaskGroup | None = None

    def watch(self, series: Iterable[Series]) -> None:
        """Hear of these too; what is watched already stays as it is. May be called before `run` and any time later."""
        for one in series:
            pair = (one.symbol, one.timeframe)
            if self._line_of(pair) is None:
                self._place(pair)

    def unwatch(self, series: Iterable[Series]) -> None:
        """Hear of these no more."""
        for one in series:
            pair = (one.symbol, one.timeframe)
            self._refusals.pop(pair, None)
            self._take_off(pair)

    def resubscribe(self, series: Series) -> None:
        """Ask for a series anew, on another connection: the one it was asked on is silent about it alone."""
        pair = (series.symbol, series.timeframe)
        if self.kind_of(pair) is not None:
            self._place(pair, away_from=self._take_off(pair))

    def kind_of(self, pair: Pair) -> str | None:
        """What shares a connection with this; none: the exchange has no such market, or no such timeframe."""
        return self._subscriptions.kind(pair)

    def refuse(self, pair: Pair, reason: str) -> None:
        """Remember that the exchange does not send this, to ask again."""
        now_s, before = time.monotonic(), self._refusals.get(pair)
        times = before.times + 1 if before and now_s < before.again_s + MOST_AGAIN_S else 1
        wait_s = min(FIRST_AGAIN_S * 2 ** min(times - 1, 10), MOST_AGAIN_S)
        self._refusals[pair] = Refusal(times, now_s + wait_s)
        self._surroundings.tally.refusals += 1
        self._surroundings.listener.on_refused(*pair, reason)

    def status(self) -> FeedStatus:
        """How the feed is. Call it within the event loop."""
        return self._surroundings.tally.status(
            sockets=len(self._lines),
            alive=sum(line.alive for line in self._lines),
            series=sum(len(line.wanted) for line in self._lines),
            now_s=asyncio.get_running_loop().time(),
            refused=len(self._unasked()),
        )

    async def run(self) -> None:
        """Keep every line until cancelled.

        Raises:
            ExceptionGroup: the listener raised, or there is a fault of ours; the network's are dealt with here.
        """
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for line in self._lines:
                tasks.create_task(self._keep(line))
            while True:
                await asyncio.sleep(LOOK_S)
                now_s = time.monotonic()
                for pair in [pair for pair in self._unasked() if now_s >= self._refusals[pair].again_s]:
                    self._place(pair)

    def _unasked(self) -> list[Pair]:
        """What was refused, and is on no line now."""
        return [pair for pair in self._refusals if self._line_of(pair) is None]

    def _line_of(self, pair: Pair) -> Line | None:
        return next((line for line in self._lines if pair in line.wanted), None)

    def _take_off(self, pair: Pair) -> Line | None:
        """Off its line, if it is on one; gives it."""
        line = self._line_of(pair)
        if line is not None:
            line.wanted.discard(pair)
            line.poke.set()
        return line

    def _place(self, pair: Pair, away_from: Line | None = None) -> None:
        """Into the first line with room, but for one; else into a new one."""
        kind = self.kind_of(pair)
        if kind is None:
            self.refuse(pair, "the exchange has no such symbol, or no such timeframe")
            return
        size = self._surroundings.settings.symbols_a_socket
        roomy = (one for one in self._lines if one.kind == kind and 0 < len(one.wanted) < size and one is not away_from)
        line = next(roomy, None) or self._new_line(kind)
        line.wanted.add(pair)
        line.poke.set()

    def _new_line(self, kind: str) -> Line:
        def new_socket(poke: asyncio.Event) -> Connection:
            dialect = dialect_of(self._surroundings.exchange.id, kind)
            return Watching(self._surroundings, poke) if dialect is None else Socket(self._surroundings, dialect, poke)

        line = Line(kind, self._surroundings, new_socket, self, self._rng)
        self._lines.append(line)
        if self._tasks is not None:
            self._tasks.create_task(self._keep(line))
        return line

    async def _keep(self, line: Line) -> None:
        try:
            await line.keep()
        finally:
            self._lines.remove(line)
