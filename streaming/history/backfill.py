"""`candlewick backfill`: history of an exchange into a dataset, to be gone on with at any time.

Enters: an exchange, symbols, a span. Leaves: parts of a dataset, a progress bar, a report of gaps.
Does not know: Kafka. Only bars that have closed and settled by the exchange's own clock are taken.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.errors import CandlewickError, InvalidMessage
from models.kline import Span
from models.parquet_writing import make_dataset
from models.places import Place, place
from models.series import Series, timeframe_ms
from streaming.feed.errors import ExchangeUnavailable
from streaming.history.dates import in_words, parse_time
from streaming.history.fill import Source, Store, fill
from streaming.history.gap_report import Filled, gap_report, report_in_words
from streaming.history.patience import Patience
from streaming.history.progress import progress_bar
from streaming.history.records import can_be_named
from streaming.history.spans import grid_at_or_after
from streaming.settings import Settings

if TYPE_CHECKING:
    from streaming.feed.rest import Rest

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Series read at the same time, so that the time on the way of one answer is used for another."""
PATIENCE_S = 300.0
"""An exchange that says nothing for so long ends the run."""
SETTLED_SHARE = 0.25
"""Of a timeframe: a bar need not settle for longer."""


@dataclass(frozen=True)
class BackfillOptions:
    """What a person asks for; names and times as written."""

    symbols: Sequence[str]
    since: str
    out: Place | str
    exchange: str | None = None  # none: the one of the settings
    timeframe: str = "1m"
    until: str | None = None  # none: now
    patience_s: float = PATIENCE_S


@dataclass(frozen=True)
class Order:
    """The same, understood: series of one exchange and timeframe, and the bars wanted of each."""

    exchange: str
    timeframe: str
    symbols: Sequence[str]
    wanted: Span
    out: Place


async def run_backfill(settings: Settings, options: BackfillOptions, as_json: bool) -> None:
    """What the command line calls: fill the dataset, then report; the report is printed also where it is not complete.

    Raises:
        CandlewickError: the question or the dataset is wrong, or the exchange could not be reached for too long.
    """
    from streaming.feed.exchanges import open_exchange
    from streaming.feed.rest import Rest

    if not options.symbols:
        raise CandlewickError("which symbols? Name them by --symbols BTC/USDT,ETH/USDT")
    since_ms, until_ms = _times(options)
    exchange = settings.exchange.model_copy(update={"name": options.exchange or settings.exchange.name})
    rest = Rest(open_exchange(exchange), exchange)
    patience = Patience(options.patience_s)
    try:
        order = await _order(rest, settings, options, (since_ms, until_ms), patience)
        await backfill(rest, order, patience, as_json)
    except ExchangeUnavailable as error:
        raise CandlewickError(f"{error}. Nothing was changed; try again later") from error
    finally:
        await rest.close()


async def backfill(source: Source, order: Order, patience: Patience, as_json: bool) -> None:
    """Fill the dataset from any source of pages, and print the report.

    Raises:
        CandlewickError: the dataset is no fit place, the exchange refused, or could not be reached for too long.
    """
    await asyncio.to_thread(make_dataset, order.out)
    length_ms = timeframe_ms(order.timeframe)
    filled = [Filled(symbol, order.wanted, length_ms) for symbol in order.symbols]
    failure: ExchangeUnavailable | None = None
    try:
        with progress_bar(filled) as told:
            await _fill_all(source, order, filled, Store(order.out, patience, told))
    except ExchangeUnavailable as error:
        failure = error
    report = gap_report(order.exchange, order.timeframe, order.wanted, filled)
    report["out"], report["error"] = str(order.out), str(failure) if failure else None
    sys.stdout.write((json.dumps(report) if as_json else report_in_words(report)) + "\n")
    if failure is not None:
        raise CandlewickError(f"{failure}. What came is kept; the same command goes on from there") from failure


