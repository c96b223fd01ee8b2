"""`candlewick evaluate`: a bundle and any candles in; the report of that bundle on them out.

Enters: options as a person gives them. Leaves: a report, printed and, where asked for, kept. Does not know: Kafka, how
the bundle was trained. torch is imported when the scoring begins, never before.

Closes up to the end of the bundle's training may have trained it. Where there are later ones, only these count, unless
all are asked for; then both kinds are shown apart as well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from models.bundle_file import read_bundle
from models.errors import CandlewickError, InvalidBundle
from training.report import UNPROVEN, check_writable, peak_memory_mb, write_report

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.candle_table import CandleTable
    from training.dataset import Dataset
    from training.split import Span


@dataclass(frozen=True)
class EvaluateOptions:
    """Which bundle to score, and on what."""

    bundle: Path
    candles: Sequence[Path]
    symbols: Sequence[str] = ()  # none: all
    exchange: str = "binance"
    timeframe: str | None = None  # none: the commonest spacing of the files
    everything: bool = False  # score closes that may have trained the bundle as well
    out: Path | None = None  # folder for the report; none: it is only printed


def run_evaluate(options: Mapping[str, Any], as_json: bool) -> None:
    """What the command line calls: score, and say it in words or as one JSON object."""
    named = dict(options)
    wanted = EvaluateOptions(candles=named.pop("paths"), **named)
    report = evaluate_file(wanted)
    if wanted.out is not None:
        _keep(report, wanted.out)
    sys.stdout.write((json.dumps(report, allow_nan=False) if as_json else in_words(report)) + "\n")


def evaluate_file(options: EvaluateOptions) -> dict[str, Any]:
    """Score a bundle's file on candle files; the report of training, but for what only training knows.

    Raises:
        CandlewickError: the bundle, the candles or the folder are not fit for it; the message names the mend.
    """
    from models.predictor import use_one_thread

    began = monotonic()
    use_one_thread()  # before torch is imported
    bundle = read_bundle(options.bundle)
    if options.out is not None:
        check_writable(options.out)
    table, left_out = _candles(options, bundle)

    from training.dataset import build_dataset

    dataset = build_dataset(table, bundle.spec.lookback_bars, bundle.spec.horizon_bars)
    span, outside = _span(bundle, dataset, options.everything)
    try:
        figures = _figures(bundle, dataset, span, options.everything)
    except InvalidBundle as error:  # its golden output
        raise CandlewickError(f"{options.bundle} cannot be run here: {error}; train it anew on this machine") from error
    return {
        "bundle": bundle.sha256,
        "model": bundle.spec.model,
        **UNPROVEN,
        **figures,
        "outside": outside,
        "symbols": list(table.symbols),
        "trained_until_ms": bundle.spec.trained_until_ms,
        "data": {"candles": table.rows, "rejected_rows": len(table.rejected), "left_out": left_out},
        "seconds": round(monotonic() - began, 1),
        "peak_memory_mb": peak_memory_mb(),
    }


def in_words(report: Mapping[str, Any]) -> str:
    """The report for a person, in a few lines."""
    from training.figures import in_brackets
    from training.report import utc_day

    span, back, direction = report["range"], report["return"], report["direction"]
    first, last = map(utc_day, report["closes_ms"]["test"])
    leans_on = ", ".join(entry["feature"] for entry in report["importance"][:5])
    return "\n".join(
        [
            f"bundle {report['bundle']} ({report['model']}) on {report['rows']['test']:,} forecasts for "
            f"{len(report['symbols'])} series, {first} to {last}",
            f"range      CRPS {in_brackets(span['crps_vs_vol60'])} of vol60, {in_brackets(span['crps_vs_range_ewma'])} "
            f"of the range EMA, {in_brackets(span['crps_vs_har'])} of HAR; 80 % intervals held "
            f"{in_brackets(span['coverage80'])}",
            *_cells(report),
            f"return     CRPS {in_brackets(back['crps_vs_baseline'])} of a Student-t around zero; 80 % intervals held "
            f"{in_brackets(back['coverage80'])}",
            f"direction  AUC {in_brackets(direction['auc'])}; "
            f"Brier {in_brackets(direction['brier_vs_climatology'])} of climatology",
            f"leans on   {leans_on}",
            *(f"OUTSIDE    {sentence}" for sentence in report["outside"] or ["nothing that training has not seen"]),
            *(f"left out   {symbol}: {lack}" for symbol, lack in report["data"]["left_out"].items()),
            f"{report['seconds']:.0f} s, {report['peak_memory_mb']:.0f} MB",
        ]
    )


def _cells(report: Mapping[str, Any]) -> list[str]:
    """The range against HAR by symbol, by volatility, and by what may have trained the bundle."""
    from training.figures import in_brackets

    named = [
        *report["by_symbol"].items(),
        *((f"{cell['regime']} volatility", cell) for cell in report["by_volatility"]),
        *((cell["sample"], cell) for cell in report.get("by_sample", ())),
    ]
    lines = []
    for name, cell in named:
        ratio, held = (in_brackets(cell["range"][key]) for key in ("crps_vs_har", "coverage80"))
        lines.append(f"  {name:<18} {ratio} of HAR; held {held}")
    return lines


def _candles(options: EvaluateOptions, bundle: Bundle) -> tuple[CandleTable, dict[str, str]]:
    """The candles to score on, and the symbols left out, with the reason."""
    from models.candle_files import read_candles
    from training.dataset import long_enough
    from training.outside import check_timeframe

    table = read_candles(options.candles, exchange=options.exchange, timeframe=options.timeframe)
    check_timeframe(bundle.spec, table.timeframe_ms)
    return long_enough(table.chosen(options.symbols), bundle.spec.lookback_bars, bundle.spec.horizon_bars)


def _span(bundle: Bundle, dataset: Dataset, everything: bool) -> tuple[Span, list[str]]:
    """The slots to score, and what is outside of training about them."""
    from models.features import WARM_UP_BARS
    from training.outside import first_unseen_slot, in_words
    from training.split import Span

    cut, end = first_unseen_slot(bundle.spec, dataset), len(dataset.close_time_ms)
    seen, unseen = (len(dataset.rows(*span)[0]) for span in (Span(0, cut), Span(cut, end)))
    if not seen + unseen:
        raise CandlewickError(
            "no close of these candles can be forecast and scored: "
            f"before it there must be {WARM_UP_BARS:,} bars to warm up and {bundle.spec.lookback_bars} without a gap, "
            f"after it {bundle.spec.horizon_bars}. Give more candles"
        )
    span = Span(0 if everything or not unseen else cut, end)
    outside = in_words(bundle, dataset, dataset.rows(*span))
    if seen and span.first == cut:
        outside.append(
            f"time: {seen:,} earlier rows close no later than the bundle's training ended; they may have trained it "
            "and are left out (--all counts them too)"
        )
    return span, outside


def _figures(bundle: Bundle, dataset: Dataset, span: Span, everything: bool) -> dict[str, Any]:
    from training.evaluate import PARTS, evaluate
    from training.importance import permutation_importance

    rows = dataset.rows(*span)
    closes = dataset.close_time_ms[rows[1][[0, -1]]]
    return {
        **evaluate(bundle, dataset, span, parts=(*PARTS, "by_sample") if everything else PARTS),
        "importance": permutation_importance(bundle, dataset, span),
        "rows": {"test": len(rows[0])},
        "closes_ms": {"test": closes.tolist()},
    }


def _keep(report: dict[str, Any], folder: Path) -> None:
    try:
        write_report(folder, report)
        _write_html(folder, report)
    except OSError as error:
        raise CandlewickError(
            f"{folder}: the report cannot be kept ({error.strerror}); free some space or choose another folder"
        ) from error


def _write_html(folder: Path, report: dict[str, Any]) -> None:
    from training.report_html import write_html

    write_html(folder, report)
