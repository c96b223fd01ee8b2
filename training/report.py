"""`report.json`: what was trained on what, and what it can and cannot do, in one file beside the bundle.

Enters: plain values. Leaves: a file, whole or not at all. Does not know: how any figure was made.
The report is no part of the bundle, so it may hold what a bundle must not: durations, memory, paths.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

from models.errors import CandlewickError
from training.bootstrap import Figure

FILE_NAME = "report.json"
UNPROVEN = {
    "proven": "none",
    "proven_reason": "no gate has judged this bundle yet: figures on one test span are a description, not a proof",
}


def write_report(folder: Path, content: dict[str, Any]) -> Path:
    """Write `report.json`; an older one is replaced only when the new one is complete.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
        ValueError: a figure is NaN or infinite.
    """
    path, partial = folder / FILE_NAME, folder / f".{FILE_NAME}.partial"
    try:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
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
    probe = folder / f".{FILE_NAME}.probe"
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


def in_words(content: dict[str, Any]) -> str:
    """The report for a person, in a few lines."""
    span, back, direction = content["range"], content["return"], content["direction"]
    return "\n".join(
        [
            f"bundle {content['bundle']}",
            f"range      CRPS {_figure(span['crps_vs_vol60'])} of vol60, {_figure(span['crps_vs_range_ewma'])} of the "
            f"range EMA, {_figure(span['crps_vs_har'])} of HAR; 80 % intervals held {_figure(span['coverage80'])}",
            f"return     CRPS {_figure(back['crps_vs_baseline'])} of a Student-t around zero; "
            f"80 % intervals held {_figure(back['coverage80'])}",
            f"direction  AUC {_figure(direction['auc'])}; "
            f"Brier {_figure(direction['brier_vs_climatology'])} of climatology",
            f"proven: {content['proven']} ({content['proven_reason']})",
            f"{content['seconds']:.0f} s, {content['peak_memory_mb']:.0f} MB; every figure is in {FILE_NAME}",
        ]
    )


def _figure(figure: Figure) -> str:
    if figure["value"] is None:
        return "unknown"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
