"""What the terminal view shows of a running system, read from the topics as they grow.

Enters: records of `signals`, `outcomes`, `scores`, `drift` and `models`. Leaves: running counts and scores. Does not
know: how they are drawn, or who wrote them.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer

from models.bundle import unpack
from models.bundle_log import Accepted, BundleLog, CompleteBundle
from models.distribution import gaussian_crps
from models.errors import InvalidBundle, InvalidMessage
from models.events import Drift, Outcome, Scores, Signal, decode_drift, decode_outcome, decode_scores
from models.spec import Spec
from streaming.clients import new_reader, started
from streaming.read import UNREADABLE, signal_of
from streaming.settings import Settings
from streaming.topics import topic_partitions

logger = logging.getLogger(__name__)

LAST_SIGNALS = 10
RECENT_CLOSES = 60
RATE_WINDOW_S = 3.0
TOPICS = ("signals", "outcomes", "scores", "drift", "models")


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

    def add(self, outcomes: Sequence[Outcome], spec: Spec) -> None:
        """Add outcomes of one bundle."""
        y_range = np.array([outcome.y_range for outcome in outcomes])
        self.scored += len(outcomes)
        self.crps += sum(outcome.range_crps for outcome in outcomes)
        self.crps_har += sum(outcome.range_crps_har for outcome in outcomes)
        self.crps_vol60 += float(gaussian_crps(y_range, spec.baselines.vol60_mean, spec.baselines.vol60_sd).sum())
        self.return_crps += sum(outcome.return_crps for outcome in outcomes)
        self.return_crps_ewma += sum(outcome.return_crps_ewma for outcome in outcomes)
        self.range_covered += sum(outcome.range_covered for outcome in outcomes)
        self.return_covered += sum(outcome.return_covered for outcome in outcomes)

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


class Recent(NamedTuple):
    """Coverage of the 80 % intervals over the last pooled closes; None before there is one."""

    range_coverage: float | None = None
    return_coverage: float | None = None


@dataclass
class Scoreboard:
    """Follows the topics in a task of its own."""

    specs: dict[str, Spec] = field(default_factory=dict)  # by bundle
    activations: list[Accepted] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)  # each once, in the order of the log
    signals: int = 0
    outcomes: int = 0
    skipped: int = 0  # records that are nothing of the kind
    skill: Skill = field(default_factory=Skill)  # on candles of the exchange
    skill_injected: dict[str, Skill] = field(default_factory=dict)  # by bundle, on candles that were made up
    _log: BundleLog = field(default_factory=BundleLog)
    _newest: dict[bytes, Signal] = field(default_factory=dict)
    _spoken: dict[tuple[bytes, str], int] = field(default_factory=dict)
    _scored: dict[tuple[bytes, str, str], int] = field(default_factory=dict)
    _waiting: list[Outcome] = field(default_factory=list)
    _pooled: deque[Scores] = field(default_factory=lambda: deque(maxlen=RECENT_CLOSES))
    _alarmed: set[tuple[str, int, str, str]] = field(default_factory=set)
    _rates: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=64))

    async def follow(self, settings: Settings) -> None:
        """Read the topics until cancelled."""
        takers = {settings.topic(name): getattr(self, f"_take_{name}") for name in TOPICS}
        async with started(new_reader(settings, max_partition_fetch_bytes=4 << 20)) as reader:
            reader.assign([tp for name in TOPICS for tp in topic_partitions(settings, name)])
            await reader.seek_to_beginning()
            while True:
                await self._take(reader, takers)

    async def _take(self, reader: AIOKafkaConsumer, takers: dict[str, Any]) -> None:
        for tp, records in (await reader.getmany(timeout_ms=100, max_records=2_000)).items():
            for record in records:
                try:
                    takers[tp.topic](record)
                except UNREADABLE as error:
                    self.skipped += 1
                    logger.info("skipped at=%s[%d]@%d reason=%s", tp.topic, tp.partition, record.offset, error)
        self._rates.append((time.monotonic(), self.signals))
        self._score()

    def _take_signals(self, record: Any) -> None:
        signal = signal_of(record.value or b"")
        identity = (record.key, signal.model)
        if signal.close_time_ms <= self._spoken.get(identity, -1):
            return  # a duplicate: the first one wins
        self._spoken[identity] = signal.close_time_ms
        self.signals += 1
        self._newest[record.key] = signal

    def _take_outcomes(self, record: Any) -> None:
        outcome = decode_outcome(record.value or b"")
        identity = (record.key, outcome.model, outcome.bundle)
        if outcome.close_time_ms <= self._scored.get(identity, -1):
            return
        self._scored[identity] = outcome.close_time_ms
        self.outcomes += 1
        self._waiting.append(outcome)

    def _take_scores(self, record: Any) -> None:
        scores = decode_scores(record.value or b"")
        if scores.partition is None and scores.outcomes:
            self._pooled.append(scores)

    def _take_drift(self, record: Any) -> None:
        drift = decode_drift(record.value or b"")
        identity = (drift.model, drift.target_time_ms, drift.detector, drift.level)
        if identity not in self._alarmed:
            self._alarmed.add(identity)
            self.drift.append(drift)

    def _take_models(self, record: Any) -> None:
        try:
            result = self._log.apply(record.offset, record.key, record.value, dict(record.headers))
            if isinstance(result, CompleteBundle):
                self.specs[result.sha256] = unpack(result.blob).spec
            elif isinstance(result, Accepted):
                self.activations.append(result)
        except (InvalidMessage, InvalidBundle):
            return  # predict refuses it as well, and says why

    def _score(self) -> None:
        """Score what came in; an outcome may be here before the bundle that it names."""
        for bundle in {outcome.bundle for outcome in self._waiting} & set(self.specs):
            mine = [outcome for outcome in self._waiting if outcome.bundle == bundle]
            real = [outcome for outcome in mine if outcome.origin != "injected"]
            made_up = [outcome for outcome in mine if outcome.origin == "injected"]
            self.skill.add(real, self.specs[bundle])
            if made_up:
                self.skill_injected.setdefault(bundle, Skill()).add(made_up, self.specs[bundle])
        self._waiting = [outcome for outcome in self._waiting if outcome.bundle not in self.specs]

    def recent(self) -> Recent:
        """Coverage lately: where a misfit shows first."""
        n = sum(scores.outcomes for scores in self._pooled)
        if not n:
            return Recent()
        covered = (sum(s.range_covered for s in self._pooled), sum(s.return_covered for s in self._pooled))
        return Recent(covered[0] / n, covered[1] / n)

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
