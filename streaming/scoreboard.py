"""What the terminal view shows of a running system: read from the topics as they grow, scored as horizons pass.

Enters: records of `candles` and `signals`. Leaves: running counts and scores. Does not know: how they are drawn.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from models.distribution import gaussian_crps
from models.events import Candle, Signal, decode_candle, decode_signal
from models.scoring import Realised, Scores, score
from models.spec import Spec
from streaming.clients import new_reader, started
from streaming.settings import Settings
from streaming.topics import topic_partitions

LAST_SIGNALS = 10
SCORE_AT_ONCE = 500
RATE_WINDOW_S = 3.0


@dataclass
class Skill:
    """Sums of scores; the ratios are what a person reads, below 1 is better than the baseline."""

    scored: int = 0
    crps: float = 0.0
    crps_har: float = 0.0
    crps_vol60: float = 0.0
    return_crps: float = 0.0
    return_crps_ewma: float = 0.0
    range_covered: int = 0
    return_covered: int = 0

    def add(self, scores: Scores, crps_vol60: float) -> None:
        """Add a batch of scored signals."""
        self.scored += len(scores.range_crps)
        self.crps += float(scores.range_crps.sum())
        self.crps_har += float(scores.range_crps_har.sum())
        self.crps_vol60 += crps_vol60
        self.return_crps += float(scores.return_crps.sum())
        self.return_crps_ewma += float(scores.return_crps_ewma.sum())
        self.range_covered += int(scores.range_covered.sum())
        self.return_covered += int(scores.return_covered.sum())

    def as_dict(self) -> dict[str, float | int | None]:
        """Ratios and coverages; None before anything was scored."""
        n = self.scored

        def ratio(a: float, b: float) -> float | None:
            return round(a / b, 4) if n else None

        return {
            "scored": n,
            "range_crps_vs_har": ratio(self.crps, self.crps_har),
            "range_crps_vs_vol60": ratio(self.crps, self.crps_vol60),
            "return_crps_vs_baseline": ratio(self.return_crps, self.return_crps_ewma),
            "range_coverage80": ratio(self.range_covered, n),
            "return_coverage80": ratio(self.return_covered, n),
        }


@dataclass
class Scoreboard:
    """Follows the topics in a task of its own. `specs` by bundle is filled by whoever publishes."""

    specs: dict[str, Spec] = field(default_factory=dict)
    candles: int = 0
    signals: int = 0
    newest_close_ms: int = 0
    _newest: dict[bytes, Signal] = field(default_factory=dict)
    skill: Skill = field(default_factory=Skill)
    skill_by_bundle: dict[str, Skill] = field(default_factory=dict)
    _bars: dict[bytes, dict[int, tuple[float, float]]] = field(default_factory=dict)  # close time: close, range
    _waiting: dict[bytes, deque[Signal]] = field(default_factory=dict)
    _spoken: dict[tuple[bytes, str], int] = field(default_factory=dict)
    _signalled: dict[bytes, int] = field(default_factory=dict)
    _rates: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=64))

    async def follow(self, settings: Settings) -> None:
        """Read both topics until cancelled."""
        tps = topic_partitions(settings, "candles") + topic_partitions(settings, "signals")
        async with started(new_reader(settings, max_partition_fetch_bytes=4 << 20)) as reader:
            reader.assign(tps)
            await reader.seek_to_beginning()
            while True:
                await self._take(reader, settings)

    async def _take(self, reader: AIOKafkaConsumer, settings: Settings) -> None:
        fetched = await reader.getmany(timeout_ms=100, max_records=2_000)
        for tp, records in fetched.items():
            take = self._candle if tp.topic == settings.topic("candles") else self._signal
            for record in records:
                take(record)
        self._rates.append((time.monotonic(), self.signals))
        for key in {record.key for records in fetched.values() for record in records}:
            self._score(key)

    def _candle(self, record: ConsumerRecord[Any, Any]) -> None:
        candle: Candle = decode_candle(record.value)
        self.candles += 1
        self.newest_close_ms = max(self.newest_close_ms, candle.close_time_ms)
        if candle.high is None or candle.low is None or candle.close is None:
            return
        self._bars.setdefault(record.key, {})[candle.close_time_ms] = (
            candle.close,
            (candle.high - candle.low) / candle.close,
        )

    def _signal(self, record: ConsumerRecord[Any, Any]) -> None:
        signal = decode_signal(record.value)
        identity = (record.key, signal.model)
        if signal.close_time_ms <= self._spoken.get(identity, -1):
            return  # a duplicate: the first one wins
        self._spoken[identity] = signal.close_time_ms
        self.signals += 1
        self._newest[record.key] = signal
        self._signalled[record.key] = signal.close_time_ms
        self._waiting.setdefault(record.key, deque()).append(signal)

    def _score(self, key: bytes) -> None:
        """Score what is due of a series, and forget the bars that nothing waits for."""
        waiting, bars = self._waiting.get(key), self._bars.get(key)
        if waiting is None or not bars:
            return
        newest = max(bars)
        due: list[tuple[Signal, Realised]] = []
        while waiting and waiting[0].target_time_ms <= newest:
            signal = waiting.popleft()
            realised = _realised(signal, bars)
            if realised:
                due.append((signal, realised))
        # Signals come after candles, so nothing newer than the last signal may go yet.
        needed_after = waiting[0].close_time_ms if waiting else self._signalled[key]
        for close_time_ms in [at for at in bars if at <= needed_after]:
            del bars[close_time_ms]
        for at in range(0, len(due), SCORE_AT_ONCE):
            self._add(due[at : at + SCORE_AT_ONCE])

    def _add(self, due: list[tuple[Signal, Realised]]) -> None:
        for bundle in {signal.bundle for signal, _ in due}:
            mine = [pair for pair in due if pair[0].bundle == bundle]
            scores = score([signal for signal, _ in mine], [realised for _, realised in mine])
            baselines = self.specs[bundle].baselines
            vol60 = float(gaussian_crps(scores.y_range, baselines.vol60_mean, baselines.vol60_sd).sum())
            self.skill.add(scores, vol60)
            self.skill_by_bundle.setdefault(bundle, Skill()).add(scores, vol60)

    def last(self) -> list[Signal]:
        """The newest signal of each series, the newest first."""
        newest = sorted(self._newest.values(), key=lambda signal: (-signal.close_time_ms, signal.symbol))
        return newest[:LAST_SIGNALS]

    def signals_per_s(self) -> float:
        """Over the last few seconds."""
        now = time.monotonic()
        recent = [(at, count) for at, count in self._rates if now - at <= RATE_WINDOW_S]
        if len(recent) < 2 or recent[-1][0] == recent[0][0]:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])


def _realised(signal: Signal, bars: dict[int, tuple[float, float]]) -> Realised | None:
    """None when a bar of the horizon is absent: such a label is withheld."""
    step = (signal.target_time_ms - signal.close_time_ms) // signal.horizon_bars
    ahead = [bars.get(signal.close_time_ms + (i + 1) * step) for i in range(signal.horizon_bars)]
    known = [bar for bar in ahead if bar is not None]
    if len(known) < signal.horizon_bars:
        return None
    return Realised(known[-1][0], sum(bar[1] for bar in known) / len(known))
