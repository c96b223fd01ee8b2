"""When REST is to be asked, and for which bars.

Enters: the first bar that is not finished, the newest heard of, and the exchange's time, UTC milliseconds. Leaves: when
the first is due, and which bars to ask for. Does not know: what the bars say.
"""

from __future__ import annotations

from models.kline import Span
from models.sequencing import BEYOND_BARS, Limits

MOST_WAIT_MS = 60_000
"""Between requests that teach nothing, and never longer than a bar: a symbol that is gone must not eat the budget."""


class Asking:
    """Due times of one series.

    A bar is due once a row of it would be final, and once either a newer bar has begun or its end has been waited for
    long enough. Requests that teach nothing come at twice the distance each time, up to a bound.
    """

    __slots__ = (
        "_asked_at_ms", "_asked_until_ms", "_in_vain", "_limits", "_most_wait_ms", "_origin_ms", "_timeframe_ms",
        "_wait_ms",
    )  # fmt: skip

    def __init__(self, limits: Limits, timeframe_ms: int, origin_ms: int) -> None:
        self._limits = limits
        self._timeframe_ms = timeframe_ms
        self._origin_ms = origin_ms  # the grid
        self._most_wait_ms = max(limits.reread_ms, min(timeframe_ms, MOST_WAIT_MS))
        self._asked_at_ms, self._asked_until_ms = 0, origin_ms - timeframe_ms  # nothing from the origin on
        self._wait_ms, self._in_vain = limits.reread_ms, False

    def note(self, span: Span, now_ms: int) -> None:
        """These bars were asked for just now, or the last request for them has just failed."""
        if self._in_vain and now_ms - self._asked_at_ms >= self._wait_ms:
            self._wait_ms = min(2 * self._wait_ms, self._most_wait_ms)
        self._in_vain = True
        self._asked_at_ms, self._asked_until_ms = now_ms, span.last_ms

    def learn(self) -> None:
        """Something new is known of what is missing: the next request need not be in vain."""
        self._wait_ms, self._in_vain = self._limits.reread_ms, False

    def due_ms(self, frontier_ms: int, newest_ms: int) -> int:
        """When the first bar that is not finished is to be asked for."""
        wait_ms = self._limits.settle_ms
        if frontier_ms >= newest_ms:  # nobody has heard of a newer bar: it may still come
            wait_ms = max(wait_ms, self._limits.patience_ms)
        due_ms = frontier_ms + self._timeframe_ms + wait_ms
        if frontier_ms > self._asked_until_ms:
            return due_ms
        return max(due_ms, self._asked_at_ms + self._wait_ms)

    def is_due(self, now_ms: int, frontier_ms: int, newest_ms: int) -> bool:
        """Whether it is to be asked for now; at once when the clock was set back far behind the last request."""
        return now_ms >= self.due_ms(frontier_ms, newest_ms) or now_ms < self._asked_at_ms - MOST_WAIT_MS

    def last_due_ms(self, now_ms: int, newest_ms: int) -> int:
        """Open time of the newest bar that should have been heard of by now, were it not for the last request."""
        settled_ms = self.bar_at(now_ms - self._limits.settle_ms) - self._timeframe_ms
        patient_ms = self.bar_at(now_ms - self._limits.patience_ms) - self._timeframe_ms
        return min(settled_ms, max(patient_ms, newest_ms - self._timeframe_ms))

    def span(self, first_ms: int, last_ms: int, now_ms: int) -> Span:
        """These bars and a few that are newer, but none of the future and not too many at once."""
        beyond_ms = min(last_ms + BEYOND_BARS * self._timeframe_ms, max(last_ms, self.bar_at(now_ms)))
        return Span(first_ms, min(beyond_ms, first_ms + (self._limits.max_rows - 1) * self._timeframe_ms))

    def bar_at(self, time_ms: int) -> int:
        """Open time of the bar that this time lies in."""
        return time_ms - (time_ms - self._origin_ms) % self._timeframe_ms
