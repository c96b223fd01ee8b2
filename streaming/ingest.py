"""The role `ingest`: an exchange's bars to the topic `candles`, closed ones only, each once, in order, none missing
without saying so.

Enters: frames of websockets, answers of REST. Leaves: candles, in transactions of the shard's one writer. Does not
know: when a bar is due, which is its sequencer's; how sockets and requests are kept within the exchange's limits.

Start and restart are one path, and so is every trouble with Kafka: open the ledger, read its tail, go on after it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import Any

from aiokafka.errors import KafkaError
from mode import Service

from models.errors import CandlewickError
from models.events import Candle
from models.series import Series
from streaming import metrics
from streaming.clients import is_of_kafka
from streaming.exchange_time import ExchangeTime
from streaming.feed.errors import ExchangeUnavailable
from streaming.feed.exchanges import check_timeframes, load_ccxt, open_exchange
from streaming.feed.polling import choose_feed
from streaming.feed.rest import Rest
from streaming.feed.tally import FeedStatus
from streaming.ledger import Ledger, Unacknowledged
from streaming.liveliness import Liveliness
from streaming.repairs import Repairs
from streaming.sequences import Sequences
from streaming.settings import Settings
from streaming.topics import check_topics
from streaming.watchlist import Looks, Watchlist

logger = logging.getLogger(__name__)

FIRST_DELAY_S, MOST_DELAY_S = 0.5, 10.0
MOST_KAFKA_FAILURES = 60
"""In a row; some ten minutes. Then the process ends, and its supervisor decides."""
READY_S = 120.0
"""A suspended symbol never catches up; the others are not to wait for it."""
LOOK_BACK_DAYS = 30
"""A series that the topic has not heard of for longer begins anew."""
APPEND_TIMEOUT_SHARE = 0.8
"""Of the transaction's own timeout."""


class Ears:
    """What the feed tells, passed on: bars to their sequencers, times to the clock."""

    def __init__(self, sequences: Sequences, clock: ExchangeTime) -> None:
        self.on_kline = sequences.hear  # runs for every frame: no step in between
        self.on_event_time = clock.at_least

    def on_refused(self, symbol: str, timeframe: str, reason: str) -> None:
        """REST alone brings this series on, until the exchange takes it."""
        logger.warning("feed refuses series symbol=%s timeframe=%s reason=%s", symbol, timeframe, reason)


