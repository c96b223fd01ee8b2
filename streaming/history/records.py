"""Records of `candles` as rows of candles: what archiving, exporting and training have in common.

Enters: records, decoded columns. Leaves: batches to decode, rows. Does not know: Kafka's clients, files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.candle_kernel import ORIGINS
from models.candle_rows import MAX_SYMBOL_CHARS
from models.decode import Batch, Columns
from models.series import Series, canonical_symbol
from models.series_rows import SeriesRows, united
from models.series_table import SeriesTable

OWN_ORIGINS = [ORIGINS.index(name) for name in ("live", "repaired", "backfilled")]
"""What an exchange itself has said; the others were replayed from files or made up."""


def batch_of(partition: int, records: Sequence[Any]) -> Batch:
    """Records of one partition, to be decoded."""
    return Batch(
        [record.key for record in records],
        [record.value for record in records],
        [partition] * len(records),
        np.array([record.offset for record in records], np.int64),
        np.ones(len(records), np.bool_),
    )


def rows_of(columns: Sequence[Columns], timeframe_ms: NDArray[np.int64]) -> SeriesRows:
    """Candles as rows, in the same order; `timeframe_ms` is by row of the series table."""
    opens = np.concatenate([own.close_time_ms - timeframe_ms[own.row] for own in columns])
    ohlcv = np.concatenate([np.stack([own.open, own.high, own.low, own.close, own.volume]) for own in columns], axis=1)
    return SeriesRows(opens, ohlcv, np.concatenate([own.revision for own in columns]).astype(np.int32))


def by_series(columns: Sequence[Columns], table: SeriesTable) -> dict[Series, SeriesRows]:
    """Candles series by series, each time once, in order."""
    if not any(len(own.row) for own in columns):
        return {}
    row = np.concatenate([own.row for own in columns])
    rows = rows_of(columns, table.timeframe_ms)
    found: defaultdict[Series, list[SeriesRows]] = defaultdict(list)
    for i in np.unique(row).tolist():  # a foreign partitioner may have put one series into two partitions
        found[table.series[i]].append(rows.take(row == i))
    return {series: united(own) for series, own in found.items()}


def can_be_named(symbol: str) -> bool:
    """Whether a candle file can hold a symbol, and gives it back as it is."""
    plain = symbol.isascii() and symbol.isprintable() and not set(symbol) & set(', "')
    try:
        return plain and len(symbol) <= MAX_SYMBOL_CHARS and canonical_symbol(symbol) == symbol
    except ValueError:
        return False


def columns_of(rows: SeriesRows, series: Series) -> Columns:
    """Rows of one series as the columns that a decoded batch has; its row is 0."""
    count = len(rows.open_time_ms)
    return Columns(
        row=np.zeros(count, np.intp),
        offset=np.zeros(count, np.int64),
        speaks=np.ones(count, np.bool_),
        close_time_ms=rows.open_time_ms + series.timeframe_ms,
        open=rows.ohlcv[0],
        high=rows.ohlcv[1],
        low=rows.ohlcv[2],
        close=rows.ohlcv[3],
        volume=rows.ohlcv[4],
        absent=np.zeros(count, np.bool_),
        revision=rows.revision.astype(np.int64),
        origin=np.zeros(count, np.int64),
    )
