"""Which row of the state arrays belongs to which series, and on which partition it lives.

Enters: partitions and keys of records. Leaves: row numbers. Does not know: what the rows hold.

A row belongs to a key ON a partition: records that a foreign partitioner put elsewhere are a series of their own, so
they can mix neither candles nor offsets with those of the series' home.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.candle_kernel import head_of, index_keys
from models.errors import CandlewickError
from models.series import Series, parse_key

UNKNOWN = -1
"""In place of a row."""
MOST_SERIES = 20_000
"""Ten times what an exchange lists; their state takes a gigabyte. More are a producer that makes symbols up."""


class Texts(NamedTuple):
    """What the records of each row have in common, as compiled functions take it; never changed, only made anew."""

    keys: NDArray[np.uint8]  # side by side
    key_ends: NDArray[np.int64]  # (rows,)
    heads: NDArray[np.uint8]  # the beginning of every candle
    head_ends: NDArray[np.int64]
    slots: NDArray[np.int64]  # hash table of the keys by partition


class SeriesTable:
    """Rows are given out in order and taken back when their partition goes; `capacity` doubles when full."""

    def __init__(self, capacity: int = 64) -> None:
        self.series: list[Series] = []
        self.keys: list[bytes] = []
        self.timeframe_ms = np.ones(capacity, np.int64)
        self.partition = np.full(capacity, -1, np.int64)
        self._rows_of: defaultdict[int, dict[bytes, int]] = defaultdict(dict)  # by partition, by key
        self._free: list[int] = []
        self._texts: Texts | None = None  # until a series comes

    @property
    def capacity(self) -> int:
        """Rows there is room for."""
        return len(self.partition)

    @property
    def rows(self) -> NDArray[np.intp]:
        """Every row in use."""
        return np.flatnonzero(self.partition >= 0)

    @property
    def texts(self) -> Texts:
        """The same object for as long as no series comes or goes."""
        if self._texts is None:
            keys, heads = self.keys, [head_of(series) for series in self.series]
            slots = np.full(1 << (2 * len(keys)).bit_length(), UNKNOWN)
            self._texts = Texts(_joined(keys), _ends(keys), _joined(heads), _ends(heads), slots)
            index_keys(self._texts.keys, self._texts.key_ends, self.partition, slots)
        return self._texts

    def find(self, partitions: Iterable[int], keys: Iterable[bytes | None]) -> NDArray[np.intp]:
        """The rows of series, UNKNOWN for those that are not known."""
        of_each = zip(partitions, keys, strict=True)
        rows_of = self._rows_of
        return np.array([rows_of[partition].get(key or b"", UNKNOWN) for partition, key in of_each], np.intp)

    def row(self, partition: int, key: bytes) -> int | None:
        """The row of one series, None while it is unknown."""
        return self._rows_of[partition].get(key)

    def add(self, key: bytes, partition: int) -> int:
        """Give a new series its row.

        Raises:
            InvalidMessage: the key is not `exchange|symbol|timeframe`.
            CandlewickError: there are too many.
        """
        series = parse_key(key)
        if len(self.series) - len(self._free) >= MOST_SERIES:
            raise CandlewickError(
                f"{key!r} on partition {partition} would be series {MOST_SERIES + 1:,} of this process: mend the "
                "producer that makes them up, or share the partitions among more processes"
            )
        if self._free:
            row = self._free.pop()
            self.series[row], self.keys[row] = series, key
        else:
            row = len(self.series)
            self.series.append(series)
            self.keys.append(key)
        if row >= self.capacity:
            self.timeframe_ms = np.concatenate([self.timeframe_ms, np.ones_like(self.timeframe_ms)])
            self.partition = np.concatenate([self.partition, np.full_like(self.partition, -1)])
        self._rows_of[partition][key] = row
        self._texts = None
        self.timeframe_ms[row] = series.timeframe_ms
        self.partition[row] = partition
        return row

    def drop(self, partitions: Collection[int]) -> NDArray[np.intp]:
        """Take back the rows of these partitions, and say which they were."""
        rows = np.array([r for partition in partitions for r in self._rows_of.pop(partition, {}).values()], np.intp)
        self._free += rows.tolist()
        self.partition[rows] = -1
        self._texts = None
        return rows


def _joined(texts: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(texts), np.uint8)


def _ends(texts: Sequence[bytes]) -> NDArray[np.int64]:
    return np.cumsum([len(text) for text in texts], dtype=np.int64)
