"""Logs of candles and of the signals they led to, for the tests of what joins them; and a reader that may die."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from models.decode import Batch
from models.events import Outcome, Scores, Signal, decode_outcome, decode_scores, encode
from models.outcomes import Join, Joined, Rewind
from models.series import Series
from tests.models.candle_records import MINUTE, START_SLOT, Record, make_absent, make_candle, record_of

HORIZONS = {"default-1m": 3, "long-1m": 5}
BUNDLES = ("a" * 64, "b" * 64)


def make_signal(series: Series, slot: int, **fields: Any) -> Signal:
    """A signal that makes sense, for the close at this slot."""
    horizon, length_ms = fields.get("horizon_bars", 3), series.timeframe_ms
    own: dict[str, Any] = {
        "v": 1, "exchange": series.exchange, "symbol": series.symbol, "timeframe": series.timeframe,
        "close_time_ms": slot * length_ms, "horizon_bars": horizon, "target_time_ms": (slot + horizon) * length_ms,
        "close": 101.0, "volatility": 1e-3, "location": 0.05, "scale": 0.8, "dof": 5.0, "range_location": 0.4,
        "range_scale": 0.5, "ewma_scale": 0.9, "ewma_dof": 4.5, "har_location": 0.35, "har_scale": 0.55,
        "probability_up": 0.51, "expected_return_bps": 0.4, "expected_range_bps": 12.0, "interval_low": 100.0,
        "interval_high": 102.0, "interval_coverage": 0.8, "direction": "flat", "proven": (), "model": "default-1m",
        "bundle": BUNDLES[0], "epoch": 7, "origin": "live", "predicted_at_ms": slot * length_ms + 300,
    }  # fmt: skip
    return Signal(**own | fields)


@dataclass
class Logs:
    """One partition: its candles, its signals, and how many signals the candles below each offset led to."""

    candles: list[Record] = field(default_factory=list)
    signals: list[Record] = field(default_factory=list)
    known: list[int] = field(default_factory=lambda: [0])  # by offset of candles

    def signal(self, series: Series, signal: Signal) -> None:
        self.signals.append(Record(series.key, encode(signal)))


def make_logs(seed: int, slots: int = 30, series: int = 3) -> Logs:
    """Series side by side, one of them now and then behind; absents, gaps, repeats, revisions, poison, duplicates."""
    rng, logs = Random(seed), Logs()
    names = [Series("binance", f"S{i}/USDT", "1m") for i in range(series)]
    for slot in range(START_SLOT, START_SLOT + slots):
        for name in names if rng.random() < 0.8 else names[::-1]:
            chance = rng.random()
            if chance < 0.03:
                continue  # an undeclared gap
            _candle(rng, logs, name, slot, absent=chance < 0.08)
            logs.known.append(len(logs.signals))
            if chance > 0.97:  # a correction, which changes nothing
                logs.candles.append(record_of(make_candle(name, slot, revision=1, close=100.5)))
                logs.known.append(len(logs.signals))
            if chance > 0.95:
                logs.candles.append(Record(name.key, b"poison"))
                logs.known.append(len(logs.signals))
    return logs


def _candle(rng: Random, logs: Logs, name: Series, slot: int, absent: bool) -> None:
    if absent:
        logs.candles.append(record_of(make_absent(name, slot)))
        return
    low, close, high = sorted(100 + rng.random() for _ in range(3))
    candle = make_candle(name, slot, open=close, low=low, close=close, high=high)
    logs.candles.append(record_of(candle))
    if rng.random() < 0.02:
        logs.candles.append(logs.candles[-1])
        logs.known.append(len(logs.signals))
    for model, horizon in HORIZONS.items():
        if rng.random() < 0.9:
            bundle = BUNDLES[slot > START_SLOT + 12]
            signal = make_signal(name, slot, model=model, horizon_bars=horizon, close=close, bundle=bundle)
            logs.signal(name, signal)
            if rng.random() < 0.1:
                logs.signal(name, signal)
    if rng.random() < 0.02:
        logs.signals.append(Record(name.key, b"{}"))


@dataclass
class Reader:
    """Reads both logs in pieces of any size, as a consumer would, and publishes; what it publishes stays."""

    logs: Logs
    outcomes: list[Outcome] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
    withheld: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    late: int = 0

    def __post_init__(self) -> None:
        self.resume = (0, 0)
        self.committed = (0, 0, Rewind(0, 0, 0))
        self.restart()

    def restart(self) -> None:
        """As after `kill -9`: from the last commit."""
        candles, signals, rewind = self.committed
        self.resume = (candles, signals)
        self.at = [rewind.candles, rewind.signals]
        self.join = Join()
        self.join.begin(0, rewind)

    def commit(self) -> bool:
        """Remember what is done, unless that is still being rebuilt."""
        rebuilt = self.at[0] >= self.resume[0] and self.at[1] >= self.resume[1]
        if rebuilt:
            self.committed = (self.at[0], self.at[1], self.join.rewinds()[0])
        return rebuilt

    def read(self, candles: int, signals: int) -> None:
        """Take so many records more."""
        joined = self.join.take(
            _batch(self.logs.candles, self.at[0], candles, self.resume[0]),
            _batch(self.logs.signals, self.at[1], signals, self.resume[1]),
        )
        self.at = [min(self.at[0] + candles, len(self.logs.candles)), min(self.at[1] + signals, len(self.logs.signals))]
        self._publish(joined)

    def _publish(self, joined: Joined) -> None:
        self.outcomes += [decode_outcome(message.value) for message in joined.outcomes.get(0, ())]
        self.late += joined.late
        for reason, count in joined.withheld.items():
            self.withheld[reason] += count

    def settle(self, offset: int) -> None:
        """What `predict` has committed, where all signals of it were read."""
        if self.logs.known[offset] <= self.at[1]:
            self.scores += [decode_scores(message.value) for message in self.join.settle(0, offset)]

    def finish(self) -> None:
        """Read all that is left, and settle it."""
        self.read(len(self.logs.candles), len(self.logs.signals))
        self.settle(len(self.logs.candles))


def read_whole(logs: Logs) -> Reader:
    """In one piece."""
    reader = Reader(logs)
    reader.finish()
    return reader


def _batch(log: list[Record], start: int, count: int, resume: int) -> Batch:
    records = log[start : start + count]
    offsets = np.arange(start, start + len(records))
    return Batch([r.key for r in records], [r.value for r in records], [0] * len(records), offsets, offsets >= resume)


def by_identity(outcomes: list[Outcome]) -> dict[tuple[str, str, int, str], Outcome]:
    """The first of each; refuses two that differ."""
    found: dict[tuple[str, str, int, str], Outcome] = {}
    for outcome in outcomes:
        identity = (outcome.symbol, outcome.model, outcome.close_time_ms, outcome.bundle)
        assert found.setdefault(identity, outcome) == outcome
    return found


def sums_by_identity(scores: list[Scores]) -> dict[tuple[str, str, int], Scores]:
    """The first of each that sums anything; refuses two that differ."""
    found: dict[tuple[str, str, int], Scores] = {}
    for one in scores:
        if one.outcomes:
            assert found.setdefault((one.model, one.bundle, one.target_time_ms), one) == one
    return found


def expected(logs: Logs) -> Iterator[tuple[str, str, int, float, float]]:
    """Symbol, model, close, target close and mean range of every outcome there must be, found the slow way."""
    bars: dict[tuple[str, int], Any] = {}
    newest: dict[str, int] = {}
    for candle in decoded(logs):
        if candle.revision == 0 and candle.close_time_ms > newest.get(candle.symbol, 0):
            newest[candle.symbol] = candle.close_time_ms
            bars[candle.symbol, candle.close_time_ms] = candle
    for signal in {(s.symbol, s.model, s.close_time_ms): s for s in signals_of(logs)}.values():
        ahead = range(signal.close_time_ms + MINUTE, signal.target_time_ms + MINUTE, MINUTE)
        came = [bars.get((signal.symbol, at)) for at in ahead]
        there = [bar for bar in came if bar is not None and not bar.absent]
        if len(there) == signal.horizon_bars:
            mean = sum((bar.high - bar.low) / bar.close for bar in there) / len(there)
            yield signal.symbol, signal.model, signal.close_time_ms, there[-1].close, mean


def decoded(logs: Logs) -> Iterator[Any]:
    from models.events import decode_candle

    for record in logs.candles:
        if record.value and record.value != b"poison":
            yield decode_candle(record.value)


def signals_of(logs: Logs) -> Iterator[Signal]:
    from models.events import decode_signal

    for record in logs.signals:
        if record.value and record.value != b"{}":
            yield decode_signal(record.value)
