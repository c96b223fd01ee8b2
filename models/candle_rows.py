"""Which rows of a candle file can be used, and which bar length they have.

Enters: the columns of one file as read. Leaves: a reason against every row that cannot be used.
Does not know: how a file is read, or what other files hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.series import canonical_symbol

PRICES = ("open", "high", "low", "close")
ROW = np.dtype([("timestamp_ms", "i8"), ("symbol", "S32"), *((name, "f8") for name in (*PRICES, "volume"))])
WEEK_MS = 604_800_000
MONDAY_MS = 345_600_000
"""1970-01-05, the first Monday: weekly bars open on Mondays, while the epoch began on a Thursday."""


@dataclass(eq=False)
class FileRows:
    """The N rows of one file, and what speaks against some of them."""

    file: Path
    row: NDArray[np.void]  # (N,) of ROW
    line: NDArray[np.int64]  # (N,) counted from 1, the header included
    good: NDArray[np.bool_] = field(init=False)  # (N,) nothing speaks against it
    reasons: dict[int, str] = field(init=False, default_factory=dict)  # row number to the first reason against it
    symbols: list[str] = field(init=False)  # canonical
    symbol_of: NDArray[np.intp] = field(init=False)  # (N,) into `symbols`

    def __post_init__(self) -> None:
        self.good = np.ones(len(self.row), bool)
        names, self.symbol_of = np.unique(self.row["symbol"], return_inverse=True)
        self.symbols = [name.decode("latin-1").strip() for name in names.tolist()]

    def reject(self, bad: NDArray[np.bool_], reason: str) -> None:
        """Speak against rows `(N,)` that were good so far."""
        self.reject_at(np.flatnonzero(bad & self.good), reason)

    def reject_at(self, numbers: NDArray[np.intp], reason: str) -> None:
        """Speak against rows by number."""
        self.good[numbers] = False
        for number in numbers.tolist():
            self.reasons.setdefault(number, reason)

    def series(self) -> Iterator[tuple[str, NDArray[np.intp]]]:
        """Each symbol with the numbers of its good rows, in the order of the file."""
        numbers = np.flatnonzero(self.good)
        owner = self.symbol_of[numbers]
        order = np.argsort(owner, kind="stable")
        cuts = np.flatnonzero(np.diff(owner[order])) + 1
        for own in np.split(numbers[order], cuts):
            if len(own):
                yield self.symbols[self.symbol_of[own[0]]], own


def judge_values(rows: FileRows) -> None:
    """Judge each row by itself: its numbers and its symbol."""
    row = rows.row
    prices = np.stack([row[name] for name in PRICES])  # (4, N)
    top, bottom = np.maximum(row["open"], row["close"]), np.minimum(row["open"], row["close"])
    rows.reject(~(np.isfinite(prices).all(0) & np.isfinite(row["volume"])), "a price or the volume is not finite")
    rows.reject(np.any(prices <= 0, axis=0), "a price is not above zero")
    rows.reject(row["volume"] < 0, "the volume is negative")
    rows.reject(row["high"] < row["low"], "high is below low")
    rows.reject((top > row["high"]) | (bottom < row["low"]), "open or close lies outside low..high")
    for i, name in enumerate(rows.symbols):
        try:
            rows.symbols[i] = _canonical(name)
        except ValueError as error:
            rows.reject(rows.symbol_of == i, str(error))


def spacings(rows: FileRows) -> Iterator[tuple[int, int]]:
    """The commonest step between candles of each symbol in the file, as (milliseconds, number of such steps)."""
    for _, numbers in rows.series():
        steps = np.diff(rows.row["timestamp_ms"][numbers])
        lengths, counts = np.unique(steps[steps > 0], return_counts=True)
        if len(lengths):
            yield int(lengths[counts.argmax()]), int(counts.max())


def judge_times(rows: FileRows, timeframe_ms: int) -> None:
    """Judge each row by its time: on the grid, and later than the good rows of its symbol before it."""
    time = rows.row["timestamp_ms"]
    anchor = MONDAY_MS if timeframe_ms % WEEK_MS == 0 else 0
    rows.reject(time < 0, "the timestamp is negative")
    rows.reject((time - anchor) % timeframe_ms != 0, "the timestamp is not on the grid of the timeframe")
    for _, numbers in rows.series():
        own = time[numbers]
        latest_before = np.concatenate([[-1], np.maximum.accumulate(own)[:-1]])
        again = np.ones(len(own), bool)
        again[np.unique(own, return_index=True)[1]] = False
        rows.reject_at(numbers[again], "a row of this symbol and time came before")
        rows.reject_at(numbers[~again & (own < latest_before)], "out of order: a row of a later time came before")


def _canonical(name: str) -> str:
    if not name.isascii() or not name or len(name) >= ROW["symbol"].itemsize:
        raise ValueError(f"symbol {name!r} is not 1 to 31 ASCII characters")
    return canonical_symbol(name)
