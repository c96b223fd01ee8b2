"""What became of a retraining job, from its events in the order of the log, and what can never be done about one.

Enters: job events, jobs, what serves and which candles there are. Leaves: where a job stands, or why it is refused.
Does not know: Kafka, files, how training works.

The first verdict of a job holds, and so does its first end: whatever a second owner says later has no effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from models.events import SCHEMA_VERSION, JobEvent, RetrainJob
from models.spec import Spec

ENDS = frozenset({"finished", "refused", "failed"})
LEAST_JUDGED_BARS, LEAST_JUDGED_HORIZONS = 60, 28
"""The gate wants six blocks of four horizons, and the last labels need one more: 84 bars at three bars ahead."""
MOST_JUDGED_MS = 366 * 86_400_000
MOST_AHEAD_MS = 366 * 86_400_000
"""A job may wait for candles at most a year ahead of the newest one: beyond that its date is a slip."""
LEAST_TRAINED_BARS = 500
"""Bars after the warm-up without which no split leaves rows for all its parts."""


@dataclass(frozen=True)
class JobState:
    """Where a job stands."""

    taken_up: int = 0  # how often somebody began on it
    attempt: int = 1  # the present one; those before it failed
    verdict: JobEvent | None = None  # the first
    end: JobEvent | None = None  # likewise
    last: JobEvent | None = None

    def after(self, event: JobEvent) -> JobState:
        """Where it stands after one more event; none counts after the end."""
        if self.end is not None or event.v != SCHEMA_VERSION:
            return self
        state = replace(self, last=event, attempt=max(self.attempt, event.attempt))
        if event.state == "accepted":
            return replace(state, taken_up=self.taken_up + 1)
        if event.state == "verdict" and event.verdict is not None and self.verdict is None:
            return replace(state, verdict=event)
        return replace(state, end=event) if event.state in ENDS else state


def state_of(events: Iterable[JobEvent]) -> JobState:
    """Where a job stands after these events of its own, in the order of the log."""
    state = JobState()
    for event in events:
        state = state.after(event)
    return state


def needed_bars(spec: Spec) -> int:
    """What training needs of a series at the least: warm-up, a window, and some rows."""
    return spec.warm_up_bars + spec.lookback_bars + spec.horizon_bars + LEAST_TRAINED_BARS


def needed_from_ms(spec: Spec, train_until_ms: int) -> int:
    """The close (UTC ms) from which training needs candles."""
    return train_until_ms - needed_bars(spec) * spec.timeframe_ms


def least_judged_bars(horizon_bars: int) -> int:
    """How long a span must be for the gate to say anything."""
    return max(LEAST_JUDGED_BARS, LEAST_JUDGED_HORIZONS * horizon_bars)


def least_judged_ms(spec: Spec) -> int:
    """The same in milliseconds."""
    return least_judged_bars(spec.horizon_bars) * spec.timeframe_ms


def patience_ms(close_ms: int, now_ms: int, at_least_ms: int) -> int:
    """How long to wait for a candle: so long from when it is due, and from now where that is past (all UTC ms)."""
    return max(0, close_ms - now_ms) + at_least_ms


def why_refused(job: RetrainJob, spec: Spec, oldest_ms: int | None, newest_ms: int | None) -> str:
    """Why a job can never be done, in words; empty when nothing speaks against it.

    Args:
        job: the job.
        spec: of the bundle that serves its model.
        oldest_ms: close (UTC ms) of the oldest candle of the model's timeframe in the log; None: there is none.
        newest_ms: likewise of the newest.
    """
    if reason := _why_dates_refused(job, spec):
        return reason
    if oldest_ms is None or newest_ms is None:
        return "the log of candles holds none of this model's timeframe"
    if job.train_until_ms - newest_ms > MOST_AHEAD_MS:
        return f"train_until_ms {at(job.train_until_ms)} is more than a year after the newest candle, {at(newest_ms)}"
    if oldest_ms > needed_from_ms(spec, job.train_until_ms):
        return (
            f"candles that training needs are not in the log: it begins at {at(oldest_ms)}, they are needed from "
            f"{at(needed_from_ms(spec, job.train_until_ms))} on"
        )
    return ""


def _why_dates_refused(job: RetrainJob, spec: Spec) -> str:
    span_ms = job.judge_until_ms - job.train_until_ms
    if span_ms <= 0:
        return f"judge_until_ms {at(job.judge_until_ms)} is not after train_until_ms {at(job.train_until_ms)}"
    if span_ms < least_judged_ms(spec):
        bars, least = (each // spec.timeframe_ms for each in (span_ms, least_judged_ms(spec)))
        return f"{bars} bars between train_until_ms and judge_until_ms are fewer than {least}"
    if span_ms > max(MOST_JUDGED_MS, least_judged_ms(spec)):
        return f"judge_until_ms {at(job.judge_until_ms)} is more than a year after train_until_ms"
    if job.train_until_ms < spec.trained_until_ms:
        return (
            f"train_until_ms {at(job.train_until_ms)} is before the end of the champion's own training, "
            f"{at(spec.trained_until_ms)}: it has seen what would judge it"
        )
    return ""


def at(time_ms: int) -> str:
    """A time for a person: UTC, to the minute; as a plain number where no calendar reaches."""
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}Z"
    except (ValueError, OverflowError, OSError):
        return str(time_ms)
