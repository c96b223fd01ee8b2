"""Which series this process writes, and what becomes of their symbols while it runs.

Enters: what the exchange lists, again and again. Leaves: series that begin and series that end; log lines and counts
for the rest; when the list is due. Does not know: how series are heard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Set
from contextlib import suppress
from typing import NamedTuple, Protocol

from models.series import Series
from streaming import metrics
from streaming.feed.errors import UnknownSymbol
from streaming.feed.symbols import Market, changes, of_shard, resolve, wanted
from streaming.settings import Settings

logger = logging.getLogger(__name__)

WITHIN_S = 5.0
"""Then it is said what cannot be reached, and asked again."""
FIRST_PAUSE_S = 2.0
"""Between two looks at the list, where something is amiss; then twice as long each time, up to the usual distance."""


class Lists(Protocol):
    """The exchange's REST, as far as it is needed here."""

    async def markets(self, reload: bool = False, within_s: float = 60.0) -> dict[str, Market]:
        """Every market by symbol."""

    async def volumes(self, within_s: float = 60.0) -> dict[str, float]:
        """Traded in a day, in the quote asset, by symbol."""


class Turnover(NamedTuple):
    """What a look at the exchange's list led to."""

    begin: list[Series]
    end: list[Series]


class Watchlist:
    """Of one process. It remembers the exchange's list only, to tell what changed in it."""

    def __init__(self, settings: Settings, rest: Lists, timeframes: list[str]) -> None:
        self._settings = settings
        self._rest = rest
        self._timeframes = timeframes
        self._markets: dict[str, Market] = {}
        self.lacking: set[str] = set()  # symbols once watched that do not trade now, as far as the list goes

    def ailment(self, watched: int) -> str | None:
        """What is wrong just now, with so many series."""
        if watched or not self.lacking:
            return None
        return "no series is watched: the exchange lists none of the symbols any more; they begin again once it does"

    async def look(self, mine: Set[Series]) -> Turnover:
        """Ask the exchange what it lists; how `mine`, the series that are watched now, have to change.

        A symbol that went stays out until it is listed again; with `--top`, one that trades less than others now
        leaves, and its series simply ends.

        Raises:
            ExchangeUnavailable: the exchange cannot be asked just now.
            CandlewickError: at the first look, a symbol that was asked for does not exist.
        """
        markets = await self._rest.markets(reload=True, within_s=WITHIN_S)
        volumes = await self._rest.volumes(within_s=WITHIN_S) if self._settings.exchange.top else {}
        if self._markets:
            self._tell(markets, {series.symbol for series in mine})
        chosen = self._chosen(markets, volumes)
        self._markets = markets
        known = self.lacking | {series.symbol for series in mine}
        self.lacking = {symbol for symbol in known if symbol not in markets or not markets[symbol].active}
        return Turnover(sorted(chosen - mine), sorted(mine - chosen))

    def _chosen(self, markets: Mapping[str, Market], volumes: Mapping[str, float]) -> set[Series]:
        exchange = self._settings.exchange
        if self._markets and exchange.symbols:  # one of them may have gone since
            names = [name.strip() for name in exchange.symbols.split(",")]
            there = [name for name in names if name and _is_there(name, markets, exchange.name)]
            if not there:
                return set()
            exchange = exchange.model_copy(update={"symbols": ",".join(there)})
        symbols = wanted(exchange, markets, volumes)
        shard = self._settings.ingest.shard
        return {
            Series(exchange.name, symbol, timeframe)
            for timeframe in self._timeframes
            for symbol in of_shard(symbols, exchange.name, timeframe, shard)
        }

    def _tell(self, markets: Mapping[str, Market], mine: Set[str]) -> None:
        for change in changes(self._markets, markets):
            metrics.symbol_changes.labels(change.kind).inc()
            if change.symbol in mine or change.before in mine:
                was = f" was={change.before}" if change.before else ""
                logger.warning("symbol %s symbol=%s%s", change.kind, change.symbol, was)


def _is_there(name: str, markets: Mapping[str, Market], exchange: str) -> bool:
    try:
        resolve(name, markets, exchange)
    except UnknownSymbol:
        return False
    return True


class Looks:
    """When the list is looked at: every so often, and soon where it may be wrong, or may have changed.

    What an exchange answers to a question about one symbol is not what it lists: for a moment it may know none.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._pause_s = min(FIRST_PAUSE_S, every_s)
        self._hurries = False
        self._doubt = asyncio.Event()
        self._doubted = False  # the next look is for a doubt alone

    def doubt(self, series: Series) -> None:
        """The exchange says that it does not know this one: whether it is gone, the list says."""
        if not self._doubt.is_set():
            logger.warning(
                "exchange says it does not know a series, looking at its list series=%s", series.key.decode()
            )
        self._doubt.set()

    async def due(self) -> None:
        """Wait for the next look; no sooner after the last one than the pause is, whatever happens."""
        await asyncio.sleep(self._pause_s)
        if not self._hurries:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s - self._pause_s):
                    await self._doubt.wait()
        self._doubted = self._doubt.is_set() and not self._hurries

    def learn(self, *, news: bool, amiss: bool) -> None:
        """Take what came of a look.

        Args:
            news: a series ended: its symbol may be back in a moment.
            amiss: the look failed, or the list still lacks a symbol.
        """
        self._doubt.clear()  # the list has just said how it is; who is asked in vain again, doubts again
        self._hurries = news or amiss
        longer = not news and (amiss or self._doubted)
        self._pause_s = min(2 * self._pause_s if longer else FIRST_PAUSE_S, self._every_s)
