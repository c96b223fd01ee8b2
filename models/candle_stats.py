"""How much of every series a dataset has: `candlewick history stats`. Of each file only the times are read.

Enters: the folder or URL of a dataset, and what time it is. Leaves: figures as JSON takes them, and the same in words.
Does not know: prices; those `models.candle_report` looks at.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.candle_dataset import Part, parts
from models.candle_files import MAX_READERS
from models.candle_report import when
from models.errors import CandlewickError
from models.places import Place, place, size_of
from models.series import Series

NAMES = 5
"""Of the columns: the first ones are words, the others numbers."""
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


class _Read(NamedTuple):
    series: Series
    time_ms: NDArray[np.int64]
    size: int  # bytes


def run_stats(options: Mapping[str, Any], as_json: bool) -> None:
    """What the command line calls: `paths`; print the figures of the datasets.

    Raises:
        CandlewickError: one is no dataset, or a file of it cannot be read.
    """
    stats = dataset_stats([place(path) for path in options["paths"]], time.time_ns() // 1_000_000)
    sys.stdout.write((json.dumps(stats) if as_json else stats_in_words(stats)) + "\n")


def dataset_stats(folders: Sequence[Place], now_ms: int) -> dict[str, Any]:
    """Describe every series of some datasets.

    Returns:
        `series`: a list of figures, by exchange, timeframe and symbol; `totals`. Times are open times in UTC
        milliseconds; `absent` counts the bars missing between the first candle and the last, `absent_share` is of
        these slots; `newest_age_ms` is from the last candle's close to now.
    """
    found = [part for folder in folders for part in parts(folder)]
    with ThreadPoolExecutor(MAX_READERS) as pool:
        read = list(pool.map(_read, found))
    by_series: defaultdict[Series, list[_Read]] = defaultdict(list)
    for each in read:
        by_series[each.series].append(each)
    series = [_of_series(own, by_series[own], now_ms) for own in sorted(by_series, key=_order)]
    return {"series": series, "totals": _totals(series)}


def _order(series: Series) -> tuple[str, int, str]:
    return series.exchange, series.timeframe_ms, series.symbol


def _read(part: Part) -> _Read:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        source = part.path if isinstance(part.path, Path) else pa.BufferReader(part.path.read_bytes())
        column = parquet.read_table(source, columns=["timestamp_ms"], partitioning=None).column("timestamp_ms")
        times = column.cast(pa.int64()).to_numpy()
        return _Read(part.series, times, size_of(part.path))
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise CandlewickError(f"{part.path} cannot be read ({reason}); fetch or write it again") from error


def _of_series(series: Series, read: Iterable[_Read], now_ms: int) -> dict[str, Any]:
    own = list(read)
    times = np.unique(np.concatenate([each.time_ms for each in own]))
    slots = int(times[-1] - times[0]) // series.timeframe_ms + 1 if len(times) else 0
    return {
        "exchange": series.exchange,
        "symbol": series.symbol,
        "timeframe": series.timeframe,
        "rows": len(times),
        "first_open_ms": int(times[0]) if len(times) else None,
        "last_open_ms": int(times[-1]) if len(times) else None,
        "absent": slots - len(times),
        "absent_share": (slots - len(times)) / slots if slots else 0.0,
        "files": len(own),
        "bytes": sum(each.size for each in own),
        "newest_age_ms": now_ms - int(times[-1]) - series.timeframe_ms if len(times) else None,
    }


def _totals(series: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sums = {name: sum(own[name] for own in series) for name in ("rows", "absent", "files", "bytes")}
    return {"series": len(series), **sums}


def stats_in_words(stats: Mapping[str, Any]) -> str:
    """A table for a person: a line a series, and the sum."""
    head = ("exchange", "symbol", "bars", "first", "last", "candles", "absent", "share", "MB", "newest")
    rows = [head, *(_line(own) for own in stats["series"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    aligned = ("  ".join(_cells(row, widths)) for row in rows)
    totals = stats["totals"]
    said = (
        f"{totals['rows']:,} candles of {totals['series']} series in {totals['files']:,} files, "
        f"{totals['bytes'] / 1e6:,.1f} MB; {totals['absent']:,} absent"
    )
    return "\n".join([*(line.rstrip() for line in aligned), said])


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if i < NAMES else cell.rjust(width)


def _line(own: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        own["exchange"], own["symbol"], own["timeframe"], when(own["first_open_ms"]),
        when(own["last_open_ms"]), f"{own['rows']:,}", f"{own['absent']:,}", f"{own['absent_share']:.2%}",
        f"{own['bytes'] / 1e6:,.2f}", _ago(own["newest_age_ms"]),
    )  # fmt: skip


def _ago(age_ms: int | None) -> str:
    if age_ms is None:
        return "never"
    length_ms, unit = next((each for each in _UNITS if age_ms >= 2 * each[0]), _UNITS[-1])
    return f"{max(0, age_ms) // length_ms} {unit} ago"
