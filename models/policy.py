"""What to do about an alarm: ask for a challenger, or say why not. One pure function, on event time alone.

Enters: an alarm or none, the champion, the jobs so far. Leaves: a decision with its reason. Does not know: Kafka, how
alarms come about, whether a challenger is any better (the gate says that).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from models.drift import Alarm, look_bars
from models.events import Drift, RetrainJob, Scores
from models.jobs import least_judged_bars

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
LEAST_NEW_HORIZONS = 4
"""Of bars that train: a label takes one, and another is dropped before what the training tests on."""


@dataclass(frozen=True)
class Policy:
    """When to ask for a challenger; spans are event time.

    Source: the drift study in the project's notes. Retraining every week beat training once by 1.1 %, by more the older
    the champion was; right after an alarm it gained nothing for certain, so alarms may wait for the cool-down.
    """

    min_new_bars: int = 360  # closes after the one that made us ask, that train: the new regime is among them
    judge_bars: int = 360  # closes after those, that judge; of both there are more where the horizon asks for it
    cool_down_ms: int = DAY_MS  # from one job to the next
    retrain_after_ms: int = 7 * DAY_MS  # since the champion's training and any job; 0: no schedule
    max_open_jobs: int = 1
    attempts: int = 3  # jobs for as long as one alarm stands
    settle_bars: int = 480  # after a promotion: so many looks at coverage the newcomer is given to bring it back
    lapse_ms: int = DAY_MS  # so long after its judging a job without an end is no longer waited for


class Job(NamedTuple):
    """A job that somebody asked for, and what became of it."""

    job: RetrainJob
    state: Literal["open", "promoted", "refused", "failed"]  # refused: by the gate or by the trainer


class Situation(NamedTuple):
    """All that a decision rests on."""

    model: str
    timeframe_ms: int
    horizon_bars: int
    bundle: str  # of the champion, SHA-256
    trained_until_ms: int | None  # of the champion; none: not known yet
    now_ms: int  # target of the pooled close
    standing: tuple[Alarm, ...] = ()  # alarms of level drift without recovery: `Detectors.standing`
    jobs: tuple[Job, ...] = ()  # of this model, from the earliest standing alarm and the last `retrain_after_ms` on


class Decision(NamedTuple):
    """A job, or none; and why, for a person."""

    job: RetrainJob | None
    reason: str
    about: Alarm | None  # the alarm, or what stands for it where the policy acts by itself; none: nothing to publish


class _Cause(NamedTuple):
    why: Literal["drift", "schedule"]
    reason: str
    about: Alarm


def decide(alarm: Alarm | None, situation: Situation, policy: Policy) -> Decision:
    """Decide about one alarm; without one, whether another attempt or the schedule is due at this close.

    The same alarm in the same situation gives the same job by the same name, so asking twice is asking once.
    """
    if alarm is None:
        cause = _another_attempt(situation, policy) or _schedule(situation, policy)
    elif alarm.level == "drift":
        cause = _Cause("drift", _in_words(alarm), alarm)
    else:
        return Decision(None, f"{alarm.level}: nothing to train for", alarm)
    if cause is None:
        return Decision(None, "nothing is due", None)
    hindrance = _hindrance(situation, policy)
    if hindrance is not None:
        return Decision(None, hindrance, alarm)
    return Decision(_job(cause.why, situation, policy), cause.reason, cause.about)


def drift_record(scores: Scores, alarm: Alarm, decision: Decision) -> Drift:
    """What is published about an alarm, or about `decision.about`."""
    return Drift(
        model=scores.model,
        bundle=scores.bundle,
        epoch=scores.epoch,
        timeframe=scores.timeframe,
        target_time_ms=scores.target_time_ms,
        detector=alarm.detector,
        level=alarm.level,
        statistic=alarm.statistic,
        reference=alarm.reference,
        since_ms=alarm.since_ms,
        decision="retrain" if decision.job else "none",
        reason=decision.reason,
        job=decision.job,
    )


def _another_attempt(situation: Situation, policy: Policy) -> _Cause | None:
    """The first attempt, where an alarm came during the cool-down, or one more after a job that did not help."""
    if not situation.standing:
        return None
    first = min(situation.standing, key=lambda alarm: alarm.target_time_ms)
    answers = [each for each in situation.jobs if each.job.asked_ms >= first.target_time_ms]
    attempt = len(answers) + 1
    promoted_ms = max((each.job.judge_until_ms for each in answers if each.state == "promoted"), default=0)
    settle_bars = policy.settle_bars * look_bars(situation.horizon_bars)
    settling = situation.now_ms < promoted_ms + settle_bars * situation.timeframe_ms
    if attempt > policy.attempts or (promoted_ms and settling):
        return None
    about = Alarm(
        first.detector, "schedule", situation.now_ms, first.statistic, first.reference, since_ms=first.since_ms
    )
    reason = f"attempt {attempt} of {policy.attempts}: {first.detector} has not recovered"
    return _Cause("drift", reason, about)


def _schedule(situation: Situation, policy: Policy) -> _Cause | None:
    """Age alone: a champion is challenged so long after its training, and after whatever job came since."""
    trained_ms = situation.trained_until_ms
    if trained_ms is None or not policy.retrain_after_ms:
        return None
    newest_ms = max([trained_ms, *(each.job.asked_ms for each in situation.jobs)])
    if situation.now_ms - newest_ms < policy.retrain_after_ms:
        return None
    days, limit = (situation.now_ms - trained_ms) / DAY_MS, policy.retrain_after_ms / DAY_MS
    about = Alarm("champion_age_days", "schedule", situation.now_ms, days, limit, since_ms=trained_ms)
    return _Cause("schedule", f"the champion was trained {days:.1f} days ago", about)


def _hindrance(situation: Situation, policy: Policy) -> str | None:
    """What speaks against a job now, whatever asks for it."""
    now_ms, trained_ms = situation.now_ms, situation.trained_until_ms
    awaited = [
        each.job
        for each in situation.jobs
        if each.state == "open" and now_ms < each.job.judge_until_ms + policy.lapse_ms
    ]
    if len(awaited) >= policy.max_open_jobs:
        return f"job {awaited[-1].job} has not ended"
    since_ms = min((now_ms - each.job.asked_ms for each in situation.jobs), default=policy.cool_down_ms)
    if since_ms < policy.cool_down_ms:
        return f"cool-down: {(policy.cool_down_ms - since_ms) / HOUR_MS:.1f} h to go"
    if trained_ms is not None and _train_until_ms(situation, policy) <= trained_ms:
        return "the champion was trained on later candles than these"
    return None


def _job(why: Literal["drift", "schedule"], situation: Situation, policy: Policy) -> RetrainJob:
    train_until_ms = _train_until_ms(situation, policy)
    judge_bars = max(policy.judge_bars, least_judged_bars(situation.horizon_bars))
    return RetrainJob(
        job=f"{why}-{situation.model.lower()[:40]}-{situation.now_ms}-{situation.bundle[:8]}",
        model=situation.model,
        why=why,
        asked_ms=situation.now_ms,
        train_until_ms=train_until_ms,
        judge_until_ms=train_until_ms + judge_bars * situation.timeframe_ms,
        seed=situation.now_ms // situation.timeframe_ms,  # another attempt is another seed
    )


def _train_until_ms(situation: Situation, policy: Policy) -> int:
    new_bars = max(policy.min_new_bars, LEAST_NEW_HORIZONS * situation.horizon_bars)
    return situation.now_ms + new_bars * situation.timeframe_ms


def _in_words(alarm: Alarm) -> str:
    direction = "fell" if alarm.statistic < alarm.reference else "rose"
    return f"{alarm.detector} {direction} from {alarm.reference:.2f} to {alarm.statistic:.2f}"
