"""Asks until there is an answer: again and again with growing pauses, as long as that may help and there is time.

Enters: a question as a coroutine, and a time. Leaves: its answer, or an error in our terms. Does not know: what is
asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from streaming.feed.door import Door, deadline
from streaming.feed.errors import ExchangeUnavailable, translate

logger = logging.getLogger(__name__)

T = TypeVar("T")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0


class Asking:
    """Of one exchange. Says once when it is away, and once when it is back."""

    def __init__(
        self, exchange: str, door: Door, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self.retries = 0
        self._exchange = exchange
        self._door = door
        self._clock = clock
        self._sleep = sleep
        self._why: ExchangeUnavailable | None = None  # it is away
        self._closed = False

    def close(self) -> None:
        """Ask nothing any more: nobody waits for the answers, and a question to a closed connection opens another."""
        self._closed = True

    async def answer(self, ask: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Ask, for `within_s` in all: waiting for its turn, for the budget, and asking again included.

        Raises:
            ExchangeError: asking again would not help.
            ExchangeUnavailable: there was no answer, or the exchange wants to be left alone for longer than that, or
                this was closed.
        """
        ends_s = self._clock() + within_s
        token = deadline.set(ends_s)
        try:
            async with asyncio.timeout(within_s):
                return await self._retrying(ends_s)(self._once, ask)
        except TimeoutError as error:
            before = f"; the last try: {self._why}" if self._why else ""
            raise ExchangeUnavailable(f"{self._exchange} did not answer within {within_s:g} s{before}") from error
        finally:
            deadline.reset(token)

    def _retrying(self, ends_s: float) -> AsyncRetrying:
        return AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception_type(ExchangeUnavailable),
            wait=wait_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S) + wait_random(0, FIRST_PAUSE_S),
            stop=lambda state: self._too_late(state, ends_s),
            before_sleep=self._again,
            reraise=True,
        )

    async def _once(self, ask: Callable[[], Awaitable[T]]) -> T:
        if self._closed:
            raise ExchangeUnavailable(f"{self._exchange} is asked nothing any more: closed")
        try:
            answer = await ask()
        except Exception as error:
            mine = translate(error, self._exchange, self._door.last.host)
            if isinstance(mine, ExchangeUnavailable):
                self._went(mine)
            if mine is error:
                raise
            raise mine from error
        self._came()
        return answer

    def _too_late(self, state: RetryCallState, ends_s: float) -> bool:
        error = state.outcome.exception() if state.outcome else None
        wanted_s = error.retry_after_s if isinstance(error, ExchangeUnavailable) else 0.0
        return self._closed or self._clock() + max(state.upcoming_sleep, wanted_s) > ends_s

    def _again(self, state: RetryCallState) -> None:
        self.retries += 1

    def _went(self, why: ExchangeUnavailable) -> None:
        if self._why is None:
            logger.warning("exchange away exchange=%s why=%s", self._exchange, why)
        self._why = why

    def _came(self) -> None:
        if self._why is not None:
            self._why = None
            logger.info("exchange back exchange=%s", self._exchange)
