"""Candle files of any origin into one table: csv, csv.xz and Parquet, open times in UTC milliseconds.

Enters: files or folders, of this machine or by URL. Leaves: a `CandleTable` with a list of the rows it could not use.
Does not know: what the candles are for. How one file is read say `models.candle_csv` and `models.parquet_files`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import candle_csv
from models.candle_rows import ELSEWHERE, FileRows, empty_columns, judge_times, judge_values, put_in_order, spacings
from models.candle_table import CandleTable, RejectedRow, build_table
from models.errors import CandlewickError, InvalidMessage
from models.parquet_files import SUFFIX, Asked, folder_keys, is_asked, read_parquet
from models.places import Place, RemotePath, place
from models.series import timeframe_ms, timeframe_name
from models.series_rows import SeriesRows, united
from models.whole_file import PARTIAL

SUFFIXES = (*candle_csv.SUFFIXES, SUFFIX)
MAX_DEPTH = 8
"""Folders `key=value` in one another; more is a loop of links."""
MAX_READERS = 4
MIN_STEPS = 10
"""A series with fewer candles has no say in the timeframe where longer ones have."""
MAX_REJECTED = 1_000
MAX_REJECTED_SHARE = 0.01
FEW_REJECTED = 10
"""So many bad rows are dropped from any file, however short."""

logger = logging.getLogger(__name__)


class Judged(NamedTuple):
    """The candles of files, and what speaks against the files."""

    table: CandleTable  # lists at most 1,000 rejected rows a file
    rejections: Counter[tuple[str, str]]  # symbol and reason to the number of rows, complete
    refused: list[str]  # a sentence for each file with too many bad rows


def read_candles(paths: Sequence[Place], *, exchange: str = "binance", timeframe: str | None = None) -> CandleTable:
    """Read candles from files and folders (of their sub-folders only those that are named `key=value`).

    `timeframe` (`1m`, `4h`) defaults to the commonest spacing. Bad rows are dropped and listed in `rejected`. Of a
    dataset with several exchanges and timeframes, those named are read.

    Raises:
        CandlewickError: nothing to read, no header, several timeframes, or a file with too many bad rows: more than
            1,000, or more than 10 and 1 %.
    """
    table, _, refused = judge_candles(paths, exchange=exchange, timeframe=timeframe)
    if refused:
        raise CandlewickError(refused[0])
    return table


def judge_candles(paths: Sequence[Place], *, exchange: str = "binance", timeframe: str | None = None) -> Judged:
    """Read as `read_candles` does, but go on where a file has too many bad rows.

    Raises:
        CandlewickError: nothing to read, no header, several timeframes, or no usable row.
    """
    if not exchange or "|" in exchange:
        raise CandlewickError(f"{exchange!r} is no exchange that a key can name; give one like binance")
    files = _read_files(candle_paths(paths), Asked(exchange, timeframe))
    length_ms = _timeframe_ms(files, timeframe)
    for rows in files:
        judge_times(rows, length_ms)
    series = _join(files)
    refused = [sentence for rows in files for sentence in _refusal(rows)]
    if not series:
        empty = f"no usable candle in {_names([rows.file for rows in files])}{_first_bad(files)}"
        raise CandlewickError(refused[0] if refused else empty)
    rejected = [row for rows in files for row in _rejected(rows)]
    rejections = sum((rows.rejections() for rows in files), Counter[tuple[str, str]]())
    files.clear()
    return Judged(build_table(exchange, length_ms, series, rejected), rejections, refused)


def candle_paths(paths: Sequence[Place]) -> list[Place]:
    """The candle files behind files and folders, each once, in order.

    Raises:
        CandlewickError: a path does not exist, is no candle file, or is a folder without one.
    """
    found: dict[Place, Place] = {}  # where it really lies: as it was named
    for path in map(place, paths):
        if _told(path).is_dir():
            inside = _remote_files_in(path) if isinstance(path, RemotePath) else sorted(_files_in(path))
            if not inside:
                raise CandlewickError(
                    f"{path} holds no candle file; put *.csv, *.csv.xz or *.parquet files into it. Of its sub-folders, "
                    "only those named key=value are searched"
                )
            found.update((file.resolve(), file) for file in inside)
        elif not path.exists():
            raise CandlewickError(f"{path} does not exist; name a candle file or a folder of them")
        elif not path.name.endswith(SUFFIXES):
            raise CandlewickError(f"{path} is not a candle file; use csv, csv.xz or parquet")
        else:
            found[path.resolve()] = path
    if not found:
        raise CandlewickError("no candle files named; give at least one file or folder")
    return list(found.values())


def _told(path: Place) -> Place:
    """The same, once its store has answered.

    Raises:
        CandlewickError: it cannot be asked.
    """
    try:
        path.exists()
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror})"
        raise CandlewickError(f"{reason}; is the address right, and yours to read?") from error
    return path


def _remote_files_in(folder: RemotePath) -> list[Place]:
    """The same of an object store, which lists all that lies below at once."""
    inside = [(path, path.parts[len(folder.parts) : -1]) for path in folder.files()]
    fits = [path for path, between in inside if all("=" in part for part in between) and len(between) <= MAX_DEPTH]
    return [path for path in fits if path.name.endswith(SUFFIXES)]


def _files_in(folder: Path, depth: int = 0) -> Iterator[Path]:
    """The candle files of a folder and of its folders `key=value`; half-written ones are named and left out."""
    for path in folder.iterdir():
        if path.is_dir():
            if "=" in path.name and depth < MAX_DEPTH:
                yield from _files_in(path, depth + 1)
        elif path.name.endswith(SUFFIXES):
            yield path
        elif path.name.endswith(PARTIAL):
            logger.warning("half-written candle file left out path=%s; write it again, or delete it", path)


def _read_files(paths: Sequence[Place], asked: Asked) -> list[FileRows]:
    """The rows of every file that can hold what is asked for, judged one by one.

    Raises:
        CandlewickError: a file cannot be read, or the folders name other exchanges or timeframes only.
    """
    keys = {path: folder_keys(path) for path in paths}
    wanted = [path for path in paths if is_asked(keys[path], asked)]
    if not wanted:
        there = sorted({f"{own.get('exchange', '?')} {own.get('timeframe', '')}".strip() for own in keys.values()})
        raise CandlewickError(
            f"{_names(paths)}: no candles of {asked.exchange} {asked.timeframe or ''}".rstrip()
            + f"; the folders hold {', '.join(there)}: name one of these by --exchange and --timeframe"
        )
    with ThreadPoolExecutor(min(MAX_READERS, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda path: _read_file(path, asked), wanted))


def _read_file(path: Place, asked: Asked) -> FileRows:
    if path.suffix == SUFFIX:
        rows = read_parquet(path, asked)
    elif isinstance(path, Path):
        rows = candle_csv.read_csv(path)
    else:
        raise CandlewickError(f"{path} is no Parquet file; of a URL only those are read. Fetch it first")
    rows.timeframe = rows.timeframe or folder_keys(path).get("timeframe")
    judge_values(rows)
    put_in_order(rows)
    return rows


def _timeframe_ms(files: list[FileRows], timeframe: str | None) -> int:
    """The bar length asked for, the one that folders name, or the commonest; every file must agree on it."""
    timeframe = timeframe or _named_timeframe(files)
    votes: dict[int, Counter[Place]] = {}
    found = [(length, count, rows.file) for rows in files for length, count in spacings(rows)]
    for length, count, file in [vote for vote in found if vote[1] >= MIN_STEPS] or found:
        votes.setdefault(length, Counter())[file] += count
    if not (votes or timeframe):
        raise CandlewickError(_no_timeframe(files))
    try:
        chosen = timeframe_ms(timeframe) if timeframe else max(votes, key=lambda length: votes[length].total())
        name = timeframe_name(chosen)
        odd = "; ".join(f"{timeframe_name(length)} in {_names(votes[length])}" for length in votes if length != chosen)
    except InvalidMessage as error:
        raise CandlewickError(str(error)) from error
    except ValueError as error:
        raise CandlewickError(f"{error}: timestamp_ms must be the open time in UTC milliseconds") from error
    if odd:
        raise CandlewickError(
            f"candles of several timeframes: {name} expected, but {odd}; read one timeframe at a time"
        )
    return chosen


def _named_timeframe(files: list[FileRows]) -> str | None:
    """The one that folders or columns name, if they do.

    Raises:
        CandlewickError: they name several.
    """
    named = {rows.timeframe: rows.file for rows in files if rows.timeframe}
    if len({timeframe_ms(name) for name in named}) > 1:
        found = "; ".join(f"{name} in {file}" for name, file in named.items())
        raise CandlewickError(f"candles of several timeframes: {found}; name one of them by --timeframe")
    return next(iter(named), None)


def _no_timeframe(files: list[FileRows]) -> str:
    """Why no spacing could be told."""
    for rows in files:
        refusal = next(_refusal(rows), None)
        if refusal is not None:
            return refusal
    return f"{_names(rows.file for rows in files)}: too few candles to tell their timeframe; name it{_first_bad(files)}"


def _first_bad(files: list[FileRows]) -> str:
    """What is wrong with the first row that cannot be used, as the rest of a sentence."""
    for rows in files:
        for n in np.flatnonzero(rows.verdict)[:1].tolist():
            return f". {rows.file} {rows.unit} {rows.line[n]}: {rows.reason_of(n)}"
    return ""


def _join(files: list[FileRows]) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The good rows of each symbol from all files, in order of time."""
    parts: dict[str, list[tuple[FileRows, NDArray[np.intp]]]] = {}
    for rows in files:
        for symbol, numbers in rows.series():
            parts.setdefault(symbol, []).append((rows, numbers))
    return {symbol: _join_series(own) for symbol, own in parts.items()}


