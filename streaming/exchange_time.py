"""The exchange's time as a process follows it: asked for every so often, and told between two answers.

Enters: the exchange's REST, times of frames. Leaves: its time now, and its own last word. Does not know: what is due by
that time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from models.exchange_clock import ExchangeClock
from streaming.feed.errors import ExchangeError, ExchangeUnavailable
from streaming.feed.rest import ServerTime

logger = logging.getLogger(__name__)

LOOK_S = 10.0
"""Between looks at the exchange's clock; three that agree move ours."""
OWN_CLOCK_S = 1.0
"""What our own clock may be off, where the exchange tells no time."""
WITHIN_S = 5.0
"""A question is asked again for so long; then it is said that nobody answers."""


class TellsTime(Protocol):
    """The exchange's REST, as far as it is needed here."""

    @property
    def tells_time(self) -> bool:
        """Whether there is a call for its clock."""

    async def server_time(self, within_s: float) -> ServerTime | None:
        """What its clock says; none: it tells no time at all."""


class ExchangeTime:
    """Of one exchange."""

    def __init__(self, rest: TellsTime) -> None:
        self._rest = rest
        self._clock = ExchangeClock()
        self._asking = asyncio.Lock()

    def now_ms(self) -> int:
        """The exchange's time, UTC milliseconds."""
        return self._clock.now_ms(time.monotonic())

    def at_least(self, event_ms: int) -> None:
        """Take the time of a frame that arrived just now: the exchange's clock was not behind it."""
        self._clock.at_least(event_ms, time.monotonic())

    async def look(self) -> None:
        """Ask for it.

        Raises:
            ExchangeUnavailable, ExchangeError: it was not told.
        """
        told = await self._rest.server_time(within_s=WITHIN_S)
        if told is not None:
            self._clock.hear(told.server_ms, told.sent_at_s, told.received_at_s)
        elif not self._clock.known:
            logger.warning("the exchange tells no time; going by this machine's clock, which had better be right")
            now_s = time.monotonic()
            self._clock.hear(time.time_ns() // 1_000_000, now_s - OWN_CLOCK_S, now_s + OWN_CLOCK_S)

    async def stated_ms(self, wanted_ms: int) -> int:
        """Its time by its own last word (UTC ms); it is asked again where that was not past `wanted_ms`.

        Raises:
            ExchangeUnavailable, ExchangeError: it was not told.
        """
        if not self._rest.tells_time:
            return self.now_ms()
        async with self._asking:  # one asks for all that wait
            if self._clock.stated_ms(time.monotonic()) < wanted_ms:
                await self.look()
        return self._clock.stated_ms(time.monotonic())

    async def keep(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(1.0 if self._clock.in_doubt else LOOK_S)
            try:
                await self.look()
            except (ExchangeUnavailable, ExchangeError) as error:
                logger.info("the exchange's clock was not told error=%s", error)
