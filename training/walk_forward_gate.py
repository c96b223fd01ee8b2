"""Challengers of a walk forward before the gate, one after the other, judged on bars that no contestant has seen.

Enters: windows and their bundles, candles. Leaves: when which bundle takes over, and every verdict.
Does not know: the rule of the gate, which is `training.gate`'s own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from models.bundle import Bundle
from models.candle_table import CandleTable
from models.events import Verdict
from models.features import WARM_UP_BARS
from training.dataset import Dataset
from training.evidence import HeldOut
from training.folds import Window
from training.gate import judge
from training.split import MIN_ROWS
from training.walk_forward import Swap, Trial, trials
from training.walk_forward_files import fingerprint, keep_text


@dataclass(frozen=True, eq=False)
class Judging:
    """What to judge on, and where to keep verdicts."""

    table: CandleTable
    dataset: Dataset  # of that table, slot by slot
    judge_bars: int
    folder: Path


def hold_trials(
    windows: Sequence[Window], bundles: Sequence[Bundle], judging: Judging, judged: Callable[[Trial], None]
) -> tuple[list[Swap], list[dict[str, Any]]]:
    """Judge each challenger against whoever is champion when its judged bars end; `judged` is told of each.

    The first window's bundle is the first champion. Verdicts come as plain values, with the numbers of both windows
    and, where it promotes, the first close that the challenger serves.
    """
    dataset, champion = judging.dataset, 0
    swaps: list[Swap] = []
    verdicts: list[dict[str, Any]] = []
    for trial in trials(windows, judging.judge_bars, dataset.horizon_bars):
        if len(dataset.rows(trial.first, trial.stop - dataset.horizon_bars)[0]) < MIN_ROWS:
            continue  # an outage: there is nothing to judge on, the champion goes on
        verdict = _verdict(bundles[trial.challenger], bundles[champion], _held_out(judging, trial), judging.folder)
        verdicts.append(
            {
                "challenger_window": trial.challenger,
                "champion_window": champion,
                "serves_from_ms": int(dataset.close_time_ms[trial.stop]) if verdict.promote else None,
                **msgspec.json.decode(msgspec.json.encode(verdict)),
            }
        )
        if verdict.promote:
            champion = trial.challenger
            swaps.append(Swap(trial.stop, champion))
        judged(trial)
    return swaps, verdicts


def _held_out(judging: Judging, trial: Trial) -> HeldOut:
    """The judged bars, and as many before them as warm the features up."""
    close, warm_up = judging.dataset.close_time_ms, WARM_UP_BARS + judging.dataset.lookback_bars
    candles = judging.table.since(int(judging.table.open_time_ms[max(trial.first - warm_up, 0)]))
    return HeldOut(candles, int(close[trial.first - 1]), int(close[trial.stop - 1]))


def _verdict(challenger: Bundle, champion: Bundle, held_out: HeldOut, folder: Path) -> Verdict:
    """The verdict that was kept, or a new one."""
    name = fingerprint(challenger.sha256, champion.sha256, held_out.from_ms, held_out.until_ms)
    path = folder / f"verdict-{name}.json"
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Verdict)
    verdict = judge(challenger, champion, [challenger.spec.baselines, champion.spec.baselines], held_out)
    keep_text(path, msgspec.json.encode(verdict).decode())
    return verdict
