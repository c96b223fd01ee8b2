"""How long an exchange that does not answer is waited for, with growing, jittered pauses.

Enters: failures and successes of any number of tasks. Leaves: a pause, or the end. Does not know: what was asked.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from streaming.feed.errors import ExchangeUnavailable

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
QUESTION_S = 20.0


class Patience:
    """Shared by all who ask one exchange: any answer makes it patient again."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._last_s = clock()
        self._pause_s = FIRST_PAUSE_S

    @property
    def question_s(self) -> float:
        """For how long one question may be asked again before it is said that nobody answers."""
        return min(QUESTION_S, self._seconds)

    def heard(self) -> None:
        """It answered."""
        self._last_s = self._clock()
        self._pause_s = FIRST_PAUSE_S

    async def wait(self, failure: ExchangeUnavailable) -> None:
        """Pause before asking again.

        Raises:
            ExchangeUnavailable: there was no answer for too long; the very failure.
        """
        silent_s = self._clock() - self._last_s
        if silent_s >= self._seconds:
            raise failure
        logger.warning("exchange unavailable, asking again for_s=%.0f error=%s", self._seconds - silent_s, failure)
        pause_s = max(self._pause_s * random.uniform(0.5, 1.0), failure.retry_after_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        await asyncio.sleep(min(pause_s, max(self._seconds - silent_s, FIRST_PAUSE_S)))
