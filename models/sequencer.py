"""Puts the bars of one series in order: each once, none missing without saying so, none before Kafka took the last.

Enters: frames of a feed and answers of REST, in any order, late, double, broken. Leaves: what to ask REST for, and the
candles to publish next. Does not know: sockets, Kafka, or any clock; every time is the exchange's, UTC milliseconds.

A bar is finished when the exchange's own flag says so, or by a row of REST that was asked for long enough after its
close. It does not exist when two such answers lack it that both go on to a newer row. The newest word on a bar stands:
before Kafka has it, it replaces the older one; afterwards it becomes a revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from models.asking import Asking
from models.decode import CLOCK_SKEW_MS
from models.events import Candle, Origin
from models.kline import Kline, Span
from models.published import Published, Word
from models.sequencing import LAST_ROW_MS, Counts, Limits, has_sound_prices
from models.series import Series

__all__ = ["NEVER_MS", "Counts", "Limits", "Sequencer"]

NEVER_MS = 2**62
"""No time: nothing is due before something else happens."""


class Sequencer:
    """The bars of one series from its mark on.

    Args:
        series: whose bars.
        next_open_ms: open time of the first bar that Kafka does not have.
        limits: patience and bounds.
        published: the newest candles that Kafka has, any revisions in any order.
        backfill_before_ms: bars that open before and come by REST are `backfilled`, later ones `repaired`.

    Raises:
        ValueError: `next_open_ms` is not on the grid of the timeframe.
    """

    __slots__ = (
        "_asking", "_backfill_before_ms", "_bars", "_frontier_ms", "_lacked", "_limits",
        "_newest_ms", "_published", "_timeframe_ms", "beside_ms", "counts", "mark_ms", "series",
    )  # fmt: skip

    def __init__(
        self,
        series: Series,
        next_open_ms: int,
        limits: Limits,
        published: Iterable[Candle] = (),
        backfill_before_ms: int = 0,
    ) -> None:
        length_ms = series.timeframe_ms
        if length_ms <= 86_400_000 and next_open_ms % length_ms:  # weeks open on Mondays, the epoch was a Thursday
            raise ValueError(f"next_open_ms {next_open_ms} is not on the grid of {series.timeframe}")
        self.series = series
        self.mark_ms = next_open_ms  # open time of the first bar that Kafka has not acknowledged
        self.counts = Counts()
        self.beside_ms = 0  # by how much REST's bars open after those of our grid, where none of an answer's fits
        self._limits = limits
        self._timeframe_ms = length_ms
        self._backfill_before_ms = backfill_before_ms
        self._asking = Asking(limits, length_ms, next_open_ms)
        self._published = Published(length_ms, published, next_open_ms)
        self._bars: dict[int, Word] = {}  # finished ones from the mark on, by open time
        self._lacked: dict[int, int] = {}  # open time to when REST was first asked and had none
        self._frontier_ms = next_open_ms  # the first bar that is not finished
        self._newest_ms = next_open_ms - length_ms  # the newest open time heard of

    def hear(self, kline: Kline, now_ms: int) -> bool:
        """Take a frame; give whether anything changed: only then `ready` or `next_due_ms` may say something new.

        A frame of an unfinished bar tells that its bar has begun, so its prices are not looked at twice.
        """
        open_ms = kline.open_time_ms
        if open_ms <= self._newest_ms and not kline.closed:
            return False
        if self._is_early(kline, now_ms) or not self._is_sound(kline):
            self.counts.bad += 1
            return False
        begun = open_ms > self._newest_ms
        if begun:
            self._newest_ms = open_ms
            self._asking.learn()
        return (kline.closed and self._finish(open_ms, Word(kline, "live"))) or begun

    def read(self, klines: Sequence[Kline], asked: Span, asked_at_ms: int) -> None:
        """Take the answer of REST to a request.

        Args:
            klines: the rows from `asked.first_ms` on, in any order; rows newer than `asked.last_ms` are welcome, and
                where a long run of bars is absent they alone can tell so. An answer that was cut at its beginning must
                not come here. A row that readers would refuse is as good as none: twice so, and its bar is absent.
            asked: what was asked for.
            asked_at_ms: the exchange's clock had surely come to this before the request was sent.
        """
        rows = self._sound_rows(klines, asked_at_ms)
        newest_ms = max((row.open_time_ms for row in rows), default=asked.first_ms)
        settled_ms = asked_at_ms - self._limits.settle_ms - self._timeframe_ms  # the newest open time that is final
        final_ms = min(settled_ms, max(newest_ms - 1, asked_at_ms - LAST_ROW_MS - self._timeframe_ms), self._end_ms - 1)
        for row in rows:
            if row.open_time_ms <= final_ms:
                self._finish(row.open_time_ms, Word(row, self._origin(row.open_time_ms)))
        self._find_absent(asked.first_ms, min(asked.last_ms, newest_ms - self._timeframe_ms, settled_ms), asked_at_ms)

    def missing(self, now_ms: int) -> Span | None:
        """The bars to ask REST for now, from the first that is not finished on; nothing when none is due."""
        first_ms = self._frontier_ms
        if first_ms >= self._end_ms or not self._asking.is_due(now_ms, first_ms, self._newest_ms):
            return None
        last_ms = min(self._asking.last_due_ms(now_ms, self._newest_ms), self._end_ms - self._timeframe_ms)
        while last_ms in self._bars:
            last_ms -= self._timeframe_ms
        return self._asking.span(first_ms, last_ms, now_ms) if last_ms >= first_ms else None

    def asked_for(self, span: Span, now_ms: int) -> None:
        """A request is on its way or failed: not due again for `reread_ms`, for longer with a time that is ahead."""
        self._asking.note(span, now_ms)

    def settled_at_ms(self, span: Span) -> int:
        """From when on an answer about these bars is final."""
        return span.last_ms + self._timeframe_ms + self._limits.settle_ms

    def next_due_ms(self) -> int:
        """When `missing` has something to ask for if nothing else happens before; `NEVER_MS` when the bound is full."""
        if self._frontier_ms >= self._end_ms:
            return NEVER_MS
        return self._asking.due_ms(self._frontier_ms, self._newest_ms)

    def ready(self, received_at_ms: int, most: int) -> list[Candle]:
        """What is to be published next, at most so many: bars from the mark on without a hole, then revisions.

        A look that changes nothing: the same comes again until it is acknowledged.
        """
        last_ms = min(self._frontier_ms, self.mark_ms + most * self._timeframe_ms)
        candles = [
            self._bars[open_ms].candle(self.series, open_ms, open_ms + self._timeframe_ms, 0, received_at_ms)
            for open_ms in range(self.mark_ms, last_ms, self._timeframe_ms)
        ]
        for open_ms, word, revision in islice(self._published.revisions(), most - len(candles)):
            candles.append(word.candle(self.series, open_ms, open_ms + self._timeframe_ms, revision, received_at_ms))
        return candles

    def acknowledge(self, candles: Sequence[Candle]) -> None:
        """Kafka has these, so the mark moves; what was said otherwise in the meantime becomes a revision.

        Raises:
            ValueError: a first word on a bar that is not the next one.
        """
        for candle in candles:
            if candle.revision:
                self.counts.revisions += 1
                self._published.acknowledge(candle)
            else:
                self._move(candle)
        self._published.tidy()

    def kept(self) -> list[Kline]:
        """What frames have finished and Kafka does not have, to be heard by the sequencer that takes over.

        Rows of REST are not among them: they are there to be asked for again.
        """
        words = [self._bars[open_ms] for open_ms in sorted(self._bars)]
        words += [word for _, word, _ in self._published.revisions()]
        return [word.kline for word in words if word.kline is not None and word.kline.closed]

    @property
    def _end_ms(self) -> int:
        """Bars from here on are beyond the bound."""
        return self.mark_ms + self._limits.max_kept * self._timeframe_ms

    def _origin(self, open_ms: int) -> Origin:
        return "backfilled" if open_ms < self._backfill_before_ms else "repaired"

    def _is_early(self, kline: Kline, now_ms: int) -> bool:
        """From a future further away than clocks differ."""
        length_ms = self._timeframe_ms
        return kline.open_time_ms > now_ms + (min(length_ms, CLOCK_SKEW_MS - length_ms) if kline.closed else length_ms)

    def _is_sound(self, kline: Kline) -> bool:
        return (kline.open_time_ms - self.mark_ms) % self._timeframe_ms == 0 and has_sound_prices(kline)

    def _sound_rows(self, klines: Sequence[Kline], asked_at_ms: int) -> list[Kline]:
        """Those that readers would accept, without bars that opened while the answer was made, or never will."""
        if klines:
            self.beside_ms = min((kline.open_time_ms - self.mark_ms) % self._timeframe_ms for kline in klines)
        sound = [kline for kline in klines if self._is_sound(kline)]
        self.counts.bad += len(klines) - len(sound)
        return [kline for kline in sound if kline.open_time_ms <= asked_at_ms + self._timeframe_ms]

    def _finish(self, open_ms: int, word: Word) -> bool:
        """Take a word on a finished bar; give whether it says anything new."""
        if open_ms < self.mark_ms:
            return self._compare(open_ms, word)
        if open_ms >= self._end_ms:
            self.counts.dropped_beyond_bound += 1
            return False
        known = self._bars.get(open_ms)
        if known is not None and known.says(word.kline):
            self.counts.duplicates += 1
            return False
        self._bars[open_ms] = word
        if known is None:
            self._advance(open_ms, word)
        return True

    def _compare(self, open_ms: int, word: Word) -> bool:
        reception = self._published.hear(open_ms, word)
        if reception == "duplicate":
            self.counts.duplicates += 1
        elif reception == "old":
            self.counts.ignored_old += 1
        elif reception == "full":
            self.counts.dropped_beyond_bound += 1
        return reception == "revision"

    def _advance(self, open_ms: int, word: Word) -> None:
        """A bar is finished that was not."""
        if self._lacked:
            self._lacked.pop(open_ms, None)
        if open_ms > self._frontier_ms:
            self.counts.early += word.origin == "live"
            return
        self._asking.learn()
        while self._frontier_ms in self._bars:
            self._frontier_ms += self._timeframe_ms

    def _find_absent(self, first_ms: int, last_ms: int, asked_at_ms: int) -> None:
        """Note which of these bars an answer lacks, and give up those that an earlier one lacked too."""
        first_ms = max(self._asking.bar_at(first_ms + self._timeframe_ms - 1), self._frontier_ms)
        last_ms = min(last_ms, self._end_ms - self._timeframe_ms)
        for open_ms in range(first_ms, last_ms + 1, self._timeframe_ms):
            if open_ms in self._bars:
                continue
            since_ms = self._lacked.get(open_ms)
            if since_ms is None or asked_at_ms < since_ms:
                self._lacked[open_ms] = asked_at_ms
                self._asking.learn()
            elif asked_at_ms - since_ms >= self._limits.reread_ms:
                self._finish(open_ms, Word(None, self._origin(open_ms)))

    def _move(self, candle: Candle) -> None:
        """The mark goes past this candle."""
        word = self._bars.get(candle.open_time_ms)
        if candle.open_time_ms != self.mark_ms or word is None:
            raise ValueError(f"acknowledged the bar of {candle.open_time_ms}, the next one is that of {self.mark_ms}")
        del self._bars[self.mark_ms]
        self.mark_ms += self._timeframe_ms
        self.counts.absent += candle.absent
        self.counts.repaired += candle.origin == "repaired" and not candle.absent
        self._published.acknowledge(candle)
        if not word.says(candle):
            self._published.hear(candle.open_time_ms, word)
