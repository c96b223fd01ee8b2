"""`candlewick walk-forward`: candle files in; skill by window and by age out, with and without retraining.

Enters: options as a person gives them. Leaves: `walk-forward.json`, plots where they can be drawn, a table in words.
Does not know: how windows are cut, trained or judged. torch is imported when the work begins, never before.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from models.errors import CandlewickError
from training.walk_forward_words import FILE_NAME, in_words, pictures

if TYPE_CHECKING:
    from models.candle_table import CandleTable
    from training.train import Recipe
    from training.walk_forward_run import Plan

MOST_JOBS = 512
JUDGED_MS, MOST_JUDGED_BARS = 7 * 86_400_000, 2_880
"""What the gate judges on by default: seven days of 5m candles, two of 1m."""


@dataclass(frozen=True)
class WalkOptions:
    """What to walk through, and how."""

    candles: Sequence[Path]
    out: Path
    train_bars: int  # known to the first window
    step_bars: int
    scheme: Literal["expanding", "rolling"] = "expanding"
    gate: bool = False
    judge_bars: int | None = None  # None: seven days, but no more than 2,880 bars
    embargo: int = 0  # bars
    exchange: str = "binance"
    timeframe: str | None = None
    symbols: Sequence[str] = ()
    network: str = "lstm"
    hidden: int = 32
    layers: int = 1
    members: int = 2  # networks from seeds one apart, pooled in one bundle
    lookback: int = 64  # bars
    horizon: int = 3  # bars
    epochs: int = 30  # at most
    seed: int = 0
    validate: Literal["newest", "spread"] = "spread"
    validation_share: float = 0.15
    jobs: int | None = None  # worker processes; None: one a core


def run_walk_forward(options: Mapping[str, Any], as_json: bool) -> None:
    """What the command line calls: walk, show progress, say what came of it."""
    named = dict(options)
    wanted = WalkOptions(candles=named.pop("paths"), **named)
    with _progress() as told:
        result = walk_files(wanted, told)
    sys.stdout.write((json.dumps(result) if as_json else in_words(result)) + "\n")


def walk_files(options: WalkOptions, told: Callable[[str, float], None]) -> dict[str, Any]:
    """Walk through candle files; return what `walk-forward.json` says.

    Run again after it was killed, it goes on where it was; finished parts lie in the folder `parts`.

    Raises:
        CandlewickError: the options, the candles or the folder are not fit for it; the message names the mend.
    """
    from models.predictor import use_one_thread
    from training.recipe import recipe_of
    from training.report import check_writable, peak_memory_mb

    began = monotonic()
    use_one_thread()  # before torch is imported
    _check(options)
    recipe = recipe_of(options)
    check_writable(options.out)
    told("reading candles", 0.0)
    table, left_out = _candles(options)

    from training.walk_forward_files import keep_text, workshop
    from training.walk_forward_run import walk

    plan = _plan(options, table, recipe)
    with workshop(options.out / "parts") as folder:
        found = walk(table, plan, folder, options.jobs or os.cpu_count() or 1, told)
    result = {
        "timeframe": table.timeframe,
        "symbols": list(table.symbols),
        "left_out": left_out,
        **found,
        "judge_bars": plan.judge_bars,
        "options": _plain(options),
        "seconds": round(monotonic() - began, 1),
        "peak_memory_mb": peak_memory_mb(),
    }
    keep_text(options.out / FILE_NAME, json.dumps(result, indent=1, allow_nan=False) + "\n")
    for name, picture in pictures(result).items():
        keep_text(options.out / f"walk-forward-{name}.svg", picture)
    return result


def _check(options: WalkOptions) -> None:
    if options.jobs is not None and not 1 <= options.jobs <= MOST_JOBS:
        raise CandlewickError(f"--jobs {options.jobs} must lie between 1 and {MOST_JOBS}")
    if not 0 < options.validation_share < 0.5:
        raise CandlewickError(f"--validation-share {options.validation_share} must lie between 0 and 0.5")


def _candles(options: WalkOptions) -> tuple[CandleTable, dict[str, str]]:
    """The candles, and the symbols left out, with the reason."""
    from models.candle_files import read_candles
    from training.dataset import long_enough

    table = read_candles(options.candles, exchange=options.exchange, timeframe=options.timeframe)
    return long_enough(table.chosen(options.symbols), options.lookback, options.horizon)


def _plan(options: WalkOptions, table: CandleTable, recipe: Recipe) -> Plan:
    from training.folds import Schedule
    from training.walk_forward_run import Plan

    judged = options.judge_bars or min(max(JUDGED_MS // table.timeframe_ms, 1), MOST_JUDGED_BARS)
    return Plan(
        Schedule(options.train_bars, options.step_bars, options.horizon, options.scheme, options.embargo),
        recipe,
        f"default-{table.timeframe}",
        options.lookback,
        options.validate,
        options.validation_share,
        judged if options.gate else None,
    )


def _plain(options: WalkOptions) -> dict[str, Any]:
    """Options as JSON takes them; the number of workers changes nothing."""
    plain = asdict(options) | {"symbols": list(options.symbols), "out": str(options.out)}
    del plain["jobs"]
    return plain | {"candles": [str(path) for path in options.candles]}


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr with the time that is left; a line a step where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console, began, share_before = Console(stderr=True), monotonic(), None

    def left(share: float) -> str:
        nonlocal began, share_before
        if share_before is None or share <= share_before:  # what was done before this run tells nothing of its pace
            began, share_before = monotonic(), share
            return ""
        return f", {(monotonic() - began) * (1 - share) / (share - share_before) / 60:.0f} min left"

    if not console.is_terminal:
        yield lambda text, share: print(f"{100 * share:3.0f} % {text}{left(share)}", file=sys.stderr, flush=True)
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("reading candles", total=1.0)
        yield lambda text, share: bar.update(task, completed=share, description=text + left(share))