async def _fill_all(source: Source, order: Order, filled: Sequence[Filled], store: Store) -> None:
    """Some series at a time; the first failure ends them all.

    Raises:
        whatever `fill` raises.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(own: Filled) -> None:
        async with slots:
            await fill(source, Series(order.exchange, own.symbol, order.timeframe), own, store)

    try:
        async with asyncio.TaskGroup() as group:
            for own in filled:
                group.create_task(one(own))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures.exceptions[0].__cause__


def _times(options: BackfillOptions) -> tuple[int, int | None]:
    """Since and until, UTC milliseconds.

    Raises:
        CandlewickError: one is no time, or they are reversed, or there is no such timeframe.
    """
    try:
        timeframe_ms(options.timeframe)
    except InvalidMessage as error:
        raise CandlewickError(str(error)) from error
    since_ms = parse_time(options.since, "--since")
    until_ms = None if options.until is None else parse_time(options.until, "--until")
    if until_ms is not None and until_ms <= since_ms:
        raise CandlewickError(
            f"--until {in_words(until_ms)} is not after --since {in_words(since_ms)}; are they reversed?"
        )
    return since_ms, until_ms


async def _order(
    rest: Rest, settings: Settings, options: BackfillOptions, times: tuple[int, int | None], patience: Patience
) -> Order:
    """Hold what was asked for against what the exchange has."""
    from streaming.feed.exchanges import check_timeframes
    from streaming.feed.symbols import resolve

    (timeframe,) = check_timeframes(rest.exchange, options.timeframe)
    within_s = patience.question_s
    markets = await _asked(lambda: rest.markets(within_s=within_s), patience)
    symbols = list(dict.fromkeys(resolve(name, markets, rest.name) for name in options.symbols))
    if odd := [symbol for symbol in symbols if not can_be_named(symbol)]:
        raise CandlewickError(f"a candle file cannot hold the name {', '.join(odd)}; leave it out")
    now_ms = await _asked(lambda: _now_ms(rest, symbols[0], timeframe, within_s), patience)
    settle_ms = int(min(settings.ingest.settle_s * 1_000, SETTLED_SHARE * timeframe_ms(timeframe)))
    wanted = wanted_span(timeframe, times[0], times[1], now_ms - settle_ms)
    return Order(rest.name, timeframe, symbols, wanted, place(options.out))


async def _asked(ask: Callable[[], Any], patience: Patience) -> Any:
    """Ask until there is an answer, within the patience.

    Raises:
        ExchangeUnavailable: there was none for too long.
    """
    while True:
        try:
            answer = await ask()
        except ExchangeUnavailable as failure:
            await patience.wait(failure)
        else:
            patience.heard()
            return answer


async def _now_ms(rest: Rest, symbol: str, timeframe: str, within_s: float) -> int:
    """The exchange's clock, UTC; where it tells none, the opening of its newest bar, which is not closed yet."""
    answer = await rest.server_time(within_s=within_s)
    if answer is not None:
        return answer.server_ms
    bars = await rest.klines(symbol, timeframe, limit=2, within_s=within_s)
    if not bars:
        raise CandlewickError(f"{rest.name} tells neither its time nor a bar of {symbol}; choose another symbol")
    return bars[-1].open_time_ms + int(SETTLED_SHARE * timeframe_ms(timeframe))


def wanted_span(timeframe: str, since_ms: int, until_ms: int | None, settled_ms: int) -> Span:
    """The bars that open from `since_ms` on and before `until_ms`, as far as they had closed by `settled_ms` (UTC).

    Raises:
        CandlewickError: there is no such bar.
    """
    length_ms = timeframe_ms(timeframe)
    first_ms = grid_at_or_after(since_ms, length_ms)
    newest_ms = grid_at_or_after(settled_ms - length_ms + 1, length_ms) - length_ms
    if since_ms > settled_ms:
        raise CandlewickError(
            f"--since {in_words(since_ms)} is in the future: the exchange is at {in_words(settled_ms)}"
        )
    last_ms = newest_ms
    if until_ms is not None:
        last_ms = grid_at_or_after(until_ms, length_ms) - length_ms
        if last_ms > newest_ms:
            logger.warning("--until is later than the newest closed bar: reads up to open=%s", in_words(newest_ms))
            last_ms = newest_ms
    if last_ms < first_ms:
        raise CandlewickError(
            f"no bar of {timeframe} lies wholly between --since and {in_words(until_ms or settled_ms)}"
        )
    return Span(first_ms, last_ms)
