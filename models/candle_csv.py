"""A csv file into rows, block by block: quickly where a block reads as a whole, row by row where one does not.

Enters: a csv or csv.xz file with a header. Leaves: `FileRows`, every row with its line number.
Does not know: whether its candles make sense.
"""

from __future__ import annotations

import csv
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrow_columns import numbers_of, symbols_of
from models.candle_rows import COLUMNS, VALUES, FileRows
from models.errors import CandlewickError

SUFFIXES = (".csv", ".csv.xz")
BLOCK_BYTES = 4_194_304
"""What is read at once, and the longest line: some 60,000 rows, so that a bad one costs a quarter of a second."""
MAX_TIME_MS = 2**53


class Block(NamedTuple):
    """Rows `(n,)` of a file; `symbol_of` points into the names found so far."""

    time_ms: NDArray[np.int64]
    ohlcv: NDArray[np.float64]  # (5, n)
    symbol_of: NDArray[np.int32]
    line: NDArray[np.int64]
    unreadable: dict[int, str]  # number in the block to what is wrong with it


class Layout(NamedTuple):
    """Where the columns of a candle stand."""

    width: int
    at: tuple[int, ...]  # of COLUMNS


def read_csv(path: Path) -> FileRows:
    """Read one file; a row that cannot be read is kept with its reason, a blank line is passed over.

    Raises:
        CandlewickError: the file cannot be read, is cut short, or does not start with the header.
    """
    names: dict[str, int] = {}
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            layout = _layout(path, file.readline(BLOCK_BYTES))
            blocks = [_block(text, line, layout, names) for line, text in _texts(file)]
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise CandlewickError(f"{path} cannot be read ({error}); fetch or write it again") from error
    return _joined(path, blocks, names)


def _layout(path: Path, header: bytes) -> Layout:
    names = [name.strip().strip('"') for name in header.decode("utf-8-sig").split(",")]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise CandlewickError(
            f"{path}: the first line has no column {', '.join(missing)}; "
            f"a candle file starts with the header {','.join(COLUMNS)}"
        )
    return Layout(len(names), tuple(names.index(name) for name in COLUMNS))


def _texts(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Whole lines, some megabytes at a time, with the number of the first."""
    line, rest = 2, b""
    while piece := file.read(BLOCK_BYTES):
        whole, newline, tail = piece.rpartition(b"\n")
        if not newline:
            rest += tail
            if len(rest) > BLOCK_BYTES:
                raise OSError(f"line {line} is longer than {BLOCK_BYTES:,} bytes")
            continue
        text = rest + whole + newline
        yield line, text
        line, rest = line + text.count(b"\n"), tail
    if rest:
        yield line, rest


def _block(text: bytes, line: int, layout: Layout, names: dict[str, int]) -> Block:
    return _at_once(text, line, layout, names) or _row_by_row(text, line, layout, names)


def _at_once(text: bytes, line: int, layout: Layout, names: dict[str, int]) -> Block | None:
    """All rows, or None where one cannot be read or a line is blank, so that line numbers could not be told."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    head = [str(i) for i in range(layout.width)]
    time, symbol, *values = (head[i] for i in layout.at)
    types = {time: pa.int64(), symbol: pa.dictionary(pa.int32(), pa.string()), **dict.fromkeys(values, pa.float64())}
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(text),
            arrow_csv.ReadOptions(column_names=head, block_size=len(text) + 1),
            arrow_csv.ParseOptions(ignore_empty_lines=False),
            arrow_csv.ConvertOptions(column_types=types, include_columns=[time, symbol, *values], null_values=[""]),
        )
    except pa.ArrowInvalid:
        return None
    rows = text.count(b"\n") + (not text.endswith(b"\n"))
    if table.num_rows != rows or table[time].null_count:
        return None
    ohlcv = np.stack([numbers_of(table[name]) for name in values])
    open_time_ms = table[time].to_numpy()
    if (np.abs(open_time_ms) >= MAX_TIME_MS).any():
        return None
    return Block(open_time_ms, ohlcv, symbols_of(table[symbol], names), np.arange(line, line + rows), {})


def _row_by_row(text: bytes, line: int, layout: Layout, names: dict[str, int]) -> Block:
    """The same in twenty times the time."""
    parsed: list[tuple[float, ...]] = []
    lines: list[int] = []
    unreadable: dict[int, str] = {}
    for number, cells in _cells(text):
        try:
            parsed.append(_row([cells[i].strip() for i in layout.at], names))
        except (IndexError, ValueError) as error:
            unreadable[len(parsed)] = f"not a candle: {error}"
            parsed.append((-1, names.setdefault("", len(names)), *[np.nan] * len(VALUES)))
        lines.append(line + number)
    row = np.array(parsed, np.float64).reshape(len(parsed), len(COLUMNS))
    return Block(
        row[:, 0].astype(np.int64), row[:, 2:].T, row[:, 1].astype(np.int32), np.array(lines, np.int64), unreadable
    )


def _cells(text: bytes) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank, each for itself: a quote that is never closed spoils one line only."""
    for number, line in enumerate(text.decode("utf-8").split("\n")):
        try:
            cells = next(csv.reader([line.rstrip("\r")]), [])
        except csv.Error:
            cells = [line]
        if any(cell.strip() for cell in cells):
            yield number, cells


def _row(cells: list[str], names: dict[str, int]) -> tuple[float, ...]:
    time = _number(cells[0])
    if not time.is_integer() or abs(time) >= MAX_TIME_MS:
        raise ValueError(f"timestamp_ms {cells[0]!r} is not a time in UTC milliseconds")
    values = [float(cell) if cell else np.nan for cell in cells[2:]]
    return (time, names.setdefault(cells[1], len(names)), *values)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _joined(path: Path, blocks: list[Block], names: dict[str, int]) -> FileRows:
    """All blocks of a file as one."""
    if not blocks:
        blocks = [Block(np.empty(0, np.int64), np.empty((5, 0)), np.empty(0, np.int32), np.empty(0, np.int64), {})]
    time_ms, ohlcv, symbol_of, line, unreadable = zip(*blocks, strict=True)
    rows = FileRows(
        path,
        np.concatenate(time_ms),
        np.concatenate(ohlcv, axis=1),
        np.concatenate(symbol_of),
        list(names),
        np.concatenate(line),
    )
    first = 0
    for own, bad in zip(time_ms, unreadable, strict=True):
        for number, reason in bad.items():
            rows.reject_at(np.array([first + number]), reason)
        first += len(own)
    return rows
