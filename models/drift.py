"""Does the model still fit the market? Detectors over the pooled scores of one model, close after close.

Enters: pooled `Scores` in order of their target. Leaves: alarms. Does not know: Kafka, jobs, what an alarm leads to.

Only coverage, the share of truths inside their central 80 % intervals, gives alarms of level `drift`: of all that was
tried on real candles it alone is quiet in calm months and loud in crashes. A change that leaves coverage near nominal
is no drift. An alarm says that the distribution changed, not that another model is better: only the gate says that.

The state is a function of an `Era` and of the records since it began: whoever folds those again comes to the same.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from models.change import AdaptiveWindow, PageHinkley, Shift
from models.events import Scores
from models.scoring import COVERAGE
from models.series import timeframe_ms

MAX_ERA_CLOSES = 20_160
"""Two weeks of minutes: no more records than these are ever folded again."""
RECOVERY_CLOSES = 240
"""Looks at coverage; four hours of minutes at three bars ahead: over 92 % of such spans of a calm month lie within the
band, and none of a drifted one."""
MOST_OVERLAP = 3
"""Labels of one series that may share a bar where coverage is looked at. Of longer horizons closes are left out: at 15
bars ahead one surprise counted fifteen times is a change of mean to any detector, twenty times in 20,000 calm closes.
"""
BAND = 0.05
"""Coverage within this of nominal fits."""
BLOCK_CLOSES = 12
"""Closes whose CRPS are summed before a ratio is taken: the ratios of single closes alarm all day long."""
HEADS = ("return_coverage", "range_coverage")
"""The detectors that ask for training; all others only warn."""
TOLERATED_MISSES, MISSES_IN_ALL = 0.5, 30.0
"""In units of the misses that a close promises: half as many again are borne, and thirty more than those in sum."""


class Alarm(msgspec.Struct, frozen=True):
    """What one detector says at one pooled close."""

    detector: str
    level: Literal["warning", "drift", "recovered", "schedule"]  # the last: the policy speaks, no detector
    target_time_ms: int  # of the close at which it is said
    statistic: float  # mean of what is watched, since the change
    reference: float  # the mean before
    since_ms: int  # target of the first close after the change


class Era(msgspec.Struct, frozen=True):
    """Where the memory of the detectors begins, and what was still true then. As JSON some hundred bytes."""

    bundle: str = ""  # none: no record was folded yet
    epoch: int | None = None
    began_ms: int = 0  # its first record has this target
    standing: tuple[Alarm, ...] = ()  # alarms of level drift without recovery, at most one a detector


def look_bars(horizon_bars: int) -> int:
    """From one close at which coverage is looked at to the next: 1 up to three bars ahead."""
    return math.ceil(horizon_bars / MOST_OVERLAP)


class Detectors:
    """The detectors of one model. A change of bundle, an alarm of level drift and two weeks each end an era."""

    def __init__(self, horizon_bars: int, era: Era | None = None) -> None:
        self._era = era or Era()
        self._watch = _Watch(horizon_bars)
        self._standing = {alarm.detector: alarm for alarm in self._era.standing}
        self._newest = (self._era.began_ms - 1, _rank(self._era.epoch))
        self._over = False  # the era, with the newest record

    @property
    def era(self) -> Era:
        """Detectors made from it, and fed every record since its beginning again, are in the state of these."""
        return self._era

    @property
    def era_began_ms(self) -> int:
        """Target of the first record of the era; 0 before any."""
        return self._era.began_ms

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """Alarms of level drift that nothing has recovered from, at most one a detector."""
        return tuple(self._standing.values())

    @property
    def readings(self) -> Mapping[str, float]:
        """The mean that each detector holds now; those that have seen nothing in this era are left out."""
        return self._watch.readings

    def update(self, scores: Scores) -> list[Alarm]:
        """Fold one pooled close.

        A record that is not newer than the newest one, or speaks of an activation older than the newest one, changes
        nothing. One without outcomes only advances time.
        """
        newest_ms, newest_rank = self._newest
        if scores.target_time_ms <= newest_ms or _rank(scores.epoch) < newest_rank:
            return []
        if self._over or scores.bundle != self._era.bundle or self._watch.closes >= MAX_ERA_CLOSES:
            self._era = Era(scores.bundle, scores.epoch, scores.target_time_ms, self.standing)
            self._watch = _Watch(self._watch.horizon_bars)
        self._newest = scores.target_time_ms, _rank(scores.epoch)
        alarms = self._watch.update(scores)
        drifts = {alarm.detector: alarm for alarm in alarms if alarm.level == "drift"}
        self._over = bool(drifts)
        self._standing |= drifts
        return [*alarms, *self._recoveries(scores.target_time_ms, set(self._standing) - set(drifts))]

    def _recoveries(self, now_ms: int, candidates: Collection[str]) -> list[Alarm]:
        """Say which alarms have no cause any more: coverage was within the band for long enough, in this era."""
        alarms = []
        for name in sorted(candidates):
            recent = self._watch.recent_coverage(name)
            if recent is not None and _fits(recent.after):
                before = self._standing.pop(name).statistic
                alarms.append(Alarm(name, "recovered", now_ms, recent.after, before, recent.since_ms))
        return alarms


class _Watch:
    """What one era remembers of its closes."""

    def __init__(self, horizon_bars: int) -> None:
        self.horizon_bars = horizon_bars
        self.closes = 0
        self._look_bars = look_bars(horizon_bars)
        self._next_look_ms = self._next_label_ms = 0
        self._block: list[Scores] = []
        self._enough = min(RECOVERY_CLOSES, MAX_ERA_CLOSES // self._look_bars)
        self._recent: dict[str, deque[tuple[int, float]]] = {name: deque(maxlen=self._enough) for name in HEADS}
        self._detectors: dict[str, AdaptiveWindow | PageHinkley] = {
            **{name: AdaptiveWindow() for name in (*HEADS, "return_pit", "range_pit", "return_crps", "range_crps")},
            **{name: PageHinkley(TOLERATED_MISSES, MISSES_IN_ALL) for name in ("return_misses", "range_misses")},
        }

    @property
    def readings(self) -> Mapping[str, float]:
        means = {name: detector.mean for name, detector in self._detectors.items()}
        return {name: mean for name, mean in means.items() if mean is not None}

    def update(self, scores: Scores) -> list[Alarm]:
        """Fold one close; alarms of level warning or drift."""
        self.closes += 1
        if not scores.outcomes:
            return []
        alarms = []
        for name, value, at_ms in self._watched(scores):
            shift = self._detectors[name].update(value, at_ms)
            if shift is not None:
                level = _level(name, shift)
                alarms.append(Alarm(name, level, scores.target_time_ms, shift.after, shift.before, shift.since_ms))
        return alarms

    def recent_coverage(self, name: str) -> Shift | None:
        """Coverage over the last `RECOVERY_CLOSES` looks, and the first of them; none while the era has fewer."""
        recent = self._recent[name]
        if len(recent) < self._enough:
            return None
        return Shift(COVERAGE, math.fsum(value for _, value in recent) / len(recent), recent[0][0])

    def _watched(self, scores: Scores) -> Iterator[tuple[str, float, int]]:
        """What this close gives to look at: detector, value, and the target of the first close behind the value."""
        n, now_ms, bar_ms = scores.outcomes, scores.target_time_ms, timeframe_ms(scores.timeframe)
        coverage = dict(zip(HEADS, (scores.return_covered / n, scores.range_covered / n), strict=True))
        for name, value in coverage.items():
            yield name.replace("coverage", "misses"), (1 - value) / (1 - COVERAGE), now_ms  # 1 is what was promised
        if now_ms >= self._next_look_ms:
            self._next_look_ms = now_ms + self._look_bars * bar_ms
            for name, value in coverage.items():
                self._recent[name].append((now_ms, value))
            yield "return_coverage", coverage["return_coverage"], now_ms
        if now_ms >= self._next_label_ms:  # labels that overlap would count one surprise `horizon` times
            self._next_label_ms = now_ms + self.horizon_bars * bar_ms
            yield "range_coverage", coverage["range_coverage"], now_ms
            yield "return_pit", scores.return_pit / n, now_ms
            yield "range_pit", scores.range_pit / n, now_ms
        self._block.append(scores)
        if len(self._block) == BLOCK_CLOSES:
            yield from _ratios(self._block)
            self._block = []


def _rank(epoch: int | None) -> int:
    """Activations in their order; signals made offline have none."""
    return -1 if epoch is None else epoch


def _level(detector: str, shift: Shift) -> Literal["warning", "drift"]:
    """Coverage that came to lie outside the band is drift, be it over or under: too wide is as wrong as too narrow."""
    return "drift" if detector in HEADS and not _fits(shift.after) else "warning"


def _fits(coverage: float) -> bool:
    return abs(coverage - COVERAGE) <= BAND


def _ratios(block: Sequence[Scores]) -> Iterator[tuple[str, float, int]]:
    """Logarithm of the CRPS over that of the baseline, summed over the block; below 0 the model is better."""
    sums = {
        "return_crps": [math.fsum(one.return_crps for one in block), math.fsum(one.return_crps_ewma for one in block)],
        "range_crps": [math.fsum(one.range_crps for one in block), math.fsum(one.range_crps_har for one in block)],
    }
    for name, (own, other) in sums.items():
        if own > 0 and other > 0:
            yield name, math.log(own / other), block[0].target_time_ms
