"""`report.json`: what was trained on what, and what it can and cannot do, in one file beside the bundle.

Enters: plain values. Leaves: a file, whole or not at all. Does not know: how any figure was made.
The report is no part of the bundle, so it may hold what a bundle must not: durations, memory, paths.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from models.errors import CandlewickError
from training.figures import doubts, in_brackets

FILE_NAME = "report.json"
UNPROVEN = {
    "proven": "none",
    "proven_reason": "no gate has judged this bundle yet: figures on one test span are a description, not a proof",
}


class Part(NamedTuple):
    """A span of the candles: how many rows, and the UTC days of its first and last close."""

    name: str
    rows: int
    first: str
    last: str


def write_report(folder: Path, content: dict[str, Any]) -> Path:
    """Write `report.json`; an older one is replaced only when the new one is complete.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
        ValueError: a figure is NaN or infinite.
    """
    return write_whole(folder / FILE_NAME, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> Path:
    """Write a file; an older one is replaced only when the new one is complete. Two processes may do so at once.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


def check_writable(folder: Path) -> None:
    """Find out before training whether its result can be kept.

    Raises:
        CandlewickError: the folder cannot be made or written.
    """
    probe = folder / f".{FILE_NAME}.{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise CandlewickError(
            f"{folder} cannot be written ({error.strerror}); choose another folder for --out"
        ) from error


def peak_memory_mb() -> float:
    """The most memory this process has held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1_024  # Linux counts kibibytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def utc_day(time_ms: int) -> str:
    """`2025-05-30` for a time in UTC milliseconds."""
    return f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%Y-%m-%d}"


def parts(content: dict[str, Any]) -> list[Part]:
    """What trained, validated and tested, as far as the report says."""
    rows: dict[str, int] = content.get("rows") or {}
    return [
        Part(name, rows.get(name, 0), utc_day(first), utc_day(last))
        for name, (first, last) in (content.get("closes_ms") or {}).items()
    ]


def in_words(content: dict[str, Any]) -> str:
    """The report for a person, in a few lines."""
    span, back, direction = content["range"], content["return"], content["direction"]
    trees, logistic = span.get("crps_vs_lightgbm"), direction.get("brier_vs_logistic")
    return "\n".join(
        [
            f"bundle {content['bundle']}",
            f"range      CRPS {in_brackets(span['crps_vs_vol60'])} of vol60, "
            f"{in_brackets(span['crps_vs_range_ewma'])} of the range EMA, {in_brackets(span['crps_vs_har'])} of HAR"
            + (f", {in_brackets(trees)} of LightGBM" if trees else "")
            + f"; 80 % intervals held {in_brackets(span['coverage80'])}",
            f"return     CRPS {in_brackets(back['crps_vs_baseline'])} of a Student-t around zero; "
            f"80 % intervals held {in_brackets(back['coverage80'])}",
            f"direction  AUC {in_brackets(direction['auc'])}; "
            f"Brier {in_brackets(direction['brier_vs_climatology'])} of climatology"
            + (f", {in_brackets(logistic)} of logistic regression" if logistic else ""),
            *_warnings(content),
            f"proven: {content['proven']} ({content['proven_reason']})",
            f"{content['seconds']:.0f} s, {content['peak_memory_mb']:.0f} MB; every figure is in {FILE_NAME}",
        ]
    )


def _warnings(content: dict[str, Any]) -> list[str]:
    """What the sentinel found, and every reason to believe nothing of the above."""
    sentinel = content.get("sentinel") or {}
    passed = [f"sentinel   passed: {sentinel.get('sentence', 'no leak')}"] if sentinel.get("passed") else []
    return passed + [f"ALARM      {doubt}" for doubt in doubts(content)]
