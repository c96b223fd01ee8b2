"""The series that one process writes: a sequencer each, and which of them have something to say.

Enters: bars as the feed and REST tell them. Leaves: candles that are due, spans to ask REST for. Does not know: Kafka,
sockets, HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace

from models.events import Candle
from models.kline import Kline, Span
from models.sequencer import Counts, Limits, Sequencer
from models.series import Series
from streaming import metrics
from streaming.settings import IngestSettings

logger = logging.getLogger(__name__)

EXTRA_ROWS = 3
"""Asked for beyond what is missing: a row newer than it is what shows that the exchange has none."""
MOST_CANDLES = 2_000
"""Of one burst."""
MOST_OF_SERIES = 200
"""Of one series in a burst: while history is fetched, all series come along side by side."""


def limits(settings: IngestSettings, timeframe_ms: int, rows: int) -> Limits:
    """Waits that fit a timeframe, since what is right for a minute would never end for a second.

    Args:
        rows: that REST gives at once, at the most.
    """
    settle_ms = min(settings.settle_s * 1_000, timeframe_ms / 4)
    patience_ms = max(settle_ms, min(settings.patience_s * 1_000, timeframe_ms / 2))
    return Limits(
        settle_ms=int(settle_ms),
        patience_ms=int(patience_ms),
        reread_ms=int(min(max(patience_ms, 200), 30_000)),
        max_kept=settings.buffer_bars,
        max_rows=max(10, rows - EXTRA_ROWS),
    )


class Entry:
    """One series of the process."""

    __slots__ = (
        "asking", "counted", "last", "repaired_before", "resubscribe_at_ms", "resubscriptions", "sequencer", "series",
        "told_at_ms",
    )  # fmt: skip

    def __init__(self, series: Series, sequencer: Sequencer) -> None:
        self.series = series
        self.sequencer = sequencer
        self.last: Kline | None = None  # what the feed said last
        self.told_at_ms = 0  # when, by the exchange's clock
        self.asking = False  # a request is on its way
        self.repaired_before = 0  # bars that REST had brought on when the feed last kept up
        self.resubscriptions = 0
        self.resubscribe_at_ms = 0  # not before
        self.counted = Counts()  # what of the sequencer's counts the metrics have


class Sequences:
    """Every series by its name."""

    def __init__(self, settings: IngestSettings, now_ms: Callable[[], int], rows: int = 1_000) -> None:
        """Args: `rows` that REST gives at once, at the most."""
        self._settings = settings
        self._rows = rows
        self._now_ms = now_ms
        self._entries: dict[tuple[str, str], Entry] = {}
        self._dirty: dict[Entry, None] = {}  # may have candles to publish; in order of their first word
        self._given: dict[Entry, list[Candle]] = {}  # what `ready` gave last
        self.woken = asyncio.Event()  # some do
        self.heard = 0  # frames

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    @property
    def series(self) -> set[Series]:
        """All of them."""
        return {entry.series for entry in self._entries.values()}

    def get(self, symbol: str, timeframe: str) -> Entry | None:
        """A series, if this process writes it."""
        return self._entries.get((symbol, timeframe))

    def holds(self, entry: Entry) -> bool:
        """Whether this is still how the series stands: it was neither taken up anew since, nor ended."""
        return self._entries.get((entry.series.symbol, entry.series.timeframe)) is entry

    def begin(self, series: Series, published: Sequence[Candle], first_open_ms: int) -> Entry:
        """Take up a series after what the topic holds, else from a first bar on.

        What was heard and never acknowledged is kept: the series goes on from there if it was here before.
        """
        tail_ms = max((candle.close_time_ms for candle in published), default=first_open_ms)
        now_ms, timeframe_ms = self._now_ms(), series.timeframe_ms
        backfill_before_ms = now_ms - 2 * timeframe_ms
        before = self._entries.get((series.symbol, series.timeframe))
        entry = Entry(
            series,
            Sequencer(series, tail_ms, limits(self._settings, timeframe_ms, self._rows), published, backfill_before_ms),
        )
        if before is not None:
            entry.last, entry.told_at_ms = before.last, before.told_at_ms
            self._dirty.pop(before, None)
            for kline in before.sequencer.kept():
                entry.sequencer.hear(kline, now_ms)
        self._entries[series.symbol, series.timeframe] = entry
        self._wake(entry)
        return entry

    def begin_anew(self, entry: Entry, open_ms: int) -> Entry:
        """Leave out bars that the exchange does not give any more: the one gap not declared, so say it aloud."""
        if not self.holds(entry):
            return entry
        logger.error(
            "history cannot be had, series begins anew series=%s after_ms=%d from_ms=%d",
            entry.series.key.decode(), entry.sequencer.mark_ms, open_ms,
        )  # fmt: skip
        metrics.restarted_series.inc()
        self.end(entry.series.symbol, entry.series.timeframe)
        return self.begin(entry.series, [], open_ms)

    def end(self, symbol: str, timeframe: str) -> None:
        """Forget a series."""
        entry = self._entries.pop((symbol, timeframe), None)
        if entry is not None:
            self._dirty.pop(entry, None)

    # --- what comes in

    def hear(self, symbol: str, timeframe: str, kline: Kline) -> None:
        """A frame of the feed. Runs for every frame: nothing here may cost more than microseconds."""
        entry = self._entries.get((symbol, timeframe))
        if entry is None:
            return
        self.heard += 1
        now_ms = self._now_ms()
        entry.last = kline
        entry.told_at_ms = now_ms
        if entry.sequencer.hear(kline, now_ms) and kline.closed:
            self._wake(entry)

    def read(self, entry: Entry, klines: Sequence[Kline], asked: Span, asked_at_ms: int) -> None:
        """REST's answer; one to a series that was taken up anew or ended while it was on its way is dropped."""
        if not self.holds(entry):
            return
        fitted = not entry.sequencer.beside_ms
        entry.sequencer.read(klines, asked, asked_at_ms)
        if fitted and entry.sequencer.beside_ms:
            logger.error("%s", beside(entry))
        self._wake(entry)

    def _wake(self, entry: Entry) -> None:
        self._dirty[entry] = None
        self.woken.set()

    # --- what is to go out

    def ready(self) -> list[Candle]:
        """The next burst: candles in order for each series; the same again until they are acknowledged."""
        now_ms = self._now_ms()
        burst: list[Candle] = []
        self._given = {}
        for entry in list(self._dirty):
            candles = entry.sequencer.ready(now_ms, min(MOST_OF_SERIES, MOST_CANDLES - len(burst)))
            if candles:
                self._given[entry] = candles
            else:
                del self._dirty[entry]
            burst += candles
            if len(burst) >= MOST_CANDLES:
                break
        if not burst:
            self.woken.clear()
        return burst

    def acknowledge(self) -> None:
        """Kafka has what `ready` gave last; a series that was taken up anew since knows so from Kafka itself."""
        for entry, candles in self._given.items():
            if self.holds(entry):
                entry.sequencer.acknowledge(candles)
                del self._dirty[entry]  # to the end of the row: who has much to say does not hold up the others
                self._dirty[entry] = None
        self._given = {}

    # --- what is missing

    def due(self) -> list[tuple[Entry, Span]]:
        """Spans to ask REST for now, the shortest first: a bar just missed goes before a week of history."""
        now_ms = self._now_ms()
        found = []
        for entry in self._entries.values():
            span = None if entry.asking else entry.sequencer.missing(now_ms)
            if span is not None:
                found.append((entry, span))
        found.sort(key=lambda each: each[1].last_ms - each[1].first_ms)
        return found

    def behind(self, bars: int = 2) -> int:
        """How many series lack a bar that closed so many timeframes ago."""
        now_ms = self._now_ms()
        return sum(
            entry.sequencer.mark_ms + (bars + 1) * entry.series.timeframe_ms <= now_ms
            for entry in self._entries.values()
        )

    def ailment(self) -> str | None:
        """What is wrong with a series that will never go on by itself."""
        found = next((entry for entry in self._entries.values() if entry.sequencer.beside_ms), None)
        return None if found is None else beside(found)

    def count(self) -> None:
        """Move what the sequencers counted into the metrics."""
        for entry in self._entries.values():
            counts = entry.sequencer.counts
            if counts != entry.counted:
                for event, number in asdict(counts).items():
                    metrics.ingest_events.labels(event).inc(number - getattr(entry.counted, event))
                entry.counted = replace(counts)


def beside(entry: Entry) -> str:
    """That the exchange's bars are not those that we wait for, for a person."""
    series, off_s = entry.series, entry.sequencer.beside_ms / 1_000
    return (
        f"no bar of {series.symbol} {series.timeframe} fits: {series.exchange} opens them {off_s:g} s later than the "
        f"multiples of {series.timeframe} since 1970 (weeks: since a Monday), which alone can be followed; leave "
        f"{series.timeframe} out (--timeframe, CANDLEWICK_EXCHANGE__TIMEFRAMES)"
    )
