"""One walk forward from candles to tables: train a bundle a window, let the gate judge, score what would have served.

Enters: a table of candles, a plan, a folder to keep every finished part in. Leaves: plain values, ready for JSON.
Does not know: options, screens.

Timing, told once more because everything hangs on it. Slot c is the cut of a window. Its bundle is trained on an array
that ends with bar c - 1. Without the gate it serves from slot c. With it, the gate sees labels from bar c + 1 to bar
c + J - 1 only, on rows from slot c on (J are the judged bars), and the challenger serves from slot c + J.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.bundle import Bundle, unpack
from models.candle_table import CandleTable
from models.distribution import gaussian_crps, student_t_crps
from models.errors import CandlewickError
from training.assemble import assemble
from training.dataset import Dataset, build_dataset
from training.evaluate import forecast_rows
from training.folds import Schedule, Window, walk_forward
from training.progress import Step
from training.split import Split, held_to_least, validate_newest, validate_spread
from training.train import Recipe, fit_network
from training.walk_forward import Grid, Scores, Swap, gather, needed, tables, trials
from training.walk_forward_files import (
    Kept,
    fingerprint,
    keep,
    keep_dataset,
    kept,
    known_at,
    load_dataset,
    table_digest,
)
from training.walk_forward_gate import Judging, hold_trials
from training.walk_forward_pool import end_with, run_all

Told = Callable[[str, float], None]
"""What was done just now, and the share of all work that is done, 0 to 1."""

TRAINED = 0.95
"""Share of the work that is done when all windows are trained, about."""


@dataclass(frozen=True)
class Plan:
    """Everything beside the candles that the result follows from."""

    schedule: Schedule
    recipe: Recipe
    model: str
    lookback_bars: int
    validate: Literal["newest", "spread"]
    validation_share: float  # of the rows that a window may learn from
    judge_bars: int | None = None  # None: no gate


@dataclass(frozen=True)
class Training:
    """A task: the bundle of one window, and its scores on the step after it."""

    number: int
    dataset: Path
    window: Window
    split: Split
    recipe: Recipe
    model: str
    out: Path
    parent: int  # process that waits for it


def walk(table: CandleTable, plan: Plan, folder: Path, jobs: int, told: Told) -> dict[str, Any]:
    """Do whatever of a plan is not yet done in this folder, and return the tables.

    The same candles and plan give the same tables, whether in one go or in many.

    Raises:
        CandlewickError: the plan does not fit the candles, a training failed, or workers died again and again.
    """
    told("reading features", 0.0)
    digest = fingerprint(table_digest(table), plan.lookback_bars, plan.schedule.horizon_bars)
    shared = folder / f"dataset-{digest}"
    if not shared.exists():
        keep_dataset(build_dataset(table, plan.lookback_bars, plan.schedule.horizon_bars), shared)
    dataset = load_dataset(shared)
    windows = walk_forward(dataset.labelled.sum(axis=0), plan.schedule)
    if plan.judge_bars is not None:
        trials(windows, plan.judge_bars, dataset.horizon_bars)  # too few are told before anything is trained
    trainings = [_training(number, window, dataset, plan, shared) for number, window in enumerate(windows)]
    _train(trainings, jobs, told)
    bundles = [_bundle(task.out) for task in trainings]

    slots = [dataset.rows(*window.test)[1] for window in windows]
    swaps: list[Swap] | None = None
    verdicts: list[dict[str, Any]] = []
    if plan.judge_bars is not None:
        judging = Judging(table, dataset, plan.judge_bars, folder)
        swaps, verdicts = hold_trials(
            windows, bundles, judging, lambda trial: told(f"bundle of window {trial.challenger + 1} judged", TRAINED)
        )
    scores = {(n, n): _scores(task.out) for n, task in enumerate(trainings)}
    scores |= _score_others(needed(slots, swaps or ()), trainings, dataset, told)
    told("all windows scored", 1.0)
    walked = gather(windows, slots, scores, swaps)
    grid = Grid(dataset.timeframe_ms, dataset.horizon_bars, plan.schedule.step_bars, dataset.close_time_ms)
    result = tables(walked, windows, grid)
    for row, bundle in zip(result["windows"], bundles, strict=True):
        row["bundle"] = bundle.sha256
    return {**result, "gate": verdicts}


def train_window(task: Training) -> None:
    """Train on the bars before the cut, score on the rows after it, keep both."""
    dataset = load_dataset(task.dataset)
    known = known_at(dataset, task.window.cut)
    fitted = fit_network(known, task.split, task.recipe, _while_awaited(task.parent), device="cpu")
    blob = assemble(known, task.split, task.recipe, fitted, task.model)
    keep(task.out, blob, score(unpack(blob), dataset, task.window))


def score(bundle: Bundle, dataset: Dataset, window: Window) -> Scores:
    """CRPS on the rows that a window tests, through the code that serves."""
    rows = dataset.rows(*window.test)
    forecast = forecast_rows(bundle, dataset, rows)
    y_range = dataset.y_range[rows]
    return Scores(
        range=gaussian_crps(y_range, forecast.range_location, forecast.range_scale),
        return_=student_t_crps(dataset.y_return[rows], forecast.location, forecast.scale, bundle.spec.distribution.dof),
        har=gaussian_crps(y_range, forecast.har_location, forecast.har_scale),
    )


def _training(number: int, window: Window, dataset: Dataset, plan: Plan, shared: Path) -> Training:
    rows, horizon = dataset.labelled.sum(axis=0), plan.schedule.horizon_bars
    if plan.validate == "spread":
        parts = validate_spread(window.learned, plan.validation_share, horizon)
    else:
        parts = validate_newest(window.learned, plan.validation_share, rows, horizon)
    split = held_to_least(Split(*parts, window.test), rows, horizon)
    name = fingerprint(shared.name, window, split, plan.recipe, plan.model)
    out = shared.parent / f"window-{number:03}-{name}.npz"
    return Training(number, shared, window, split, plan.recipe, plan.model, out, os.getpid())


def _train(tasks: Sequence[Training], jobs: int, told: Told) -> None:
    """Those that are not yet done; the longest first, so that no worker is left with one at the end."""
    left = [task for task in tasks if kept(task.out) is None]
    whole = sum(task.window.learned.slots for task in tasks)
    done = whole - sum(task.window.learned.slots for task in left)
    told(f"{len(tasks) - len(left)} of {len(tasks)} windows were done before", TRAINED * done / whole)

    def finished(task: Training) -> None:
        nonlocal done
        done += task.window.learned.slots
        told(f"window {task.number + 1} of {len(tasks)} trained", TRAINED * done / whole)

    run_all(train_window, left[::-1], jobs, finished)


def _score_others(
    pairs: set[tuple[int, int]], trainings: Sequence[Training], dataset: Dataset, told: Told
) -> dict[tuple[int, int], Scores]:
    """Scores of bundles on steps of other windows than their own."""
    scores = {}
    for bundle, number in sorted(pairs):
        own, other = trainings[bundle].out, trainings[number].window
        path = own.parent / f"scores-{fingerprint(own.name, other)}.npz"
        if kept(path) is None:
            keep(path, b"", score(_bundle(own), dataset, other))
            told(f"bundle of window {bundle + 1} scored on step {number + 1}", TRAINED)
        scores[bundle, number] = _scores(path)
    return scores


def _bundle(path: Path) -> Bundle:
    return unpack(_found(path).blob)


def _scores(path: Path) -> Scores:
    return _found(path).scores


def _found(path: Path) -> Kept:
    found = kept(path)
    if found is None:
        raise CandlewickError(f"{path} is gone or spoiled; run the same command again, which makes it anew")
    return found


def _while_awaited(parent: int) -> Callable[[Step], None]:
    def check(_step: Step) -> None:
        end_with(parent)

    return check
