"""What detectors and policy would have said of a bundle, on candles that went through the code that serves.

Enters: a bundle and a table of candles. Leaves: alarms, and the jobs that they would have led to. Does not know: Kafka,
which market it looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.candle_table import CandleTable
from models.distribution import gaussian_cdf, gaussian_crps, student_t_cdf, student_t_crps
from models.drift import Alarm, Detectors
from models.events import Scores
from models.policy import Job, Policy, Situation, decide
from models.scoring import COVERAGE
from training.dataset import Dataset, Rows, build_dataset
from training.evaluate import forecast_rows

ALARMS_ONLY = Policy(retrain_after_ms=0)
"""The schedule would ask without a cause."""


@dataclass(frozen=True)
class Watched:
    """One watch over a span."""

    closes: int
    until_ms: int  # the last target
    alarms: tuple[Alarm, ...]  # of all levels, in order
    jobs: tuple[int, ...]  # when alarms led to a job, the cool-down observed; UTC ms

    def drifts(self) -> list[int]:
        """When an alarm of level drift came; UTC ms."""
        return [alarm.target_time_ms for alarm in self.alarms if alarm.level == "drift"]


def pooled_scores(bundle: Bundle, table: CandleTable, from_ms: int) -> list[Scores]:
    """Sums over all series for every target whose signal closed after a time (UTC ms), as the monitor pools them."""
    spec = bundle.spec
    dataset = build_dataset(table, spec.lookback_bars, spec.horizon_bars)
    first = int(np.searchsorted(dataset.close_time_ms, from_ms, side="right"))
    rows = dataset.rows(first, len(dataset.close_time_ms))
    slots, counts = np.unique(rows[1], return_counts=True)
    starts = np.searchsorted(rows[1], slots)
    sums = {name: np.add.reduceat(column, starts) for name, column in _columns(bundle, dataset, rows).items()}
    targets = dataset.close_time_ms[slots] + spec.horizon_bars * dataset.timeframe_ms
    return [
        Scores(
            model=spec.model, bundle=bundle.sha256, epoch=0, timeframe=table.timeframe, horizon_bars=spec.horizon_bars,
            target_time_ms=target, partition=None, outcomes=count, **values,  # type: ignore[arg-type]  # counts are whole
        )
        for target, count, values in zip(targets.tolist(), counts.tolist(), _records(sums), strict=True)
    ]  # fmt: skip


def watch(pooled: list[Scores], trained_until_ms: int, bar_ms: int, policy: Policy = ALARMS_ONLY) -> Watched:
    """Fold pooled closes; every challenger is refused, so the same bundle serves to the end."""
    detectors = Detectors(pooled[0].horizon_bars)
    alarms: list[Alarm] = []
    jobs: list[Job] = []
    for scores in pooled:
        now_ms = scores.target_time_ms
        found = detectors.update(scores)
        alarms += found
        jobs = [job._replace(state="refused") if now_ms >= job.job.judge_until_ms else job for job in jobs]
        for alarm in (*found, None):
            standing, known = detectors.standing, tuple(jobs)
            horizon = scores.horizon_bars
            situation = Situation(
                scores.model, bar_ms, horizon, scores.bundle, trained_until_ms, now_ms, standing, known
            )
            job = decide(alarm, situation, policy).job
            if job is not None:
                jobs.append(Job(job, "open"))
    return Watched(len(pooled), pooled[-1].target_time_ms, tuple(alarms), tuple(job.job.asked_ms for job in jobs))


def _columns(bundle: Bundle, dataset: Dataset, rows: Rows) -> dict[str, NDArray[np.generic]]:
    """What `models.scoring` says of each outcome, from the forecasts of the serving code."""
    forecast, spec = forecast_rows(bundle, dataset, rows), bundle.spec
    dof, baselines = spec.distribution.dof, spec.baselines
    y_return, y_range = dataset.y_return[rows], dataset.y_range[rows]
    return_pit = student_t_cdf(y_return, forecast.location, forecast.scale, dof)
    range_pit = gaussian_cdf(y_range, forecast.range_location, forecast.range_scale)
    return {
        "return_crps": student_t_crps(y_return, forecast.location, forecast.scale, dof),
        "return_crps_ewma": student_t_crps(y_return, 0.0, forecast.ewma_scale, baselines.return_dof),
        "range_crps": gaussian_crps(y_range, forecast.range_location, forecast.range_scale),
        "range_crps_har": gaussian_crps(y_range, forecast.har_location, forecast.har_scale),
        "return_pit": return_pit,
        "range_pit": range_pit,
        "return_covered": (np.abs(return_pit - 0.5) <= COVERAGE / 2).astype(np.int64),
        "range_covered": (np.abs(range_pit - 0.5) <= COVERAGE / 2).astype(np.int64),
    }


def _records(sums: dict[str, NDArray[np.generic]]) -> Iterator[dict[str, float]]:
    """Columns as one dictionary a close, in Python's own numbers."""
    names = tuple(sums)
    for values in zip(*(sums[name].tolist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))
