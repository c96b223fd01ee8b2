"""Candles on their way from the topic into the parts of a dataset: files named by their offsets.

Enters: candles of some offsets of a partition. Leaves: the parts of a dataset, and how far each partition is in there.
Does not know: Kafka's clients, or which candles are wanted.

Beside its parts a dataset keeps `_archive/TOPIC/PARTITION/`:

- `FIRST-NEXT.parquet`: the candles wanted of the offsets `FIRST <= offset < NEXT`, in no part yet;
- `NEXT.json`: all before this offset is in the parts.

Readers of the dataset see its parts only, where every candle is once; joining a candle twice changes nothing. A file
has its name once it is whole, so a kill between any two of these steps loses nothing and doubles nothing: files are
written, joined with the parts, then the mark is written, then the files that it covers are removed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.candle_rows import VALUES
from models.errors import CandlewickError
from models.parquet_writing import merge_rows, write_arrow
from models.places import Place
from models.series import Series
from models.series_rows import SeriesRows, united
from models.whole_file import PARTIAL, told, whole
from streaming.history.witness import Witness

ARCHIVE = "_archive"
_SEGMENT = re.compile(r"(\d+)-(\d+)\.parquet")
_MARK = re.compile(r"(\d+)\.json")
_WITNESS = b"candlewick.witness"


class _Mark(msgspec.Struct, frozen=True):
    next: int
    witness: Witness | None = None


class _File(NamedTuple):
    first: int  # offset; of a mark 0
    next: int
    path: Place


class Spooled(NamedTuple):
    """Candles `(n,)` of one partition, in the order of the log."""

    series: Sequence[Series]
    series_of: NDArray[np.int32]  # into `series`
    rows: SeriesRows


class Spool:
    """What one topic has in the archive of a dataset."""

    def __init__(self, dataset: Place, topic: str) -> None:
        self._dataset = dataset
        self._folder = dataset / ARCHIVE / topic
        self._segments: defaultdict[int, list[_File]] = defaultdict(list)
        self._marks: defaultdict[int, list[_File]] = defaultdict(list)
        self.rows = 0  # in no part yet, as far as this process has written them
        for path in _files_in(self._folder):
            self._found(path)

    def _found(self, path: Place) -> None:
        partition = int(path.parent.name)
        if segment := _SEGMENT.fullmatch(path.name):
            self._segments[partition].append(_File(int(segment[1]), int(segment[2]), path))
        elif mark := _MARK.fullmatch(path.name):
            self._marks[partition].append(_File(0, int(mark[1]), path))
        elif path.name.endswith(PARTIAL):
            path.unlink(missing_ok=True)

    def position(self, partition: int) -> int:
        """Up to here, the offset itself excluded, everything wanted of a partition is in the dataset."""
        files = self._segments[partition] + self._marks[partition]
        return max((file.next for file in files), default=0)

    def merged(self, partition: int) -> tuple[int, Witness | None]:
        """Up to here everything wanted is in the parts, and a record read before; 0 and none where nothing is."""
        newest = max(self._marks[partition], key=lambda file: file.next, default=None)
        return (0, None) if newest is None else (newest.next, _witness_in(newest.path))

    def witness(self, partition: int) -> Witness | None:
        """The last record that was read of a partition, as far as it is known.

        Raises:
            CandlewickError: the archive was written by something else.
        """
        files = self._segments[partition] + self._marks[partition]
        newest = max(files, key=lambda file: file.next, default=None)
        return None if newest is None else _witness_in(newest.path)

    def add(self, partition: int, next_offset: int, spooled: Spooled, witness: Witness | None) -> None:
        """Keep the candles wanted of all offsets from the position to before another.

        Raises:
            CandlewickError: they cannot be written.
        """
        first = self.position(partition)
        file = _File(first, next_offset, self._path(partition, f"{first}-{next_offset}.parquet"))
        with told(self._dataset):
            file.path.parent.mkdir(parents=True, exist_ok=True)
            write_arrow(file.path, _table(spooled, witness))
        self._segments[partition].append(file)
        self.rows += len(spooled.series_of)

    def merge(self, reached: Mapping[int, tuple[int, Witness | None]]) -> int:
        """Put all into the parts; the number of candles that were on the way.

        `reached` says for partitions how far they were read with nothing wanted after the last file.

        Raises:
            CandlewickError: a part is foreign, or something cannot be written; nothing is lost by that.
        """
        files = [file for own in self._segments.values() for file in sorted(own)]
        rows = self._into_parts(files)
        with told(self._dataset):
            for partition in {*self._segments, *reached}:
                self._close(partition, *reached.get(partition, (0, None)))
        self.rows = 0
        return rows

    def _into_parts(self, files: Sequence[_File]) -> int:
        by_series: defaultdict[Series, list[SeriesRows]] = defaultdict(list)
        for file in files:
            for series, own in _read(file.path):
                by_series[series].append(own)
        for series in sorted(by_series):
            merge_rows(self._dataset, series, united(by_series[series]))
        return sum(len(own.open_time_ms) for rows in by_series.values() for own in rows)

    def _close(self, partition: int, reached: int, witness: Witness | None) -> None:
        """Say how far the parts go, then remove what said so before."""
        before = self._segments[partition] + self._marks[partition]
        position = max(self.position(partition), reached)
        if position == 0 or (before == self._marks[partition] and position == self.position(partition)):
            return
        if reached < position or witness is None:
            witness = self.witness(partition)
        mark = _File(0, position, self._path(partition, f"{position}.json"))
        mark.path.parent.mkdir(parents=True, exist_ok=True)
        with whole(mark.path) as file:
            file.write(msgspec.json.encode(_Mark(position, witness)))
        for old in before:
            if old.path != mark.path:
                old.path.unlink(missing_ok=True)
        self._segments[partition], self._marks[partition] = [], [mark]

    def _path(self, partition: int, name: str) -> Place:
        return self._folder / str(partition) / name


def _files_in(folder: Place) -> list[Place]:
    """Every file of the folders of partitions."""
    try:
        found = folder.glob("*/*") if isinstance(folder, Path) else folder.files() if folder.exists() else []
        return [path for path in found if path.parent.name.isdecimal()]
    except OSError as error:
        raise CandlewickError(f"{folder} cannot be read ({error.strerror}); is it yours to read?") from error


def _table(spooled: Spooled, witness: Witness | None) -> Any:
    import pyarrow as pa

    def named(names: Sequence[str]) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(spooled.series_of), pa.array(names, pa.string()))

    columns = {
        "exchange": named([series.exchange for series in spooled.series]),
        "timeframe": named([series.timeframe for series in spooled.series]),
        "symbol": named([series.symbol for series in spooled.series]),
        "timestamp_ms": spooled.rows.open_time_ms,
        **dict(zip(VALUES, spooled.rows.ohlcv, strict=True)),
        "revision": spooled.rows.revision,
    }
    table = pa.table(columns)
    return table.replace_schema_metadata({_WITNESS: msgspec.json.encode(witness)}) if witness else table


def _read(path: Place) -> Iterator[tuple[Series, SeriesRows]]:
    """The candles of a file by series, in the order of the log.

    Raises:
        CandlewickError: it cannot be read, or was written by something else.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        source = path if isinstance(path, Path) else pa.BufferReader(path.read_bytes())
        with parquet.ParquetFile(source) as file:
            table = file.read()
        names = [table.column(name).cast(pa.string()).to_pylist() for name in ("exchange", "symbol", "timeframe")]
        ohlcv = np.stack([table.column(name).to_numpy() for name in VALUES])
        rows = SeriesRows(table.column("timestamp_ms").to_numpy(), ohlcv, table.column("revision").to_numpy())
    except (OSError, KeyError, pa.ArrowException) as error:
        raise CandlewickError(f"{path} cannot be read ({str(error).splitlines()[0]}); {_LOST}") from error
    places: defaultdict[Series, list[int]] = defaultdict(list)
    for i, identity in enumerate(zip(*names, strict=True)):
        places[Series(*identity)].append(i)
    for series, at in places.items():
        yield series, rows.take(np.array(at, np.intp))


_LOST = "remove the folder _archive: the whole topic is read again then, and what the dataset has already stays once"


def _witness_in(path: Place) -> Witness | None:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        data = path.read_bytes()
        if path.suffix == ".json":
            return msgspec.json.decode(data, type=_Mark).witness
        metadata = parquet.read_schema(pa.BufferReader(data)).metadata or {}
        return msgspec.json.decode(metadata[_WITNESS], type=Witness) if _WITNESS in metadata else None
    except (OSError, msgspec.MsgspecError, pa.ArrowException) as error:
        raise CandlewickError(f"{path} cannot be read ({str(error).splitlines()[0]}); {_LOST}") from error
