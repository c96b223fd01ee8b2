"""Keeps one share of the series connected: sockets come and go, the line stays.

Enters: which series are wanted. Leaves: a socket that brings them, replaced when it ended, fell silent, grew old, or
when the exchange announced its end. Does not know: other lines, and what a bar is.

A successor is opened and subscribed before its predecessor is closed, and both are heard for a while: a bar told during
the change comes twice, never not at all.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Protocol

from streaming.feed.errors import ExchangeUnavailable
from streaming.feed.socket import Surroundings
from streaming.feed.subscriptions import Pair

logger = logging.getLogger(__name__)

OVERLAP_S = 2.0
"""For what the exchange had sent on the old socket before it agreed to the new one."""
HEALTHY_SILENCES = 2
"""A socket that held so many times as long as silence is borne was a good one: what went wrong before is forgotten."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LONGEST_RETRY_AFTER_S = 300.0
MAX_SILENCES = 4
"""Doublings of the patience with a line on which nothing comes although its socket was replaced: a quiet market."""


class Connection(Protocol):
    """One socket to an exchange: `Socket`, or `Watching` where ccxt must read the frames."""

    ended: asyncio.Future[str]  # why
    pairs: set[Pair]  # that the exchange agreed to send
    refused: dict[Pair, str]  # that it did not, with its reason; emptied by the line
    opened_at: float
    heard_at: float  # the last bar, or the opening; both by the loop's clock
    announced_end: str | None

    async def open(self, pairs: Sequence[Pair]) -> None:
        """Connect and subscribe. Raises `ExchangeUnavailable`."""

    async def subscribe(self, pairs: Sequence[Pair]) -> None:
        """Ask for more. Raises `ExchangeUnavailable`."""

    async def unsubscribe(self, pairs: Sequence[Pair]) -> None:
        """Ask for less. Raises `ExchangeUnavailable`."""

    async def close(self) -> None:
        """End it, whatever its state."""


class Owner(Protocol):
    """Who puts series on lines: `Sockets`."""

    def kind_of(self, pair: Pair) -> str | None:
        """What shares a connection with it; none: the exchange has it no longer."""

    def refuse(self, pair: Pair, reason: str) -> None:
        """Take back a series that the exchange does not send."""


class Due(StrEnum):
    """Why a socket is to be replaced."""

    ENDED = "ended"
    SILENT = "silent"
    OLD = "old"
    ANNOUNCED = "announced"
    UNWANTED = "unwanted"


