"""A small world around a sequencer: a truth, a feed and a REST that bend it, a Kafka that fails.

All of its chance comes from one seeded generator, so a failing example is replayed as it was. The role below looks at
the sequencer only when the sequencer's own words say that there is something to see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from models.decode import why_invalid
from models.events import Candle
from models.kline import Kline, Span
from models.published import COMPARED_BARS
from models.sequencer import NEVER_MS, Counts, Limits, Sequencer
from models.series import Series

SERIES = Series("binance", "BTC/USDT", "1s")
BAR, TICK = 1_000, 100
START = 1_700_000_000_000
UNSETTLED = 200  # so long after its close a row of REST may still change
CLOCK_ERROR = 100  # of the estimate of the exchange's clock
LIMITS = Limits(settle_ms=UNSETTLED + CLOCK_ERROR, patience_ms=700, reread_ms=600, max_kept=8, max_rows=5)

Kind = Literal["traded", "quiet", "absent"]
Fate = Literal["acknowledged", "lost", "unknown"]


@dataclass(frozen=True)
class Faults:
    """Shares are of frames, requests, transactions or ticks; ticks are of TICK milliseconds."""

    dropped: float = 0
    doubled: float = 0
    corrupt: float = 0
    late_ticks: int = 0  # frames are late by up to so many, each by its own
    deaf: bool = False  # nothing of the feed arrives at all
    refused: float = 0  # requests that fail
    empty: float = 0  # answers without a row
    hidden: float = 0  # closed bars that answers lack for a moment although they go on to newer ones
    lag_bars: int = 0  # newest rows that an answer may lack
    slow_ticks: int = 0  # of REST and of Kafka
    lost: float = 0  # transactions that fail, half of them in truth committed
    crashes: float = 0  # ticks at which the process dies
    down_ticks: int = 0  # before it is back


def bar_of(slot: int, kind: Kind = "traded") -> Kline:
    """The truth of one bar; no two are alike."""
    price = 100 + math.sin(slot) * 10
    if kind == "quiet":
        return Kline(START + slot * BAR, price, price, price, price, 0.0)
    return Kline(START + slot * BAR, price, price + 2, price - 3, price + 1, 5.0 + slot)


class SmallExchange:
    """What happened, bar by bar, and what the exchange says of it at a time."""

    def __init__(self, kinds: list[Kind]) -> None:
        self.kinds = kinds
        self._hidden: dict[int, tuple[int, int]] = {}  # slot to when REST lacks it

    def hide(self, slot: int, from_ms: int) -> None:
        """Let REST lack a bar once, for a moment shorter than what is to lie between two answers that agree."""
        self._hidden.setdefault(slot, (from_ms, from_ms + LIMITS.reread_ms - CLOCK_ERROR - 2 * TICK))

    def _is_shown(self, slot: int, now_ms: int) -> bool:
        from_ms, to_ms = self._hidden.get(slot, (0, 0))
        return self.kinds[slot] != "absent" and not from_ms <= now_ms < to_ms

    def frames(self, now_ms: int) -> Iterator[Kline]:
        """Sent at this tick: the end of the bar that closes, the state of the one that runs."""
        slot = (now_ms - START) // BAR
        if (now_ms - START) % BAR == 0 and slot > 0 and self.kinds[slot - 1] != "absent":
            yield replace_kline(bar_of(slot - 1, self.kinds[slot - 1]), closed=True)
        if self.kinds[slot] != "absent":
            yield _unfinished(bar_of(slot, self.kinds[slot]))

    def rows(self, first_ms: int, now_ms: int, lag_bars: int, until_ms: int | None) -> list[Kline]:
        """As Binance: at most so many rows from a time on, the newest of them unfinished or not settled."""
        newest = (now_ms - START) // BAR - lag_bars
        slots = range(max((first_ms - START) // BAR, 0), newest + 1)
        bars = [bar_of(slot, self.kinds[slot]) for slot in slots if self._is_shown(slot, now_ms)]
        bars = [bar for bar in bars if until_ms is None or bar.open_time_ms <= until_ms]
        final_ms = now_ms - BAR - UNSETTLED
        return [bar if bar.open_time_ms <= final_ms else _unfinished(bar) for bar in bars[: LIMITS.max_rows]]


def replace_kline(kline: Kline, **fields: object) -> Kline:
    return Kline(**{name: getattr(kline, name) for name in Kline.__struct_fields__} | fields)


def _unfinished(bar: Kline) -> Kline:
    return replace_kline(bar, close=(bar.low + bar.high) / 2, volume=bar.volume / 2)


def corrupted(kline: Kline, chance: Random) -> Kline:
    """A frame that nobody may believe."""
    field, value = chance.choice(
        [
            ("close", math.nan), ("open", math.inf), ("low", -1.0), ("low", 0.0), ("high", kline.low / 2),
            ("volume", -1.0), ("volume", math.nan), ("volume", 1e300), ("open_time_ms", kline.open_time_ms + 1),
            ("open_time_ms", kline.open_time_ms + 5 * BAR), ("open_time_ms", 2**60), ("close", kline.high * 2),
        ]
    )  # fmt: skip
    return replace_kline(kline, **{field: value}, closed=True)


class SmallWorld:
    """The exchange, the ways to it, and the role that listens and publishes; `log` is what Kafka has."""

    def __init__(self, exchange: SmallExchange, seed: int, most: int, honours_until: bool) -> None:
        self.exchange, self.chance, self.most, self.honours_until = exchange, Random(seed), most, honours_until
        self.faults = Faults()
        self.now_ms = START
        self.log: list[Candle] = []
        self.counts: list[Counts] = []  # of every sequencer that there was
        self._frames: list[tuple[int, Kline]] = []  # on their way
        self._down_until_ms = START
        self._start([])

    def run(self, ticks: int, faults: Faults) -> None:
        """Let time go on under these faults, and hold every law at every tick."""
        self.faults = faults
        for _ in range(ticks):
            self.now_ms += TICK
            self._send()
            if self._happens(faults.crashes):
                self._crash()
            if self.now_ms >= self._down_until_ms:
                self._hear()
                self._ask()
                self._publish()
                self._check_bounds()

    def _happens(self, share: float) -> bool:
        return self.chance.random() < share

    def _later(self, most_ticks: int) -> int:
        return self.now_ms + self.chance.randint(0, most_ticks) * TICK

    def _told_ms(self) -> int:
        """The exchange's time as well as we know it."""
        return self.now_ms + self.chance.randint(-CLOCK_ERROR, CLOCK_ERROR)

    def _start(self, kept: list[Kline]) -> None:
        """The one path of start and restart: from the tail of the log."""
        opens = [candle.open_time_ms for candle in self.log]
        next_open_ms = max(opens) + BAR if opens else START
        self.sequencer = Sequencer(SERIES, next_open_ms, LIMITS, self.log[-COMPARED_BARS:], START + 5 * BAR)
        self.counts.append(self.sequencer.counts)
        self._request: tuple[int, int, Span, list[Kline] | None] | None = None  # due, asked at, asked for, its rows
        self._transaction: tuple[int, list[Candle], Fate] | None = None  # when it ends, of what, and how
        for kline in kept:
            self.sequencer.hear(kline, self._told_ms())
        self._look_ms, self._changed = self.sequencer.next_due_ms(), True

    def _crash(self) -> None:
        if self._transaction is not None and self._happens(0.5):
            self.log += self._transaction[1]
        self._start([])
        self._down_until_ms = self._later(self.faults.down_ticks)

    def _send(self) -> None:
        """What the feed makes of the exchange's frames."""
        if self._happens(self.faults.hidden * TICK / BAR):
            slot = (self.now_ms - START) // BAR - self.chance.randint(0, 3)
            self.exchange.hide(max(slot, 0), self._later(20))
        for frame in self.exchange.frames(self.now_ms):
            kline = corrupted(frame, self.chance) if self._happens(self.faults.corrupt) else frame
            if not self._happens(self.faults.dropped):
                self._frames += [(self._later(self.faults.late_ticks), kline)] * (
                    1 + self._happens(self.faults.doubled)
                )

    def _hear(self) -> None:
        due = [kline for due_ms, kline in self._frames if due_ms <= self.now_ms]
        self._frames = [frame for frame in self._frames if frame[0] > self.now_ms]
        for kline in [] if self.faults.deaf else due:
            if self.sequencer.hear(kline, self._told_ms()):
                self._look_ms, self._changed = self.sequencer.next_due_ms(), True

    def _ask(self) -> None:
        """REST: one request at a time; a failed one counts as just asked for."""
        if self._request is not None and self._request[0] <= self.now_ms:
            _, asked_at_ms, span, rows = self._request
            self._request = None
            if rows is None:
                self.sequencer.asked_for(span, self._told_ms())
            else:
                self.sequencer.read(rows, span, asked_at_ms)
                self._changed = True
            self._look_ms = self.sequencer.next_due_ms()
        told_ms = self._told_ms()
        if self._request is None and told_ms >= self._look_ms:
            span_or_none = self.sequencer.missing(told_ms)
            assert span_or_none is not None, "due, and nothing is missing"
            self._send_request(span_or_none, told_ms)

    def _send_request(self, span: Span, told_ms: int) -> None:
        assert span.first_ms <= span.last_ms < span.first_ms + LIMITS.max_rows * BAR
        self.sequencer.asked_for(span, told_ms)
        due_ms = self._later(self.faults.slow_ticks)
        made_ms = min(due_ms, self.chance.choice([self.now_ms, self.now_ms + TICK]))
        until_ms = span.last_ms if self.honours_until else None
        lag = self.chance.randint(0, self.faults.lag_bars)
        rows: list[Kline] | None = self.exchange.rows(span.first_ms, made_ms, lag, until_ms)
        if self._happens(self.faults.empty):
            rows = []
        if self._happens(self.faults.refused):
            rows = None
        self._request = (due_ms, min(told_ms, self.now_ms), span, rows)
        self._look_ms = self.sequencer.next_due_ms()

    def _publish(self) -> None:
        """One transaction at a time; after a failed one everything begins at the tail again."""
        if self._transaction is not None and self._transaction[0] <= self.now_ms:
            self._end_transaction()
        if self._transaction is None and self._changed:
            candles = self.sequencer.ready(self._told_ms(), self.most)
            assert len(candles) <= self.most
            assert candles == self.sequencer.ready(candles[0].received_at_ms if candles else 0, self.most)
            self._changed = bool(candles)
            if candles:
                fate: Fate = "acknowledged"
                if self._happens(self.faults.lost):
                    fate = self.chance.choice(["lost", "unknown"])
                self._transaction = (self._later(self.faults.slow_ticks), candles, fate)

    def _end_transaction(self) -> None:
        assert self._transaction is not None
        _, candles, fate = self._transaction
        self._transaction = None
        if fate != "lost":
            self.log += candles
        if fate == "acknowledged":
            self.sequencer.acknowledge(candles)
            self._look_ms = self.sequencer.next_due_ms()
        else:
            self._start(self.sequencer.kept())

    def _check_bounds(self) -> None:
        sequencer, told_ms = self.sequencer, self._told_ms()
        assert len(sequencer._bars) <= LIMITS.max_kept
        assert len(sequencer._lacked) <= LIMITS.max_kept
        assert len(sequencer._published) <= 2 * COMPARED_BARS
        assert len(sequencer.kept()) <= LIMITS.max_kept + COMPARED_BARS
        if sequencer._asking._asked_at_ms <= told_ms:
            assert (sequencer.missing(told_ms) is not None) == (told_ms >= sequencer.next_due_ms())
        assert sequencer.next_due_ms() <= max(self.now_ms + 3 * BAR, START + 3 * BAR) or self._full()

    def _full(self) -> bool:
        return self.sequencer.next_due_ms() == NEVER_MS


def check_log(log: list[Candle], kinds: list[Kind]) -> None:
    """Nothing lost, doubled, out of order or wrong, and absent is what the exchange does not have."""
    assert [candle.open_time_ms for candle in log] == [START + slot * BAR for slot in range(len(log))]
    for slot, candle in enumerate(log):
        assert why_invalid(candle) == ""
        assert candle.revision == 0
        assert candle.absent == (kinds[slot] == "absent")
        if not candle.absent:
            bar = bar_of(slot, kinds[slot])
            said = (candle.open, candle.high, candle.low, candle.close, candle.volume)
            assert said == (bar.open, bar.high, bar.low, bar.close, bar.volume)
