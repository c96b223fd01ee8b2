"""What candles are like before anything is learned from them: `candlewick history check`.

Enters: a table, or the files of one. Leaves: counts and spans as JSON takes them, and the same in words.
Does not know: what the candles are for; nothing here is dropped or mended.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.places import place

Rejections = Counter[tuple[str, str]]
"""Symbol and reason to the number of rows; the symbol is empty where the row could not be read."""


def run_check(options: Mapping[str, Any], as_json: bool) -> None:
    """What the command line calls: `paths`, `exchange` and `timeframe`; print the report of the files.

    Raises:
        CandlewickError: the files cannot be read, or training and replay would refuse one; the report is printed first.
    """
    from models.candle_files import judge_candles

    paths = [place(path) for path in options["paths"]]
    table, rejections, refused = judge_candles(paths, exchange=options["exchange"], timeframe=options["timeframe"])
    report = candle_report(table, rejections) | {"refused": refused}
    sys.stdout.write((json.dumps(report) if as_json else in_words(report)) + "\n")
    if refused:
        raise CandlewickError("; ".join(refused))


def candle_report(table: CandleTable, rejections: Rejections | None = None) -> dict[str, Any]:
    """Describe the candles of every series, and of all.

    Returns:
        `exchange`, `timeframe`, `symbols` (a symbol to its figures) and `totals`. Times are open times in UTC
        milliseconds, shares lie in 0..1. `gaps`: bars missing between two candles of a series, however many;
        `absent_share`: of the slots within segments; `ties`: share of closes equal to the close of the bar before.
    """
    if rejections is None:
        rejections = Counter((row.symbol, row.reason) for row in table.rejected)
    symbols = {symbol: _of_series(table, i, rejections) for i, symbol in enumerate(table.symbols)}
    return {
        "exchange": table.exchange,
        "timeframe": table.timeframe,
        "symbols": symbols,
        "totals": _totals(table, symbols, rejections),
    }


def _of_series(table: CandleTable, i: int, rejections: Rejections) -> dict[str, Any]:
    here = np.flatnonzero(table.present[i])
    time, close, volume = table.open_time_ms[here], table.ohlcv[3, i, here], table.ohlcv[4, i, here]
    lengths = [segment.stop - segment.first for segment in table.segments[i]]
    next_to = np.diff(time) == table.timeframe_ms
    same = np.diff(close) == 0
    return {
        "rows": len(here),
        "first_open_ms": int(time[0]) if len(time) else None,
        "last_open_ms": int(time[-1]) if len(time) else None,
        "gaps": _gaps(time, table.timeframe_ms),
        "segments": len(lengths),
        "longest_segment_bars": max(lengths, default=0),
        "absent_share": _share(sum(lengths) - len(here), sum(lengths)),
        "zero_volume_bars": int((volume == 0).sum()),
        "ties": _share(int((next_to & same).sum()), int(next_to.sum())),
        "constant": bool(len(close) and close.min() == close.max()),
        "rejected": {reason: count for (symbol, reason), count in rejections.items() if symbol == table.symbols[i]},
    }


def _gaps(open_time_ms: NDArray[np.int64], timeframe_ms: int) -> dict[str, Any]:
    missing = np.diff(open_time_ms) // timeframe_ms - 1
    longest = int(missing.argmax()) if missing.any() else None
    return {
        "count": int((missing > 0).sum()),
        "missing_bars": int(missing.sum()),
        "longest_bars": 0 if longest is None else int(missing[longest]),
        "longest_from_ms": None if longest is None else int(open_time_ms[longest]) + timeframe_ms,
    }


def _totals(table: CandleTable, symbols: dict[str, dict[str, Any]], rejections: Rejections) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    for (_, reason), count in rejections.items():
        reasons[reason] += count
    slots = sum(segment.stop - segment.first for own in table.segments for segment in own)
    rows = sum(own["rows"] for own in symbols.values())
    return {
        "series": len(symbols),
        "rows": rows,
        "slots": len(table.open_time_ms),
        "first_open_ms": min((own["first_open_ms"] for own in symbols.values() if own["rows"]), default=None),
        "last_open_ms": max((own["last_open_ms"] for own in symbols.values() if own["rows"]), default=None),
        "gaps": sum(own["gaps"]["count"] for own in symbols.values()),
        "missing_bars": sum(own["gaps"]["missing_bars"] for own in symbols.values()),
        "absent_share": _share(slots - rows, slots),
        "zero_volume_bars": sum(own["zero_volume_bars"] for own in symbols.values()),
        "rejected": dict(reasons.most_common()),
    }


def in_words(report: Mapping[str, Any]) -> str:
    """The report for a person: a line a series, what is odd below it, and the sum."""
    lines = [line for symbol, own in report["symbols"].items() for line in _series_in_words(symbol, own)]
    totals = report["totals"]
    lines.append(
        f"{totals['rows']:,} candles of {totals['series']} series of {report['exchange']} {report['timeframe']}, "
        f"{when(totals['first_open_ms'])} to {when(totals['last_open_ms'])}; {totals['missing_bars']:,} bars missing, "
        f"{sum(totals['rejected'].values()):,} rows rejected"
    )
    lines += [f"  rejected {count:,}: {reason}" for reason, count in totals["rejected"].items()]
    lines += [f"refused: {sentence}" for sentence in report.get("refused", ())]
    return "\n".join(lines)


def _series_in_words(symbol: str, own: Mapping[str, Any]) -> list[str]:
    gaps = own["gaps"]
    lines = [
        f"{symbol}: {own['rows']:,} candles, {when(own['first_open_ms'])} to {when(own['last_open_ms'])}, "
        f"{own['ties']:.1%} ties, {own['zero_volume_bars']:,} without volume"
    ]
    if gaps["count"]:
        lines.append(
            f"  {gaps['missing_bars']:,} bars missing in {gaps['count']:,} gaps, the longest of "
            f"{gaps['longest_bars']:,} bars from {when(gaps['longest_from_ms'])}; {own['segments']} segments"
        )
    if own["constant"]:
        lines.append("  its price never changes: nothing can be learned from it, leave it out")
    return lines


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def when(time_ms: int | None) -> str:
    """Like `2025-05-01 12:00 UTC`."""
    return "never" if time_ms is None else f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%Y-%m-%d %H:%M} UTC"