def _join_series(
    parts: list[tuple[FileRows, NDArray[np.intp]]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One symbol's candles; a time that an earlier file has already is rejected here.

    Where some file knows of revisions, they decide, and what they overrule was no mistake of its file.
    """
    if any(rows.revision is not None for rows, _ in parts):
        whole = united([_series_rows(rows, numbers) for rows, numbers in parts])
        return whole.open_time_ms, whole.ohlcv
    time = np.concatenate([rows.time_ms[numbers] for rows, numbers in parts])
    ohlcv = np.concatenate([rows.ohlcv[:, numbers] for rows, numbers in parts], axis=1)
    if (np.diff(time) > 0).all():
        return time, ohlcv
    order = np.argsort(time, kind="stable")
    again = np.zeros(len(time), bool)
    again[order[1:]] = np.diff(time[order]) == 0
    first = 0
    for rows, numbers in parts:
        rows.reject_at(numbers[again[first : first + len(numbers)]], ELSEWHERE)
        first += len(numbers)
    kept = order[~again[order]]
    return time[kept], ohlcv[:, kept]


def _series_rows(rows: FileRows, numbers: NDArray[np.intp]) -> SeriesRows:
    revision = np.zeros(len(rows.time_ms), np.int32) if rows.revision is None else rows.revision
    return SeriesRows(rows.time_ms[numbers], rows.ohlcv[:, numbers], revision[numbers])


def _refusal(rows: FileRows) -> Iterator[str]:
    """A sentence, if too much of a file was rejected to be an accident."""
    bad = np.flatnonzero(rows.verdict)
    if len(bad) <= min(MAX_REJECTED, max(FEW_REJECTED, MAX_REJECTED_SHARE * len(rows.verdict))):
        return
    empty = empty_columns(rows)
    if empty:
        yield f"{rows.file}: no number in the whole column {', '.join(empty)}; mend or leave out the file"
        return
    yield (
        f"{rows.file}: {len(bad)} of {len(rows.verdict)} rows cannot be used, "
        f"first {rows.unit} {rows.line[bad[0]]}: {rows.reason_of(bad[0])}; mend or leave out the file"
    )


def _rejected(rows: FileRows) -> list[RejectedRow]:
    """What was dropped of a file, by line; at most the first 1,000."""
    bad = np.flatnonzero(rows.verdict)[:MAX_REJECTED].tolist()
    return [RejectedRow(rows.file, int(rows.line[n]), rows.reason_of(n), rows.symbol(n)) for n in bad]


def _names(files: Iterable[Place]) -> str:
    unique = list(dict.fromkeys(map(str, files)))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")
