"""Everything that is found out about a bundle that was just trained, and what of it counts as proven.

Enters: the bytes of a bundle, and what it was trained on. Leaves: the sections of a report. Does not know: files.
What costs as much as training itself (rivals, the rating of features) is left out of a brief examination, the sentinel
never is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from models.bundle import Bundle, unpack
from models.candle_report import candle_report
from models.candle_table import CandleTable
from models.errors import CandlewickError
from training.alarms import prove, too_good
from training.bootstrap import Figure
from training.dataset import Dataset
from training.evaluate import PARTS, POOLED, evaluate
from training.importance import permutation_importance
from training.rivals import rivals, rivals_left_out
from training.sentinel import Sentinel, run_sentinel
from training.split import Split
from training.train import Recipe


@dataclass(frozen=True, eq=False)
class Trial:
    """What a bundle was trained on, and how."""

    table: CandleTable
    dataset: Dataset
    split: Split
    recipe: Recipe


def examine(blob: bytes, trial: Trial, *, brief: bool = False) -> dict[str, Any]:
    """Score a bundle on the test span, look for leaks, and say what it has proven.

    A bundle that proves nothing is no error: the report says why.
    """
    bundle, stages = unpack(blob), Stages()
    with stages.timed("sentinel"):
        sentinel = _sentinel(trial)
    found = _brief_figures(bundle, trial) if brief else _full_figures(bundle, trial, stages)
    found["sentinel"] = sentinel.plain()
    found["alarms"] = too_good(found)
    with stages.timed("gate"):
        proven, reason, verdict = prove(bundle, trial.table, trial.dataset, trial.split, sentinel, found["alarms"])
    return {
        "bundle": bundle.sha256,
        "model": bundle.spec.model,
        "timeframe": trial.table.timeframe,
        "horizon_bars": trial.dataset.horizon_bars,
        "proven": proven,
        "proven_reason": reason,
        **found,
        "verdict": msgspec.to_builtins(verdict),
        **_spans(bundle, trial.dataset, trial.split),
        "data": candle_report(trial.table),
        "stages": stages.seconds,
    }


class Stages:
    """Where the time went, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time a stage."""
        began = monotonic()
        yield
        self.seconds[name] = round(monotonic() - began, 1)


def _sentinel(trial: Trial) -> Sentinel:
    """A sentinel that cannot do its work has found nothing, and so nothing is proven."""
    try:
        return run_sentinel(trial.table, trial.dataset, trial.split, trial.recipe)
    except CandlewickError as error:
        none = Figure(value=None, low=None, high=None)
        return Sentinel(none, none, none, none, {}, False, {}, 0.0, f"It could not be run: {error}.")


def _brief_figures(bundle: Bundle, trial: Trial) -> dict[str, Any]:
    return evaluate(bundle, trial.dataset, trial.split.test, parts=POOLED)


def _full_figures(bundle: Bundle, trial: Trial, stages: Stages) -> dict[str, Any]:
    dataset, test = trial.dataset, trial.split.test
    with stages.timed("rivals"):
        others = rivals(dataset, trial.split, dataset.rows(*test), trial.recipe.seed)
    with stages.timed("evaluation"):
        found = evaluate(bundle, dataset, test, parts=PARTS, rivals=others)
    with stages.timed("importance"):
        found["importance"] = permutation_importance(bundle, dataset, test)
    return found | {"rivals_left_out": rivals_left_out()}


def _spans(bundle: Bundle, dataset: Dataset, split: Split) -> dict[str, Any]:
    close_time_ms = dataset.close_time_ms.tolist()
    return {
        "rows": {name: len(dataset.rows(*span)[0]) for name, span in split._asdict().items()},
        "closes_ms": {  # of the first and last row; labels reach one horizon further
            name: [close_time_ms[span.first], close_time_ms[span.stop - 1]] for name, span in split._asdict().items()
        },
        "trained_until_ms": bundle.spec.trained_until_ms,
        "symbols": list(bundle.spec.symbols),
    }