class Ingest(Service):
    """Supervised by the Faust worker."""

    mundane_level = "debug"

    def __init__(self, settings: Settings) -> None:
        """Make one, before there is an event loop."""
        load_ccxt()
        self._settings = settings
        self._role = settings.ingest
        self._writing = asyncio.Lock()  # held while a burst is on its way
        self._ledger = Ledger(settings, settings.exchange.name, self._role.transaction_timeout_s * APPEND_TIMEOUT_SHARE)
        self._rest: Rest | None = None
        self._working: asyncio.Task[Any] | None = None  # from the first question until the end
        self._looks = Looks(settings.exchange.refresh_s)
        self.ready = asyncio.Event()  # every series is there, up to the newest bar but one
        self._trouble = "starting"  # for /health
        super().__init__()

    async def on_start(self) -> None:
        """Make what can be made without a network.

        Raises:
            CandlewickError: an unknown exchange, a timeframe it lacks; Kafka cannot be reached, or lacks the topic.
        """
        await check_topics(self._settings, "candles")
        self._exchange = open_exchange(self._settings.exchange)
        names = check_timeframes(self._exchange, self._settings.exchange.timeframes)
        self._rest = Rest(self._exchange, self._settings.exchange)
        self._clock = ExchangeTime(self._rest)
        self._sequences = Sequences(self._role, self._clock.now_ms, self._rest.rows)
        self._watchlist = Watchlist(self._settings, self._rest, names)
        self._repairs = Repairs(
            self._rest, self._sequences, self._clock.now_ms, self._clock.stated_ms, self._looks.doubt
        )
        self._feed = choose_feed(self._exchange, self._settings.exchange, Ears(self._sequences, self._clock))
        self._liveliness = Liveliness(self._settings, self._sequences, self._rest, self._feed, self._clock.now_ms)
        self._counted = self._feed.status()
        self._tick_s = min(1.0, max(0.02, min(Series("", "", name).timeframe_ms for name in names) / 20_000))

    async def on_stop(self) -> None:
        """What is acknowledged stays; a burst on its way is undone, and told again by who comes next."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        if self._rest is not None:
            await self._repairs.stop()
            await self._rest.close()
        await self._ledger.close()

    def ailment(self) -> str | None:
        """What is wrong just now."""
        return self._trouble or self._watchlist.ailment(len(self._sequences)) or self._liveliness.ailment()

    # --- from nothing to a running feed

    @Service.task
    async def _begin(self) -> None:
        """Until the exchange answers for the first time, say what cannot be reached and go on trying."""
        self._working = asyncio.current_task()
        delay_s, begun = FIRST_DELAY_S, False
        while not self.should_stop and not begun:
            try:
                await self._clock.look()
                await self._open()
                await self._look_at_symbols()
                begun = True
            except ExchangeUnavailable as error:
                self._trouble = f"the exchange cannot be reached: {error}"
                logger.warning("cannot begin, trying again in_s=%.1f error=%s", delay_s, error)
                await self.sleep(max(delay_s, min(error.retry_after_s, 3_600)))
                delay_s = min(MOST_DELAY_S, delay_s * 2) * random.uniform(0.8, 1.2)
            except (CandlewickError, KafkaError, TimeoutError) as error:
                if not is_of_kafka(error):
                    raise
                self._trouble = f"Kafka does not answer: {error}"
                logger.warning("cannot begin, trying again in_s=%.1f error=%s", delay_s, error)
                await self.sleep(delay_s)  # bounded by `_open`, which comes first
        if begun:
            self._trouble = ""
            await asyncio.gather(
                self._feed.run(), self._clock.keep(), self._keep_symbols(), self._keep_complete(), self._publish(),
                self._watch(),
            )  # fmt: skip

    # --- which series

    async def _look_at_symbols(self) -> list[Series]:
        """Begin and end series as the exchange lists them; gives those that ended."""
        turnover = await self._watchlist.look(self._sequences.series)
        for series in turnover.end:
            self._end(series)
        if turnover.begin:
            async with self._writing:
                pass  # what was on its way when one of these ended is in Kafka now, or never will be
            tails = await self._ledger.tails([series.key for series in turnover.begin], self._since_ms())
            for series in turnover.begin:
                self._take_up(series, tails.get(series.key, []))
            logger.info("watching series=%d new=%d", len(self._sequences), len(turnover.begin))
        self._feed.watch(self._sequences.series)  # also what it gave up for want of a market that is listed again
        metrics.series_watched.set(len(self._sequences))
        return turnover.end

    async def _keep_symbols(self) -> None:
        while True:
            await self._looks.due()
            try:
                ended = await self._look_at_symbols()
            except (ExchangeUnavailable, CandlewickError, KafkaError, TimeoutError) as error:
                logger.warning("symbols were not looked at error=%r", error)
                self._looks.learn(news=False, amiss=True)
            else:
                self._looks.learn(news=bool(ended), amiss=bool(self._watchlist.lacking))

    def _end(self, series: Series) -> None:
        self._sequences.end(series.symbol, series.timeframe)
        self._feed.unwatch([series])
        metrics.series_watched.set(len(self._sequences))
        logger.warning("series ended series=%s", series.key.decode())

    def _since_ms(self) -> int:
        return self._clock.now_ms() - LOOK_BACK_DAYS * 86_400_000

    def _take_up(self, series: Series, tail: Sequence[Candle]) -> None:
        length_ms = series.timeframe_ms
        bar_ms = series.open_of(self._clock.now_ms())
        known = self._sequences.get(series.symbol, series.timeframe)
        first_ms = known.sequencer.mark_ms if known else bar_ms - self._role.warm_up_bars * length_ms
        self._sequences.begin(series, tail, first_ms)

    # --- what is missing

    async def _keep_complete(self) -> None:
        began_s = time.monotonic()
        while not self.should_stop:
            await self.sleep(self._tick_s)
            self._repairs.look()
            if not self.ready.is_set() and not (behind := self._sequences.behind()):
                self.ready.set()
            elif not self.ready.is_set() and time.monotonic() - began_s > READY_S:
                logger.warning("serving although some series have not caught up series=%d", behind)
                self.ready.set()

    # --- to Kafka

    async def _open(self) -> None:
        """Open the ledger and go on after what it holds; Kafka may be away for a while.

        Raises:
            CandlewickError: it was away for too long.
        """
        for attempt in range(MOST_KAFKA_FAILURES):
            entries = list(self._sequences)
            try:
                tails = await self._ledger.open([entry.series.key for entry in entries], self._since_ms())
                break
            except (KafkaError, TimeoutError, CandlewickError) as error:
                self._trouble = f"Kafka does not answer: {error}"
                delay_s = min(MOST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 10)) * random.uniform(0.8, 1.2)
                logger.warning("ledger not opened, trying again in_s=%.1f error=%s", delay_s, error)
                await self.sleep(delay_s)
                if self.should_stop:
                    return
        else:
            raise CandlewickError("Kafka was away for too long; this process ends, its supervisor starts another")
        self._trouble = ""
        for entry in entries:
            if self._sequences.holds(entry):
                self._take_up(entry.series, tails.get(entry.series.key, []))

    async def _publish(self) -> None:
        while not self.should_stop:
            await self.wait(self._sequences.woken.wait())
            burst = self._sequences.ready()
            if not burst:
                continue
            try:
                async with self._writing:
                    await self._ledger.append(burst)
            except Unacknowledged as error:
                metrics.ledger_failures.inc()
                self._trouble = str(error)
                logger.warning("a burst was not acknowledged error=%s", error)
                await self._open()
            else:
                self._sequences.acknowledge()
                self._count(burst)

    def _count(self, burst: Sequence[Candle]) -> None:
        now_ms = self._clock.now_ms()
        for candle in burst:
            metrics.candles_published.labels(candle.origin).inc()
            if candle.revision:
                metrics.revisions.inc()
            elif candle.absent:
                metrics.absent_declared.inc()
            elif candle.origin == "live":
                metrics.close_to_topic.observe(max(0, now_ms - candle.close_time_ms) / 1_000)

    # --- how it goes

    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(1.0)
            self._sequences.count()
            metrics.series_behind.set(self._sequences.behind())
            self._count_feed(self._feed.status())
            await self._liveliness.look()

    def _count_feed(self, now: FeedStatus) -> None:
        before, self._counted = self._counted, now
        metrics.sockets_alive.set(now.alive)
        metrics.frames.inc(now.frames - before.frames)
        metrics.bad_frames.inc(now.bad_frames - before.bad_frames)
        metrics.refused_series.inc(now.refusals - before.refusals)
        for why in ("reconnects", "silences", "rotations"):
            metrics.sockets_replaced.labels(why).inc(getattr(now, why) - getattr(before, why))
