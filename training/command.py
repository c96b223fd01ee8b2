"""`candlewick train`: candle files in; one bundle and its report out.

Enters: options as a person or a job gives them. Leaves: files in a folder, and progress on the way.
Does not know: Kafka, other bundles. torch is imported when training begins, never before.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from models.errors import CandlewickError
from training.progress import Progress, json_lines, progress_bar
from training.report import FILE_NAME, UNPROVEN, check_writable, in_words, peak_memory_mb, write_report
from training.split import Fractions, split_spread, split_time

if TYPE_CHECKING:
    from models.candle_table import CandleTable
    from training.dataset import Dataset
    from training.split import Split
    from training.train import Fitted, Recipe


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
    lookback: int = 64  # bars
    horizon: int = 3  # bars
    epochs: int = 30  # at most
    seed: int = 0
    fractions: Fractions = field(default_factory=Fractions)
    validate: str = "newest"  # rows before the test span; or `spread` in blocks over history, and the newest train


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
        raise CandlewickError(f"--split {text!r} must be three shares that sum to 1, like 0.7,0.15,0.15") from error


def train(options: TrainOptions, progress: Progress | None = None) -> Path:
    """Train on candle files; return the bundle's file. `report.json` lies beside it.

    The same options and candles give the same bundle to the last bit, on one type of CPU and one lock.

    Raises:
        CandlewickError: the options, the candles or the folder are not fit for it; the message names the mend.
    """
    from models.predictor import use_one_thread

    began = monotonic()
    use_one_thread()  # before torch is imported
    recipe = _recipe(options)
    check_writable(options.out)
    table, left_out = _candles(options)

    from training.dataset import build_dataset

    dataset = build_dataset(table, options.lookback, options.horizon)
    cut = split_spread if options.validate == "spread" else split_time
    split = cut(dataset.labelled.sum(axis=0), options.fractions, options.horizon)
    model = options.model or f"default-{table.timeframe}"
    blob, fitted = _fit(dataset, split, recipe, model, progress)
    report = {
        **_judge(blob, dataset, split),
        "training": {
            "epochs": fitted.epochs,
            "best_epoch": fitted.best_epoch,
            "validation_score": fitted.validation_score,
        },
        "left_out": left_out,
        "rejected_rows": len(table.rejected),
        "options": _plain(options),
        "seconds": round(monotonic() - began, 1),
        "peak_memory_mb": peak_memory_mb(),
    }
    return _keep(blob, report, options.out)


def _recipe(options: TrainOptions) -> Recipe:
    """Hold the options to the bounds of a bundle before anything costly happens."""
    import msgspec

    from models.spec import MAX_LOOKBACK_BARS, Name, Network

    bounds = {"lookback": (1, MAX_LOOKBACK_BARS), "horizon": (1, 1_440), "epochs": (1, 10_000), "seed": (0, 2**53)}
    for name, (least, most) in bounds.items():
        if not least <= getattr(options, name) <= most:
            raise CandlewickError(f"--{name} {getattr(options, name)} must lie between {least} and {most:,}")
    try:
        if options.model is not None:
            msgspec.convert(options.model, Name)
        shape = {"kind": options.network, "hidden": options.hidden, "layers": options.layers}
        network = msgspec.convert(shape, Network)
    except msgspec.ValidationError as error:
        raise CandlewickError(f"--model, --network, --hidden or --layers is wrong: {error}") from error
    from training.train import Recipe

    return Recipe(network, options.epochs, options.seed)


def _candles(options: TrainOptions) -> tuple[CandleTable, dict[str, str]]:
    """The candles to learn from, and the symbols left out, with the reason."""
    from models.candle_files import read_candles
    from models.series import canonical_symbol
    from training.dataset import long_enough

    table = read_candles(options.candles, exchange=options.exchange, timeframe=options.timeframe)
    try:
        wanted = [canonical_symbol(symbol) for symbol in options.symbols]
    except ValueError as error:
        raise CandlewickError(str(error)) from error
    if wanted:
        table = table.only(wanted)
    if options.train_until_ms is not None:
        table = table.until(options.train_until_ms)
    return long_enough(table, options.lookback, options.horizon)


def _fit(dataset: Dataset, split: Split, recipe: Recipe, model: str, progress: Progress | None) -> tuple[bytes, Fitted]:
    from training.assemble import assemble
    from training.train import fit_network

    fitted = fit_network(dataset, split, recipe, progress)
    return assemble(dataset, split, recipe, fitted, model), fitted


def _judge(blob: bytes, dataset: Dataset, split: Split) -> dict[str, Any]:
    """What the bundle is, and its figures on the test span."""
    from models.bundle import unpack
    from training.evaluate import evaluate

    bundle = unpack(blob)
    close_time_ms = dataset.close_time_ms.tolist()
    return {
        "bundle": bundle.sha256,
        "model": bundle.spec.model,
        **UNPROVEN,
        **evaluate(bundle, dataset, split.test),
        "rows": {name: len(dataset.rows(*span)[0]) for name, span in split._asdict().items()},
        "closes_ms": {  # of the first and last row; labels reach one horizon further
            name: [close_time_ms[span.first], close_time_ms[span.stop - 1]] for name, span in split._asdict().items()
        },
        "trained_until_ms": bundle.spec.trained_until_ms,
        "symbols": list(bundle.spec.symbols),
    }


def _keep(blob: bytes, report: dict[str, Any], folder: Path) -> Path:
    from models.bundle import save

    try:
        path = save(blob, folder)
        write_report(folder, report)
    except OSError as error:
        raise CandlewickError(
            f"{folder}: the result cannot be kept ({error.strerror}); free some space or choose another folder. "
            "Whatever was there is untouched"
        ) from error
    return path


def _plain(options: TrainOptions) -> dict[str, Any]:
    """Options as JSON takes them."""
    plain = asdict(options) | {"fractions": list(options.fractions), "symbols": list(options.symbols)}
    return plain | {"candles": [str(path) for path in options.candles], "out": str(options.out)}
