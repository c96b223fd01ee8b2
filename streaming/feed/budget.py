"""How much may still be asked of an exchange this minute: pure, with a monotonic clock as argument.

Enters: what each request weighs, and what the exchange's answers say of its own count. Leaves: how long to wait before
the next one. Does not know: requests, and how to wait.

Binance counts the weights of a minute of its own clock, for a whole address. Here a window of that length slides, so
that no minute of theirs, however it lies, holds more than was allowed. What others on the same address use is known
from the count that comes with each answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

TOO_MANY, BANNED = 429, 418
DEFAULT_PAUSE_S = {TOO_MANY: 30.0, BANNED: 120.0}
"""Where the exchange does not say how long."""
LONGEST_PAUSE_S = 3 * 86_400.0
"""Binance bans for 2 minutes to 3 days. Source: its REST documentation, "IP limits"."""
MINUTE_S = 61.0
"""A second longer than the exchange's own, for requests that are on their way when it ends."""
USED = "x-mbx-used-weight-1m"


class Budget:
    """Weights spent within a sliding window."""

    def __init__(self, weight: float, window_s: float = MINUTE_S, address_weight: float | None = None) -> None:
        """Args: `weight` may be spent in any `window_s`; `address_weight` by all processes of this address together."""
        self.weight = weight
        self._window_s = window_s
        self._address_weight = address_weight
        self._spent: deque[tuple[float, float]] = deque()  # when, weight; no longer than the window allows
        self._sum = 0.0
        self._others = (float("-inf"), 0.0)  # when heard, what others on this address have used
        self._blocked_until = float("-inf")
        self.refusals = 0  # answers 429 and 418 so far

    def take(self, now_s: float, weight: float) -> float:
        """Spend if that is allowed now: 0, it is spent; else seconds after which to ask again.

        A request heavier than the whole budget is let through alone, else it could never be made.
        """
        wait_s = self.blocked_s(now_s) or self._full_s(now_s, min(weight, self._room))
        if not wait_s:
            self._spent.append((now_s, weight))
            self._sum += weight
        return wait_s

    def blocked_s(self, now_s: float) -> float:
        """Seconds for which the exchange wants no request at all."""
        return max(0.0, self._blocked_until - now_s)

    def used(self, now_s: float) -> float:
        """Weight spent by this process in the window that ends now."""
        self._forget(now_s)
        return self._sum

    def heard(self, now_s: float, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer."""
        low = {name.lower(): value for name, value in headers.items()}
        if status in DEFAULT_PAUSE_S:
            self.refusals += 1
            self._blocked_until = max(self._blocked_until, now_s + _pause_s(status, low))
        if (count := _number(low.get(USED))) is not None:
            self._others = (now_s, max(0.0, count - self.used(now_s)))

    @property
    def _room(self) -> float:
        return min(self.weight, self._address_weight or self.weight)

    def _full_s(self, now_s: float, weight: float) -> float:
        self._forget(now_s)
        over = max(self._sum + weight - self.weight, self._over_address(now_s, weight))
        if over <= 0:
            return 0.0
        for at_s, spent in self._spent:
            over -= spent
            if over <= 0:
                return max(at_s + self._window_s - now_s, 1e-3)
        return max(self._others[0] + self._window_s - now_s, 1e-3)  # it is others who filled it

    def _over_address(self, now_s: float, weight: float) -> float:
        if self._address_weight is None or now_s >= self._others[0] + self._window_s:
            return 0.0
        return self._sum + self._others[1] + weight - self._address_weight

    def _forget(self, now_s: float) -> None:
        while self._spent and self._spent[0][0] + self._window_s <= now_s:
            self._sum -= self._spent.popleft()[1]
        if not self._spent:
            self._sum = 0.0  # sums of fractions do not end at zero by themselves


def _pause_s(status: int, headers: Mapping[str, str]) -> float:
    """Seconds, or a date, which counts from the answer's own date: our clock has no say."""
    text = headers.get("retry-after", "")
    pause_s = _number(text)
    if pause_s is None:
        try:
            pause_s = (parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
        except (TypeError, ValueError):
            pause_s = DEFAULT_PAUSE_S[status]
    return min(max(pause_s, 1.0), LONGEST_PAUSE_S)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
