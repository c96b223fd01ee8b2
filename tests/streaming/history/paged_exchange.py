"""An exchange written by hand, for the tests of backfill: pages of bars that it makes from their times.

Enters: the bars that it has, and what goes wrong. Leaves: pages. Does not know: HTTP; the simulator does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

from models.kline import Kline, Span
from streaming.feed.errors import ExchangeUnavailable
from streaming.history.backfill import Order

MINUTE = 60_000
MAY = 1_746_057_600_000  # 2025-05-01 00:00 UTC
DAY = 86_400_000
FIRST, LAST = MAY + 31 * DAY - 2_000 * MINUTE, MAY + 31 * DAY + 1_499 * MINUTE
"""2,000 minutes of May and 1,500 of June."""
PAGE = 1_000


def order(out: Path, symbols: tuple[str, ...] = ("BTC/USDT",)) -> Order:
    """All of that."""
    return Order("example", "1m", symbols, Span(FIRST, LAST), out)


def bar_at(open_time_ms: int) -> Kline:
    """The one and only bar of a time."""
    price = 100.0 + open_time_ms // MINUTE % 977 / 8
    return Kline(open_time_ms, price, price + 1, price - 1, price + 0.5, 3.25)


class PagedExchange:
    """Has the bars from `first_ms` to `last_ms` but for `absent`; answers fail while `fails` says so."""

    def __init__(
        self,
        first_ms: int,
        last_ms: int,
        absent: Collection[int] = (),
        fails: Callable[[int], bool] = lambda request: False,
        length_ms: int = MINUTE,
    ) -> None:
        self._times = [t for t in range(first_ms, last_ms + 1, length_ms) if t not in set(absent)]
        self._fails = fails
        self.late: set[int] = set()  # bars that only a second read shows
        self.requests: list[tuple[str, int, int]] = []
        self.bars: Callable[[int], Kline] = bar_at

    async def pages(
        self, symbol: str, timeframe: str, first_ms: int, last_ms: int, within_s: float = 0.0
    ) -> AsyncIterator[list[Kline]]:
        """Pages of `PAGE` bars."""
        shown = self._shown(first_ms, last_ms)
        for at in range(0, max(1, len(shown)), PAGE):
            self.requests.append((symbol, first_ms, last_ms))
            if self._fails(len(self.requests)):
                raise ExchangeUnavailable("cannot reach api.example.com (example): name resolution failed")
            if page := shown[at : at + PAGE]:
                yield [self.bars(time) for time in page]

    def _shown(self, first_ms: int, last_ms: int) -> list[int]:
        inside = [time for time in self._times if first_ms <= time <= last_ms]
        shown = [time for time in inside if time not in self.late]
        self.late -= set(inside)
        return shown
