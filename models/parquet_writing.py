"""Candles into Parquet: a dataset, laid out as `models.parquet_files` says, or one file.

Enters: a `CandleTable`, or columns. Leaves: files that are whole or not there.
Does not know: where the candles came from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.candle_rows import COLUMNS, FileRows
from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.parquet_files import PARTIAL, SUFFIX, Asked, read_parquet, symbol_folder

PART = f"part-0{SUFFIX}"


class Columns(NamedTuple):
    """Candles `(n,)` of one file."""

    symbols: Sequence[str]
    symbol_of: NDArray[np.int32]  # into `symbols`
    open_time_ms: NDArray[np.int64]
    ohlcv: NDArray[np.float64]  # (5, n)


def write_dataset(table: CandleTable, folder: Path) -> None:
    """Write a table into a dataset; the folder is made. Written again, it is the same to the last byte.

    Candles of the dataset stay; where the table has one of the same time, the table's stands.

    Raises:
        CandlewickError: the folder holds something else, a part of another schema or of another writer, or cannot be
            written; the parts that are there stay whole.
    """
    if table.injected is not None and table.injected.any():
        raise CandlewickError("the table holds made-up candles; a dataset takes only an exchange's own")
    _check_folder(folder)
    root = folder / f"exchange={table.exchange}" / f"timeframe={table.timeframe}"
    try:
        for i, symbol in enumerate(table.symbols):
            for month, slots in _months(table, i):
                _write_part(root / symbol_folder(symbol) / f"month={month}", table, i, slots)
    except OSError as error:
        raise CandlewickError(f"{folder} cannot be written ({error.strerror}); free some space") from error


def write_file(path: Path, candles: Columns) -> None:
    """Write candles into one file, whole or not at all, by symbol and time.

    Raises:
        OSError: the file cannot be written; what was there is untouched.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rank = np.argsort(np.argsort(candles.symbols))
    order = np.lexsort([candles.open_time_ms, rank[candles.symbol_of]])
    symbols = pa.DictionaryArray.from_arrays(pa.array(candles.symbol_of[order]), pa.array(candles.symbols, pa.string()))
    columns = [candles.open_time_ms[order], symbols.cast(pa.string()), *(column[order] for column in candles.ohlcv)]
    table = pa.table(columns, names=COLUMNS)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _months(table: CandleTable, i: int) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """The months (UTC, by open time) of one series, like `2025-05`, with the slots of its candles."""
    here = np.flatnonzero(table.present[i])
    months = table.open_time_ms[here].astype("M8[ms]").astype("M8[M]")
    for own in np.split(here, np.flatnonzero(np.diff(months).astype(int)) + 1):
        if len(own):
            yield str(table.open_time_ms[own[0]].astype("M8[ms]").astype("M8[M]")), own


def _write_part(month: Path, table: CandleTable, i: int, slots: NDArray[np.intp]) -> None:
    month.mkdir(parents=True, exist_ok=True)
    others = [path.name for path in month.iterdir() if path.name not in (PART, PART + PARTIAL)]
    if others:
        raise CandlewickError(f"{month} holds {others[0]}, of another writer; write into another folder")
    time, ohlcv = table.open_time_ms[slots], table.ohlcv[:, i, slots]
    if (month / PART).exists():
        old = _old_part(month / PART, table.symbols[i], table.exchange)
        time, first = np.unique(np.concatenate([time, old.time_ms]), return_index=True)  # the first is the new one
        ohlcv = np.concatenate([ohlcv, old.ohlcv], axis=1)[:, first]
    write_file(month / PART, Columns([table.symbols[i]], np.zeros(len(time), np.int32), time, ohlcv))


def _old_part(path: Path, symbol: str, exchange: str) -> FileRows:
    """What a part holds now.

    Raises:
        CandlewickError: it cannot be read, has another schema, or holds another symbol.
    """
    rows = read_parquet(path, Asked(exchange, None))
    if rows.symbols != [symbol]:
        raise CandlewickError(f"{path} holds {', '.join(rows.symbols)} instead of {symbol}; move it away")
    return rows


def _check_folder(folder: Path) -> None:
    """A dataset's folder holds folders `exchange=...` and nothing else that could be data."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CandlewickError(f"{folder} is a file; name a folder for the dataset")
    odd = [path.name for path in folder.iterdir() if not path.name.startswith(("exchange=", ".", "_"))]
    if odd:
        raise CandlewickError(f"{folder} holds {odd[0]} and is no dataset of ours; write into an empty folder")


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
