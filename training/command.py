"""`candlewick train`: candle files in; one bundle and its report out.

Enters: options as a person or a job gives them. Leaves: files in a folder, and progress on the way.
Does not know: Kafka, other bundles. torch is imported when training begins, never before.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from models.bundle import save
from models.errors import CandlewickError
from training.progress import Progress, json_lines, progress_bar
from training.recipe import recipe_of
from training.report import FILE_NAME, check_writable, in_words, peak_memory_mb, write_report
from training.split import Fractions, split_spread, split_time

if TYPE_CHECKING:
    from models.candle_table import CandleTable
    from training.examine import Trial
    from training.train import Fitted, Recipe

CHECKPOINT = ".checkpoint"
"""In the folder of the result while training runs: killed, the same command goes on from there."""


@dataclass(frozen=True)
class TrainOptions:
    """What to train on, what to train, and where to keep it."""

    candles: Sequence[Path]
    out: Path
    exchange: str = "binance"
    timeframe: str | None = None  # none: the commonest spacing of the files
    symbols: Sequence[str] = ()  # none: all
    train_until_ms: int | None = None  # candles that close later are left out; none: all are used
    model: str | None = None  # slot; none: default-<timeframe>
    network: str = "lstm"
    hidden: int = 32
    layers: int = 1
    members: int = 2  # networks from seeds one apart, pooled in one bundle
    lookback: int = 64  # bars
    horizon: int = 3  # bars
    epochs: int = 30  # at most
    seed: int = 0
    fractions: Fractions = field(default_factory=Fractions)
    validate: str = "spread"  # in blocks all over history, and the newest train; or `newest` before the test span
    device: str = "auto"  # or cpu, cuda
    report: str = "full"  # or `brief`: no rivals, no rating of features, no page; what a job needs


def run_train(options: Mapping[str, Any], as_json: bool) -> None:
    """What the command line calls: train, show progress, say what came of it."""
    named = dict(options)
    fractions = _fractions(named.pop("split"))
    until_ms = named.pop("until_ms")
    wanted = TrainOptions(candles=named.pop("paths"), train_until_ms=until_ms, fractions=fractions, **named)
    with json_lines() if as_json else progress_bar() as progress:
        path = train(wanted, progress)
    report = json.loads((wanted.out / FILE_NAME).read_text())
    sys.stdout.write((json.dumps({"file": str(path), **report}) if as_json else in_words(report)) + "\n")


def _fractions(text: str) -> Fractions:
    try:
        return Fractions(*map(float, text.split(",")))
    except (TypeError, ValueError) as error:
        raise CandlewickError(f"--split {text!r} must be three shares that sum to 1, like 0.6,0.15,0.25") from error


@dataclass(frozen=True, eq=False)
class Trained:
    """A bundle, and what it was made of."""

    blob: bytes
    trial: Trial
    fitted: Fitted
    seconds: float  # of training


def train(options: TrainOptions, progress: Progress | None = None) -> Path:
    """Train on candle files; return the bundle's file. `report.json` lies beside it, `report.html` and a model card.

    The same options and candles give the same bundle to the last bit, on one type of CPU and one lock; also where
    training was killed and called again.

    Raises:
        CandlewickError: the options, the candles or the folder are not fit for it; the message names the mend.
    """
    from models.predictor import use_one_thread

    began = monotonic()
    use_one_thread()  # before torch is imported
    recipe = recipe_of(options)
    _check_name(options.model)
    check_writable(options.out)
    table, left_out = _candles(options)
    trained = train_table(table, recipe, options, progress, options.out / CHECKPOINT)
    with _kept_in(options.out):
        path = save(trained.blob, options.out)  # before it is examined, which takes a while
        report = report_of(trained, options) | {
            "left_out": left_out,
            "rejected_rows": len(table.rejected),
            "options": _plain(options),
            "seconds": round(monotonic() - began, 1),
            "peak_memory_mb": peak_memory_mb(),
        }
        _write(report, options)
    return path


def train_table(
    table: CandleTable,
    recipe: Recipe,
    options: TrainOptions,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Trained:
    """Train on a table, as `train` does on files; of the options, those about files are not looked at.

    Raises:
        CandlewickError: the candles are too few, or training failed.
    """
    from training.assemble import assemble
    from training.dataset import build_dataset
    from training.examine import Trial
    from training.train import fit_network

    dataset = build_dataset(table, options.lookback, options.horizon)
    cut = split_spread if options.validate == "spread" else split_time
    split = cut(dataset.labelled.sum(axis=0), options.fractions, options.horizon)
    began = monotonic()
    fitted = fit_network(dataset, split, recipe, progress, checkpoint=checkpoint, device=options.device)
    seconds = monotonic() - began
    blob = assemble(dataset, split, recipe, fitted, options.model or f"default-{table.timeframe}")
    return Trained(blob, Trial(table, dataset, split, recipe), fitted, seconds)


def report_of(trained: Trained, options: TrainOptions) -> dict[str, Any]:
    """Examine what was trained: the report, but for files and options."""
    from training.examine import examine

    report = examine(trained.blob, trained.trial, brief=options.report == "brief")
    fitted = trained.fitted
    report["training"] = {
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "validation_score": fitted.validation_score,
        "history": [epoch._asdict() for epoch in fitted.history],
    }
    report["stages"] = {"training": round(trained.seconds, 1), **report["stages"]}
    return report


def _check_name(model: str | None) -> None:
    import msgspec

    from models.spec import Name

    try:
        msgspec.convert(model, Name | None)
    except msgspec.ValidationError as error:
        raise CandlewickError(f"--model {model!r} is no name of a model: {error}") from error


def _candles(options: TrainOptions) -> tuple[CandleTable, dict[str, str]]:
    """The candles to learn from, and the symbols left out, with the reason."""
    from models.candle_files import read_candles
    from training.dataset import long_enough

    table = read_candles(options.candles, exchange=options.exchange, timeframe=options.timeframe)
    table = table.chosen(options.symbols)
    if options.train_until_ms is not None:
        table = table.until(options.train_until_ms)
    return long_enough(table, options.lookback, options.horizon)


@contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CandlewickError(
            f"{folder}: the result cannot be kept ({error.strerror}); free some space or choose another folder. "
            "Whatever was there is untouched"
        ) from error


def _write(report: dict[str, Any], options: TrainOptions) -> None:
    write_report(options.out, report)
    if options.report == "full":
        from training.model_card import write_card
        from training.report_html import write_html

        write_html(options.out, report)
        write_card(options.out, report)
        return
    for name in ("report.html", "model-card.md"):  # of a bundle trained here before: they would pass for this one's
        (options.out / name).unlink(missing_ok=True)


def _plain(options: TrainOptions) -> dict[str, Any]:
    """Options as JSON takes them."""
    plain = asdict(options) | {"fractions": list(options.fractions), "symbols": list(options.symbols)}
    return plain | {"candles": [str(path) for path in options.candles], "out": str(options.out)}
