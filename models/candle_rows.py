"""Which rows of a candle file can be used, and which bar length they have.

Enters: the columns of one file as read. Leaves: a reason against every row that cannot be used.
Does not know: how a file is read, or what other files hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.places import Place
from models.series import MONDAY_MS, WEEK_MS, canonical_symbol

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
COLUMNS = ("timestamp_ms", "symbol", *VALUES)
"""Of a candle file."""
MAX_SYMBOL_CHARS = 31
FAR_MS = 7_258_118_400_000
"""The year 2200: what lies beyond is in microseconds, as newer archives of exchanges are."""
MAX_REASONS = 1_000
"""So many different reasons are kept of a file; the rows beyond share the last one."""

BEFORE = "a row of this symbol and time came before"
ELSEWHERE = "an earlier file has this symbol and time"
ORDER = "out of order: a row of a later time came before"
GRID = "the timestamp is not on the grid of the timeframe"


@dataclass(eq=False)
class FileRows:
    """The N rows of one file, and what speaks against some of them."""

    file: Place
    time_ms: NDArray[np.int64]  # (N,) open times, UTC
    ohlcv: NDArray[np.float64]  # (5, N)
    symbol_of: NDArray[np.int32]  # (N,) into `symbols`
    symbols: list[str]  # as written; canonical once the values are judged
    line: NDArray[np.int64]  # (N,) counted from 1, a header included
    unit: str = "line"  # what `line` counts
    timeframe: str | None = None  # the file, or the folder it lies in, names it
    revision: NDArray[np.int32] | None = None  # (N,) of the same time in several files the highest stands; None: all 0
    passed_over: int = 0  # rows of other exchanges or timeframes, which were not asked for
    verdict: NDArray[np.int16] = field(init=False)  # (N,) 0: nothing speaks against it; else one of `reasons`
    reasons: list[str] = field(init=False, default_factory=lambda: [""])

    def __post_init__(self) -> None:
        self.verdict = np.zeros(len(self.time_ms), np.int16)

    @property
    def good(self) -> NDArray[np.bool_]:
        """`(N,)`: nothing speaks against the row."""
        return np.asarray(self.verdict == 0)

    def reject(self, bad: NDArray[np.bool_], reason: str) -> None:
        """Speak against rows `(N,)`; the first reason stands."""
        if bad.any():
            self.reject_at(np.flatnonzero(bad), reason)

    def reject_at(self, numbers: NDArray[np.intp], reason: str) -> None:
        """Speak against rows by number; the first reason stands."""
        fresh = numbers[self.verdict[numbers] == 0]
        if len(fresh):
            self.verdict[fresh] = self._code(reason)

    def _code(self, reason: str) -> int:
        if reason in self.reasons:
            return self.reasons.index(reason)
        if len(self.reasons) <= MAX_REASONS:
            self.reasons.append(reason)
        return len(self.reasons) - 1

    def reason_of(self, number: int) -> str:
        """What speaks against a row; empty where nothing does."""
        return self.reasons[int(self.verdict[number])]

    def symbol(self, number: int) -> str:
        """The symbol of a row."""
        return self.symbols[int(self.symbol_of[number])]

    def rejections(self) -> Counter[tuple[str, str]]:
        """How many rows of which symbol were rejected for which reason."""
        bad = np.flatnonzero(self.verdict)
        pairs, counts = np.unique(np.stack([self.symbol_of[bad], self.verdict[bad]]), axis=1, return_counts=True)
        found = zip(pairs.T.tolist(), counts.tolist(), strict=True)
        return Counter({(self.symbols[symbol], self.reasons[code]): count for (symbol, code), count in found})

    def series(self) -> Iterator[tuple[str, NDArray[np.intp]]]:
        """Each symbol with the numbers of its good rows, in the order of the file."""
        numbers = np.flatnonzero(self.good)
        owner = self.symbol_of[numbers]
        if len(numbers) and (owner == owner[0]).all():
            yield self.symbols[owner[0]], numbers
            return
        order = np.argsort(owner, kind="stable")
        cuts = np.flatnonzero(np.diff(owner[order])) + 1
        for own in np.split(numbers[order], cuts):
            if len(own):
                yield self.symbols[self.symbol_of[own[0]]], own


def judge_values(rows: FileRows) -> None:
    """Judge each row by itself: its numbers and its symbol. Two names of one symbol become one."""
    rows.reject(rows.time_ms >= FAR_MS, "the timestamp lies beyond the year 2200; it must be in UTC milliseconds")
    opening, high, low, close, volume = rows.ohlcv
    for name, column in zip(VALUES, rows.ohlcv, strict=True):
        rows.reject(~np.isfinite(column), f"{name} is not finite")
    rows.reject(np.asarray((rows.ohlcv[:4] <= 0).any(axis=0)), "a price is not above zero")
    rows.reject(volume < 0, "the volume is negative")
    rows.reject(high < low, "high is below low")
    outside = (np.maximum(opening, close) > high) | (np.minimum(opening, close) < low)
    rows.reject(outside, "open or close lies outside low..high")
    for code, name in enumerate(rows.symbols):
        try:
            rows.symbols[code] = _canonical(name)
        except ValueError as error:
            rows.reject(rows.symbol_of == code, str(error))
    _unite_symbols(rows)


def put_in_order(rows: FileRows) -> None:
    """Turn a file round that has the newest candle first, as some archives do; any other order is left as it is."""
    good = np.flatnonzero(rows.good)
    first = rows.time_ms[good[rows.symbol_of[good] == rows.symbol_of[good[:1]]]]
    if (np.diff(first[:2]) > 0).any():  # as nearly all are
        return
    times = [rows.time_ms[numbers] for _, numbers in rows.series()]
    if max(map(len, times), default=0) < 2 or any((np.diff(time) >= 0).any() for time in times):
        return
    rows.ohlcv = rows.ohlcv[:, ::-1]
    rows.time_ms, rows.symbol_of, rows.line = rows.time_ms[::-1], rows.symbol_of[::-1], rows.line[::-1]
    rows.verdict = rows.verdict[::-1]
    rows.revision = None if rows.revision is None else rows.revision[::-1]


def _unite_symbols(rows: FileRows) -> None:
    unique = list(dict.fromkeys(rows.symbols))
    if len(unique) < len(rows.symbols):
        rows.symbol_of = np.array([unique.index(name) for name in rows.symbols], np.int32)[rows.symbol_of]
        rows.symbols = unique


def spacings(rows: FileRows) -> Iterator[tuple[int, int]]:
    """The commonest step between candles of each symbol in the file, as (milliseconds, number of such steps)."""
    for _, numbers in rows.series():
        steps = np.diff(rows.time_ms[numbers])
        lengths, counts = np.unique(steps[steps > 0], return_counts=True)
        if len(lengths):
            yield int(lengths[counts.argmax()]), int(counts.max())


def judge_times(rows: FileRows, timeframe_ms: int) -> None:
    """Judge each row by its time: on the grid, and later than the good rows of its symbol before it."""
    time = rows.time_ms
    anchor = MONDAY_MS if timeframe_ms % WEEK_MS == 0 else 0
    rows.reject(time < 0, "the timestamp is negative")
    rows.reject((time - anchor) % timeframe_ms != 0, GRID)
    for _, numbers in rows.series():
        own = time[numbers]
        if (np.diff(own) > 0).all():
            continue
        latest_before = np.concatenate([[-1], np.maximum.accumulate(own)[:-1]])
        again = np.ones(len(own), bool)
        again[np.unique(own, return_index=True)[1]] = False
        rows.reject_at(numbers[again], BEFORE)
        rows.reject_at(numbers[~again & (own < latest_before)], ORDER)


def empty_columns(rows: FileRows) -> Sequence[str]:
    """The names of the columns that hold no number in any row that could be read."""
    read = rows.ohlcv[:, rows.time_ms >= 0]
    return [name for name, column in zip(VALUES, read, strict=True) if len(column) and np.isnan(column).all()]


def _canonical(name: str) -> str:
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= MAX_SYMBOL_CHARS) or "|" in name:
        raise ValueError(f"symbol {name[:40]!r} is not 1 to 31 ASCII characters, none of them a bar")
    return canonical_symbol(name)
