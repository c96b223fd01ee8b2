"""Candle files of any origin into one table: csv and csv.xz with a header, open times in UTC milliseconds.

Enters: files or folders. Leaves: a `CandleTable` with a list of the rows it could not use.
Does not know: what the candles are for.
"""

from __future__ import annotations

import csv
import io
import itertools
import lzma
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.candle_rows import PRICES, ROW, FileRows, judge_times, judge_values, spacings
from models.candle_table import CandleTable, RejectedRow, build_table
from models.errors import CandlewickError, InvalidMessage
from models.series import timeframe_ms, timeframe_name

COLUMNS = ("timestamp_ms", "symbol", *PRICES, "volume")
SUFFIXES = (".csv", ".csv.xz")
MAX_TIME_MS = 2**53
MIN_STEPS = 10
"""A series with fewer candles has no say in the timeframe where longer ones have."""
MAX_REJECTED = 1_000
MAX_REJECTED_SHARE = 0.01
FEW_REJECTED = 10
"""So many bad rows are dropped from any file, however short."""


def read_candles(paths: Sequence[Path], *, exchange: str = "binance", timeframe: str | None = None) -> CandleTable:
    """Read candles from files and folders (not their sub-folders).

    `timeframe` (`1m`, `4h`) defaults to the commonest spacing. Bad rows are dropped and listed in `rejected`.

    Raises:
        CandlewickError: nothing to read, no header, several timeframes, or a file with too many bad rows: more than
            1,000, or more than 10 and 1 %.
    """
    files = [_read_file(path) for path in candle_paths(paths)]
    length_ms = _timeframe_ms(files, timeframe)
    for rows in files:
        judge_times(rows, length_ms)
    series = _join(files)
    rejected = [bad for rows in files for bad in _rejected(rows)]
    if not series:
        raise CandlewickError(f"no usable candle in {_names([rows.file for rows in files])}; are the files empty?")
    return build_table(exchange, length_ms, series, rejected)


def candle_paths(paths: Sequence[Path]) -> list[Path]:
    """The candle files behind files and folders, each once, in order.

    Raises:
        CandlewickError: a path does not exist, is no candle file, or is a folder without one.
    """
    found: dict[Path, Path] = {}  # where it really lies: as it was named
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and p.name.endswith(SUFFIXES))
            if not inside:
                raise CandlewickError(f"{path} holds no candle file; put *.csv or *.csv.xz files into it")
            found.update((file.resolve(), file) for file in inside)
        elif not path.exists():
            raise CandlewickError(f"{path} does not exist; name a candle file or a folder of them")
        elif not path.name.endswith(SUFFIXES):
            raise CandlewickError(f"{path} is not a candle file; use csv or csv.xz")
        else:
            found[path.resolve()] = path
    if not found:
        raise CandlewickError("no candle files named; give at least one file or folder")
    return list(found.values())


def _read_file(path: Path) -> FileRows:
    text = _text(path)
    header, _, body = text.partition("\n")
    names = [name.strip().strip('"') for name in header.split(",")]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise CandlewickError(
            f"{path}: the first line has no column {', '.join(missing)}; "
            f"a candle file starts with the header {','.join(COLUMNS)}"
        )
    columns = tuple(names.index(name) for name in COLUMNS)
    row = _parse_at_once(body, columns)
    rows = _parse_row_by_row(path, text, columns) if row is None else FileRows(path, row, np.arange(2, len(row) + 2))
    judge_values(rows)
    return rows


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if path.suffix == ".xz":
            raw = lzma.decompress(raw)
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise CandlewickError(f"{path} cannot be read ({error}); fetch or write it again") from error


def _parse_at_once(body: str, columns: tuple[int, ...]) -> NDArray[np.void] | None:
    """All rows, or None where one cannot be read or a line is blank, so that line numbers could not be told."""
    if not body.strip():
        return np.empty(0, ROW)
    try:
        rows = np.loadtxt(io.StringIO(body), ROW, comments=None, delimiter=",", usecols=columns, quotechar='"', ndmin=1)
    except ValueError:
        return None
    return rows if len(rows) == body.count("\n") + (not body.endswith("\n")) else None


def _parse_row_by_row(path: Path, text: str, columns: tuple[int, ...]) -> FileRows:
    """The same in ten times the time; a row that cannot be read is kept with its reason."""
    parsed: list[tuple[object, ...]] = []
    lines: list[int] = []
    unreadable: dict[int, str] = {}
    reader = csv.reader(text.splitlines())
    for cells in itertools.islice(reader, 1, None):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            parsed.append(_parse_row([cells[i].strip() for i in columns]))
        except (IndexError, ValueError) as error:
            unreadable[len(parsed)] = f"not a candle: {error}"
            parsed.append((-1, b"", 0.0, 0.0, 0.0, 0.0, 0.0))
        lines.append(reader.line_num)
    rows = FileRows(path, np.array(parsed, ROW), np.array(lines, np.int64))
    for number, reason in unreadable.items():
        rows.reject_at(np.array([number]), reason)
    return rows


def _parse_row(cells: list[str]) -> tuple[object, ...]:
    time = float(cells[0])
    if not time.is_integer() or abs(time) >= MAX_TIME_MS:
        raise ValueError(f"timestamp_ms {cells[0]!r} is not a time in milliseconds")
    return (int(time), cells[1].encode(), *map(float, cells[2:]))


def _timeframe_ms(files: list[FileRows], timeframe: str | None) -> int:
    """The bar length asked for, or the commonest; every file must agree on it."""
    votes: dict[int, Counter[Path]] = {}
    found = [(length, count, rows.file) for rows in files for length, count in spacings(rows)]
    for length, count, file in [vote for vote in found if vote[1] >= MIN_STEPS] or found:
        votes.setdefault(length, Counter())[file] += count
    if not (votes or timeframe):
        raise CandlewickError(
            f"{_names(rows.file for rows in files)}: too few candles to tell their timeframe; name it"
        )
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
    """One symbol's candles; a time that an earlier file has already is rejected here."""
    seen = np.empty(0, np.int64)
    kept: list[NDArray[np.void]] = []
    for rows, numbers in parts:
        again = np.isin(rows.row["timestamp_ms"][numbers], seen)
        rows.reject_at(numbers[again], "an earlier file has this symbol and time")
        kept.append(rows.row[numbers[~again]])
        seen = np.concatenate([seen, kept[-1]["timestamp_ms"]])
    row = np.concatenate(kept)
    row = row[np.argsort(row["timestamp_ms"], kind="stable")]
    return row["timestamp_ms"].copy(), np.stack([row[name] for name in (*PRICES, "volume")])


def _rejected(rows: FileRows) -> list[RejectedRow]:
    """What was dropped of a file, by line.

    Raises:
        CandlewickError: it is too much to be an accident.
    """
    bad = [RejectedRow(rows.file, int(rows.line[number]), rows.reasons[number]) for number in sorted(rows.reasons)]
    if len(bad) > min(MAX_REJECTED, max(FEW_REJECTED, MAX_REJECTED_SHARE * len(rows.row))):
        raise CandlewickError(
            f"{rows.file}: {len(bad)} of {len(rows.row)} rows cannot be used, "
            f"first line {bad[0].line}: {bad[0].reason}; mend or leave out the file"
        )
    return bad


def _names(files: Iterable[Path]) -> str:
    unique = list(dict.fromkeys(map(str, files)))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")
