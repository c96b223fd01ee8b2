"""The exchange's own clock: real time plus a skew that can be moved, and that never runs backwards.

Enters: the machine's monotonic and wall clock. Leaves: UTC milliseconds as the exchange sees them. Does not know: bars.
"""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDING_MS = 1e-3
"""Where it is already, a clock may seem to be a hair beyond."""


class ExchangeClock:
    """Read once from the wall, then carried by the monotonic clock: a step of the machine's clock does not reach it.

    A skew is slewed to, as NTP does it: with rate .5 the clock gains or loses half a second each second. A bar that was
    final can therefore never open again.
    """

    def __init__(self, skew_ms: float = 0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._anchor_ms = time.time() * 1_000 + skew_ms
        self._anchor_s = monotonic()
        self._first_skew_ms = skew_ms
        self._from_ms, self._target_ms, self._since_s, self._rate = 0.0, 0.0, self._anchor_s, 1.0

    def now_ms(self) -> float:
        """UTC milliseconds."""
        now_s = self._monotonic()
        return self._anchor_ms + (now_s - self._anchor_s) * 1_000 + self._slewed(now_s)

    def slew(self, skew_ms: float, rate: float = 0.5) -> None:
        """Move towards a skew against real time.

        Raises:
            ValueError: a rate of 1 or more would turn the clock back.
        """
        now_s = self._monotonic()
        slewed_ms = self._slewed(now_s)
        change_ms = skew_ms - self._first_skew_ms - slewed_ms
        if not rate > 0 or (change_ms < -ROUNDING_MS and rate >= 1):
            raise ValueError(
                "rate must be above 0, and below 1 to go back: the clock of an exchange never runs backwards"
            )
        self._from_ms, self._target_ms = slewed_ms, slewed_ms + change_ms
        self._since_s, self._rate = now_s, rate

    def _slewed(self, now_s: float) -> float:
        """Milliseconds gained so far over the clock as it started."""
        change = self._target_ms - self._from_ms
        step = (now_s - self._since_s) * 1_000 * self._rate
        return self._from_ms + (min(change, step) if change >= 0 else max(change, -step))