class Line:
    """A share of the series of one kind. Change `wanted`, then set `poke`."""

    def __init__(
        self,
        kind: str,
        surroundings: Surroundings,
        new_socket: Callable[[asyncio.Event], Connection],
        owner: Owner,
        rng: random.Random,
    ) -> None:
        self.kind = kind
        self.wanted: set[Pair] = set()
        self.poke = asyncio.Event()
        self.socket: Connection | None = None
        self._settings, self._tally = surroundings.settings, surroundings.tally
        self._new_socket, self._owner, self._rng = new_socket, owner, rng
        self._old: Connection | None = None
        self._rotate_s = 0.0
        self._failures = self._silences = 0
        self._retry_after_s = 0.0

    @property
    def alive(self) -> bool:
        """Whether it is connected now."""
        return self.socket is not None and not self.socket.ended.done()

    async def keep(self) -> None:
        """Go on until nothing is wanted.

        Raises:
            Exception: what the listener raised, or a fault of ours; never one of the network.
        """
        try:
            while (fresh := await self._open()) is not None:
                await self._close_old()
                self._old, self.socket = self.socket, fresh
                self._rotate_s = self._settings.rotate_s * self._rng.uniform(0.9, 1.0)
                self._learn(fresh, *await self._until_due(fresh))
        finally:
            await self._close_old()
            if self.socket is not None:
                await self.socket.close()

    async def _open(self) -> Connection | None:
        """A connected and subscribed socket; none: nothing is wanted any more."""
        while True:
            if self.wanted:
                await asyncio.sleep(self._pause_s())
            self._refuse_gone()
            if not self.wanted:
                return None
            fresh = self._new_socket(self.poke)
            try:
                await fresh.open(sorted(self.wanted))
            except BaseException as error:
                await fresh.close()
                if not isinstance(error, ExchangeUnavailable):
                    raise
                self._failed(error)
            else:
                self._retry_after_s = 0.0
                return fresh

    async def _until_due(self, socket: Connection) -> tuple[Due, str]:
        """Keep its subscriptions as wanted until it must be replaced; why, and details."""
        loop = asyncio.get_running_loop()
        while True:
            self.poke.clear()
            self._refuse(socket.refused)
            if (due := self._due(socket, loop.time())) is not None:
                return due
            if loop.time() >= socket.opened_at + OVERLAP_S:
                await self._close_old()
            try:
                changed = await self._as_wanted(socket)
            except ExchangeUnavailable as error:
                return Due.ENDED, str(error)
            if not changed:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._next_look(socket)):
                        await self.poke.wait()

    async def _as_wanted(self, socket: Connection) -> bool:
        """Bring its subscriptions in line with what is wanted; whether anything was to do."""
        self._refuse_gone()
        more, less = self.wanted - socket.pairs, socket.pairs - self.wanted
        if more:
            await socket.subscribe(sorted(more))
        if less:
            await socket.unsubscribe(sorted(less))
        return bool(more or less)

    def _due(self, socket: Connection, now: float) -> tuple[Due, str] | None:
        if not self.wanted:
            return Due.UNWANTED, ""
        if socket.ended.done():
            return Due.ENDED, socket.ended.result()
        if socket.announced_end is not None:
            return Due.ANNOUNCED, socket.announced_end
        if now >= socket.heard_at + self._patience_s:
            return Due.SILENT, f"no bar for {now - socket.heard_at:.1f} s"
        if now >= socket.opened_at + self._rotate_s:
            return Due.OLD, f"age {now - socket.opened_at:.0f} s"
        return None

    @property
    def _patience_s(self) -> float:
        return self._settings.silent_socket_s * (1 << min(self._silences, MAX_SILENCES))

    @property
    def _healthy_s(self) -> float:
        return HEALTHY_SILENCES * self._settings.silent_socket_s

    def _next_look(self, socket: Connection) -> float:
        looks = [socket.heard_at + self._patience_s, socket.opened_at + self._rotate_s]
        if self._old is not None:
            looks.append(socket.opened_at + OVERLAP_S)
        return min(looks)

    def _learn(self, socket: Connection, due: Due, detail: str) -> None:
        """Count why a socket is replaced, and how soon the next one may be opened."""
        if socket.heard_at - socket.opened_at >= self._healthy_s:
            self._failures = self._silences = 0
        if due is Due.UNWANTED:
            return
        if due is Due.ENDED:
            self._tally.reconnects += 1
            self._tally.last_error = detail
        if due in {Due.ENDED, Due.ANNOUNCED} and asyncio.get_running_loop().time() - socket.opened_at < self._healthy_s:
            self._failures += 1
        if due is Due.SILENT:
            self._silences += 1
            self._tally.silences += 1
        if due in {Due.OLD, Due.ANNOUNCED}:
            self._tally.rotations += 1
        level = logging.INFO if due is Due.OLD else logging.WARNING
        logger.log(level, "exchange socket is replaced because=%s series=%d detail=%s", due, len(self.wanted), detail)

    def _failed(self, error: ExchangeUnavailable) -> None:
        self._failures += 1
        self._retry_after_s = min(error.retry_after_s, LONGEST_RETRY_AFTER_S)
        self._tally.last_error = str(error)
        logger.warning("exchange socket failed attempt=%d series=%d reason=%s", self._failures, len(self.wanted), error)

    def _pause_s(self) -> float:
        """Before the next attempt: none after a good socket, then longer and longer, never alike."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10)) if self._failures else 0.0
        return max(pause_s * self._rng.uniform(0.5, 1.0), self._retry_after_s)

    def _refuse(self, refused: dict[Pair, str]) -> None:
        for pair, reason in refused.items():
            if pair in self.wanted:  # else nobody waits for it here any more
                self.wanted.discard(pair)
                self._owner.refuse(pair, reason)
        refused.clear()

    def _refuse_gone(self) -> None:
        self._refuse(
            {pair: "the exchange has it no longer" for pair in self.wanted if self._owner.kind_of(pair) is None}
        )

    async def _close_old(self) -> None:
        if self._old is not None:
            old, self._old = self._old, None
            await old.close()
