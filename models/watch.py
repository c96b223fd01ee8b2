"""Pooled scores into drift records: detectors of every model, and what the policy makes of their alarms.

Enters: pooled `Scores` in the order of the log, what was decided before, jobs and the age of bundles. Leaves: `Drift`
records not yet published. Does not know: Kafka.

What was published stands: whoever folds the same records again says nothing a second time, even where the policy would
decide otherwise by now.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from models.drift import MAX_ERA_CLOSES, Alarm, Detectors, Era
from models.events import Drift, RetrainJob, Scores
from models.policy import Decision, Job, Policy, Situation, decide, drift_record
from models.series import timeframe_ms

MAX_DECIDED, MAX_ASKED = 20_000, 100
"""Records and jobs remembered; of either the oldest are forgotten."""
MAX_ERAS = 40
"""Models that a commit remembers; Kafka takes 4 KiB. The detectors of others begin anew after a restart."""


@dataclass(frozen=True)
class Surroundings:
    """What else the policy looks at."""

    jobs: Mapping[str, tuple[Job, ...]]  # by model, in the order in which they were asked for
    trained_until_ms: Mapping[str, int]  # by bundle


class Watch:
    """Folds pooled records."""

    def __init__(self, policy: Policy, decided: Iterable[Drift] = (), eras: Mapping[str, int] | None = None) -> None:
        self._policy = policy
        self._begins = dict(eras or {})  # by model: target of the first record that its detectors are to see
        self._decided: dict[tuple[str, int, str, str], Drift] = {}  # by model, target, detector and level
        self._asked: defaultdict[str, deque[RetrainJob]] = defaultdict(lambda: deque(maxlen=MAX_ASKED))  # by model
        self._detectors: dict[str, Detectors] = {}
        self._offsets: dict[str, int] = {}  # by model: of the record that began its era
        self._lapses_ms: dict[str, int] = {}  # by model: silent up to this target, it is forgotten
        for drift in decided:
            self._note(drift)

    def fold(self, offset: int, pooled: Scores, around: Surroundings | None) -> list[Drift]:
        """Take the next record; give what there is to publish, and take it for published.

        Without surroundings it is only remembered: it was decided upon before.
        """
        if pooled.target_time_ms < self._begins.get(pooled.model, 0):
            return []
        self._forget_silent(pooled)
        detectors = self._detectors_of(pooled)
        alarms = detectors.update(pooled)
        began_ms = detectors.era_began_ms
        if pooled.model not in self._offsets or self._begins.get(pooled.model) != began_ms:
            self._begins[pooled.model], self._offsets[pooled.model] = began_ms, offset
        if around is None:
            return []
        drifts: list[Drift] = []
        for alarm in (*alarms, None):
            decision = decide(alarm, self._situation(pooled, detectors, around), self._policy)
            drifts += self._news(pooled, alarm or decision.about, decision)
        return drifts

    def _forget_silent(self, pooled: Scores) -> None:
        """A model that nobody serves any more must not hold back for ever the offset that a restart begins at."""
        model, now_ms = pooled.model, pooled.target_time_ms
        lapses_ms = now_ms + MAX_ERA_CLOSES * timeframe_ms(pooled.timeframe)
        self._lapses_ms[model] = max(lapses_ms, self._lapses_ms.get(model, lapses_ms))
        for silent in [name for name, until_ms in self._lapses_ms.items() if now_ms > until_ms]:
            for each in (self._begins, self._detectors, self._offsets, self._lapses_ms):
                each.pop(silent, None)

    def _detectors_of(self, pooled: Scores) -> Detectors:
        if pooled.model not in self._detectors:
            era = Era(standing=self._standing(pooled.model, pooled.target_time_ms))
            self._detectors[pooled.model] = Detectors(pooled.horizon_bars, era)
        return self._detectors[pooled.model]

    def _standing(self, model: str, before_ms: int) -> tuple[Alarm, ...]:
        """Alarms of level drift without recovery, as published before a target."""
        standing: dict[str, Alarm] = {}
        for drift in self._decided.values():
            if drift.model != model:
                continue
            if drift.target_time_ms < before_ms and drift.level == "drift":
                standing[drift.detector] = Alarm(
                    drift.detector, "drift", drift.target_time_ms, drift.statistic, drift.reference, drift.since_ms
                )
            elif drift.target_time_ms < before_ms and drift.level == "recovered":
                standing.pop(drift.detector, None)
        return tuple(standing.values())

    def _situation(self, pooled: Scores, detectors: Detectors, around: Surroundings) -> Situation:
        known = around.jobs.get(pooled.model, ())
        names = {each.job.job for each in known}
        asked = [Job(job, "open") for job in self._asked[pooled.model] if job.job not in names]
        return Situation(
            model=pooled.model,
            timeframe_ms=timeframe_ms(pooled.timeframe),
            horizon_bars=pooled.horizon_bars,
            bundle=pooled.bundle,
            trained_until_ms=around.trained_until_ms.get(pooled.bundle),
            now_ms=pooled.target_time_ms,
            standing=detectors.standing,
            jobs=(*known, *asked),
        )

    def _news(self, pooled: Scores, alarm: Alarm | None, decision: Decision) -> list[Drift]:
        if alarm is None:
            return []
        drift = drift_record(pooled, alarm, decision)
        return [drift] if self._note(drift) else []

    def _note(self, drift: Drift) -> bool:
        """Remember; whether it is the first of its name."""
        identity = (drift.model, drift.target_time_ms, drift.detector, drift.level)
        if identity in self._decided:
            return False
        self._decided[identity] = drift
        if len(self._decided) > MAX_DECIDED:
            del self._decided[next(iter(self._decided))]
        if drift.job is not None:
            self._asked[drift.model].append(drift.job)
        return True

    @property
    def eras(self) -> dict[str, int]:
        """By model, target of the first record that its detectors must see again after a restart."""
        newest = sorted(self._begins, key=lambda model: self._begins[model])[-MAX_ERAS:]
        return {model: self._begins[model] for model in newest}

    def rewind_offset(self, otherwise: int) -> int:
        """The offset from which these records lie, or the other one where that is smaller."""
        return min([otherwise, *(self._offsets[model] for model in self.eras if model in self._offsets)])

    @property
    def readings(self) -> dict[tuple[str, str], float]:
        """The mean that each detector holds, by model and detector."""
        return {
            (model, detector): value
            for model, detectors in self._detectors.items()
            for detector, value in detectors.readings.items()
        }
