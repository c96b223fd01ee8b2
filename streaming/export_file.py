"""The file that `candlewick export` writes: csv line by line, or one Parquet table at the end. Whole, or not there.

Enters: columns of candles that fit, in the order of the log. Leaves: a file that `models.candle_files` reads.
Does not know: Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.candle_rows import COLUMNS
from models.decode import Columns
from models.parquet_files import SUFFIX
from models.series import Series
from models.whole_file import PARTIAL, whole

Sink = Callable[[Columns, Sequence[Series]], None]
"""Takes candles `(n,)` and the series that their rows point to."""


@contextmanager
def into_file(out: Path) -> Iterator[Sink]:
    """Open the file that a name asks for; Parquet is written when all is there, csv as it comes.

    Raises:
        OSError: the file cannot be written.
    """
    with _into_parquet(out) if out.suffix == SUFFIX else _into_csv(out) as sink:
        yield sink


@contextmanager
def _into_csv(out: Path) -> Iterator[Sink]:
    with whole(out) as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        yield lambda columns, series: file.writelines(_lines(columns, series))


def _lines(columns: Columns, series: Sequence[Series]) -> Iterator[bytes]:
    prices = zip(*(column.tolist() for column in _ohlcv(columns)), strict=True)
    for row, close_ms, ohlcv in zip(columns.row.tolist(), columns.close_time_ms.tolist(), prices, strict=True):
        own = series[row]
        yield f"{close_ms - own.timeframe_ms},{own.symbol},{','.join(map(repr, ohlcv))}\n".encode("ascii")


@contextmanager
def _into_parquet(out: Path) -> Iterator[Sink]:
    """Some 50 bytes of memory a candle until the end."""
    from models.parquet_writing import Columns as FileColumns
    from models.parquet_writing import write_file

    names: dict[str, int] = {}
    parts = [FileColumns((), np.empty(0, np.int32), np.empty(0, np.int64), np.empty((5, 0)))]

    def take(columns: Columns, series: Sequence[Series]) -> None:
        numbers = np.array([names.setdefault(own.symbol, len(names)) for own in series], np.int32)
        lengths = np.array([own.timeframe_ms for own in series], np.int64)
        open_time_ms = columns.close_time_ms - lengths[columns.row]
        parts.append(FileColumns((), numbers[columns.row], open_time_ms, np.stack(_ohlcv(columns))))

    partial = out.with_name(out.name + PARTIAL)
    partial.touch()  # a folder that cannot be written shows before the log is read
    try:
        yield take
        _, symbol_of, open_time_ms, ohlcv, _ = zip(*parts, strict=True)
        joined = np.concatenate(symbol_of), np.concatenate(open_time_ms), np.concatenate(ohlcv, axis=1)
        write_file(out, FileColumns(list(names), *joined))
    finally:
        partial.unlink(missing_ok=True)


def _ohlcv(columns: Columns) -> tuple[NDArray[np.float64], ...]:
    return (columns.open, columns.high, columns.low, columns.close, columns.volume)
