"""What a job tells `candlewick train`: the champion's shape, and which share of the rows is for what. And how many of
them there may be.

Enters: a job, the champion's spec, what was exported. Leaves: words of a command line. Does not know: processes, Kafka.
"""

from __future__ import annotations

from typing import Any

from models.events import RetrainJob
from models.jobs import needed_bars
from models.series import timeframe_name
from models.spec import Spec
from streaming.settings import TrainSettings

TESTED_BARS, MOST_TESTED = 30, 0.15
"""The newest bars are tested on, and do not train: as few as there may be, for the gate judges on candles that came
later. A share of a long history would be days, and take in all of the market that the job is for."""
LEAST_VALIDATED_BARS, MOST_VALIDATED = 200, 0.4
"""Validation is spread over history in blocks of an hour of minutes or more, of which one must fit."""

BASE_MB, HIDDEN_MB, CANDLE_BYTES = 1_300, 2, 300
"""Memory of a training process whatever it reads; for each unit of its hidden layers; and for each candle, at the peak.
Source: `VmData` every 2 ms, hidden 32: 2.0 GB for 20 series of 131,400 bars, 3.4 GB for 60; of hidden 128, .13 GB more.
"""


def history_bars(spec: Spec, series: int, settings: TrainSettings) -> int:
    """How many bars of each series to train on: as many as are wanted, or as a training process has memory for."""
    spare_mb = settings.memory_mb - BASE_MB - HIDDEN_MB * spec.network.hidden
    fit = (spare_mb << 20) // (CANDLE_BYTES * max(1, series))
    return min(settings.history_bars, max(fit, needed_bars(spec)))


def train_options(job: RetrainJob, spec: Spec, exported: dict[str, Any], settings: TrainSettings) -> list[str]:
    """The champion's shape, this job's span and seed; `exported` is what `candlewick export` said of the candles."""
    options = {
        "model": job.model,
        "network": spec.network.kind,
        "hidden": spec.network.hidden,
        "layers": spec.network.layers,
        "members": spec.network.members or 1,
        "lookback": spec.lookback_bars,
        "horizon": spec.horizon_bars,
        "timeframe": timeframe_name(spec.timeframe_ms),
        "until": job.train_until_ms,
        "epochs": settings.epochs,
        "seed": job.seed,
        "split": _split(exported, spec, settings),
        "validate": "spread",  # what came last is what the job is for: it trains
        "device": "auto",
        "report": "brief",  # the gate judges; rivals would take as long as training itself
    }
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _split(exported: dict[str, Any], spec: Spec, settings: TrainSettings) -> str:
    """Shares to train, validate and test on: as few to the others as they can do with."""
    series = max(1, len(exported["series"]))
    rows = exported["candles"] - series * (spec.warm_up_bars + spec.lookback_bars + spec.horizon_bars)
    test = min(TESTED_BARS * series / max(1, rows), MOST_TESTED)
    spread = min(LEAST_VALIDATED_BARS * series / max(1, rows), MOST_VALIDATED)
    validation = max(settings.validation_share, spread)
    return f"{1 - validation - test},{validation},{test}"
