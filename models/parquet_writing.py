"""Candles into Parquet: a dataset, laid out as `models.parquet_files` says, or one file.

Enters: a `CandleTable`, or rows of a series. Leaves: files that are whole or not there.
Does not know: where the candles came from.

On this machine a part is written beside its place, forced to the disk and renamed; an object store shows a file only
once it is whole. A part is read, joined with what is new and written under a lock of the dataset's folder, so several
processes may write into one. An object store has no lock: there a part that changed meanwhile is read again, which
leaves a moment; let one process at a time write into one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from models.candle_rows import COLUMNS
from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.folder_lock import alone
from models.parquet_files import SUFFIX, Asked, read_parquet, symbol_folder
from models.places import Place, RemotePath
from models.series import Series
from models.series_rows import NO_ROWS, SeriesRows, same, united
from models.whole_file import PARTIAL, told, whole

PART = f"part-0{SUFFIX}"
MOST_RACES = 5
PROBE = "_probe"

Join = Callable[[SeriesRows, SeriesRows], SeriesRows]
"""What is there and what is new to what shall be there."""


class Columns(NamedTuple):
    """Candles `(n,)` of one file."""

    symbols: Sequence[str]
    symbol_of: NDArray[np.int32]  # into `symbols`
    open_time_ms: NDArray[np.int64]
    ohlcv: NDArray[np.float64]  # (5, n)
    revision: NDArray[np.int32] | None = None  # a column of it is written where some candle was corrected


def write_dataset(table: CandleTable, folder: Place) -> None:
    """Write a table into a dataset; the folder is made. Written again, it is the same to the last byte.

    Candles of the dataset stay; where the table has one of the same time, the table's stands.

    Raises:
        CandlewickError: the folder holds something else, a part of another schema or of another writer, or cannot be
            written; the parts that are there stay whole.
    """
    if table.injected is not None and table.injected.any():
        raise CandlewickError("the table holds made-up candles; a dataset takes only an exchange's own")
    with told(folder):
        check_folder(folder)
        for i, symbol in enumerate(table.symbols):
            here = np.flatnonzero(table.present[i])
            rows = SeriesRows(table.open_time_ms[here], table.ohlcv[:, i, here], np.zeros(len(here), np.int32))
            _write_series(folder, Series(table.exchange, symbol, table.timeframe), rows, _replaced)


def merge_rows(folder: Place, series: Series, rows: SeriesRows) -> None:
    """Put candles of one series into a dataset, which is made; done twice, it is done once.

    Of one time the higher revision stands, and of equal ones what is there.

    Raises:
        CandlewickError: as `write_dataset`.
    """
    with told(folder):
        _write_series(folder, series, rows, lambda old, new: united([old, new]))


def make_dataset(folder: Place) -> None:
    """See to it that a dataset can be written there, before anything is fetched for it.

    Raises:
        CandlewickError: the folder holds something else, or cannot be written.
    """
    with told(folder):
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / PROBE
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)


def series_folder(folder: Place, series: Series) -> Place:
    """Where a dataset keeps a series."""
    exchange = quote(series.exchange, safe="")
    return folder / f"exchange={exchange}" / f"timeframe={series.timeframe}" / symbol_folder(series.symbol)


def write_file(path: Place, candles: Columns, revised: bool = False) -> None:
    """Write candles into one file, whole or not at all, by symbol and time.

    Revisions are told where there are some; `revised` tells them in any case, so that a reader lets them decide.

    Raises:
        OSError: the file cannot be written; what was there is untouched.
    """
    import pyarrow as pa

    rank = np.argsort(np.argsort(candles.symbols))
    order = np.lexsort([candles.open_time_ms, rank[candles.symbol_of]])
    symbols = pa.DictionaryArray.from_arrays(pa.array(candles.symbol_of[order]), pa.array(candles.symbols, pa.string()))
    columns = [candles.open_time_ms[order], symbols.cast(pa.string()), *(column[order] for column in candles.ohlcv)]
    table = pa.table(columns, names=COLUMNS)
    if candles.revision is not None and (revised or candles.revision.any()):
        table = table.append_column("revision", pa.array(candles.revision[order], pa.int32()))
    write_arrow(path, table)


def write_arrow(path: Place, table: Any) -> None:
    """Write a table of Arrow into one file, whole or not at all.

    Raises:
        OSError: the file cannot be written; what was there is untouched.
    """
    from pyarrow import parquet

    with whole(path) as file:
        parquet.write_table(table, file, compression="zstd")


def _write_series(folder: Place, series: Series, rows: SeriesRows, join: Join) -> None:
    for month, own in _months(rows):
        _write_part(folder, series_folder(folder, series) / f"month={month}", series, own, join)


def _months(rows: SeriesRows) -> Iterator[tuple[str, SeriesRows]]:
    """The months (UTC, by open time) of one series, like `2025-05`, with their candles."""
    months = rows.open_time_ms.astype("M8[ms]").astype("M8[M]")
    for month in np.unique(months):
        yield str(month), rows.take(months == month)


def _write_part(folder: Place, month: Place, series: Series, new: SeriesRows, join: Join) -> None:
    """Join what is new with what is there; nothing is written where that changes nothing."""
    month.mkdir(parents=True, exist_ok=True)
    part = month / PART
    for _ in range(MOST_RACES):
        with alone(folder):
            stamp = part.stamp() if isinstance(part, RemotePath) else None
            old = _old_part(month, series)
            joined = join(old, new)
            if same(joined, old):
                _clear(part)
                return
            if isinstance(part, RemotePath) and part.stamp() != stamp:
                continue
            symbol_of = np.zeros(len(joined.open_time_ms), np.int32)
            write_file(part, Columns([series.symbol], symbol_of, *joined))
            return
    raise CandlewickError(f"{part} was changed by others {MOST_RACES} times; let one process at a time write into it")


def _clear(part: Place) -> None:
    """Remove what somebody who was killed has left half-written."""
    if isinstance(part, Path):
        part.with_name(part.name + PARTIAL).unlink(missing_ok=True)


def _old_part(month: Place, series: Series) -> SeriesRows:
    """What a month holds now.

    Raises:
        CandlewickError: it cannot be read, has another schema, another writer, or holds another series.
    """
    names = {path.name for path in month.iterdir()}
    if others := sorted(names - {PART, PART + PARTIAL}):
        raise CandlewickError(f"{month} holds {others[0]}, of another writer; write into another folder")
    return read_part(month / PART, series) if PART in names else NO_ROWS


def read_part(path: Place, series: Series) -> SeriesRows:
    """The candles of one part.

    Raises:
        CandlewickError: it cannot be read, has another schema, or holds another series.
    """
    rows = read_parquet(path, Asked(series.exchange, series.timeframe))
    if rows.symbols != [series.symbol]:
        raise CandlewickError(f"{path} holds {', '.join(rows.symbols)} instead of {series.symbol}; move it away")
    if rows.passed_over:
        raise CandlewickError(f"{path} holds candles of others than {series.exchange} {series.timeframe}; move it away")
    revision = np.zeros(len(rows.time_ms), np.int32) if rows.revision is None else rows.revision
    return SeriesRows(rows.time_ms, rows.ohlcv, revision)


def _replaced(old: SeriesRows, new: SeriesRows) -> SeriesRows:
    """What is new stands, whatever is there."""
    return united([new, old.take(~np.isin(old.open_time_ms, new.open_time_ms))])


def check_folder(folder: Place) -> None:
    """See to it that a folder is a dataset's: it holds folders `exchange=...` and nothing else that could be data.

    Raises:
        CandlewickError: it is something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CandlewickError(f"{folder} is a file; name a folder for the dataset")
    odd = [path.name for path in folder.iterdir() if not path.name.startswith(("exchange=", ".", "_"))]
    if odd:
        raise CandlewickError(f"{folder} holds {odd[0]} and is no dataset of ours; write into an empty folder")
