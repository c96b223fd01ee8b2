"""Real candles as whole numbers, so that sums and printed figures are exact.

Enters: candle files. Leaves: one `Tape`, the candles of some real symbols one after the other, without their times.
Does not know: the clock, and which names the pieces of it are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.candle_files import read_candles

SAMPLE = Path(__file__).parents[2] / "streaming" / "sample"
"""The project's own candles: the same on every machine, and read within a second."""

Ints = NDArray[np.int64]
OPEN, HIGH, LOW, CLOSE, VOLUME, QUOTE, TRADES, FIRST_ID = range(8)
"""Rows of every block of bars: `(8, n)` int64 in units of the symbol's own decimals."""
_FAME = ("BTC", "ETH", "BNB", "SOL", "XRP", "DOGE", "ADA", "AVAX", "LINK", "LTC", "SUI", "TRX", "NEAR")


@dataclass(frozen=True, eq=False)
class Tape:
    """`R` symbols' bars; symbol `i` has `lengths[i]` of them.

    A price is its number / 10^price_decimals, a volume / 10^volume_decimals, a quote volume / 10^(both together).
    """

    names: tuple[str, ...]  # BTC/USDT, the best known first
    bars: Ints  # (8, R, T)
    lengths: Ints  # (R,)
    price_decimals: tuple[int, ...]
    volume_decimals: tuple[int, ...]


@cache
def read_tape(paths: tuple[Path, ...]) -> Tape:
    """Read candle files; a missing bar is left out, since here only the order of bars matters.

    Raises:
        CandlewickError: no file, or none that can be read.
    """
    table = read_candles(list(paths))
    order = sorted(range(len(table.symbols)), key=lambda i: _rank(table.symbols[i]))
    pieces = [table.ohlcv[:, i, table.present[i]] for i in order]
    prices = tuple(decimals(piece[:4]) for piece in pieces)
    volumes = tuple(decimals(piece[4:]) for piece in pieces)
    lengths = np.array([piece.shape[1] for piece in pieces], dtype=np.int64)
    bars = np.zeros((8, len(order), int(lengths.max())), dtype=np.int64)
    for i, piece in enumerate(pieces):
        bars[:, i, : lengths[i]] = _whole(piece, prices[i], volumes[i])
    return Tape(tuple(table.symbols[i] for i in order), bars, lengths, prices, volumes)


def decimals(values: NDArray[np.float64]) -> int:
    """The fewest decimals, at most 8, with which every value can be written.

    >>> decimals(np.array([1.5, 2.25]))
    2
    """
    for places in range(8):
        scaled = values * 10.0**places
        if bool(np.all(np.abs(scaled - np.rint(scaled)) <= 1e-9 * np.maximum(1.0, np.abs(scaled)))):
            return places
    return 8


def _rank(symbol: str) -> tuple[int, str]:
    base = symbol.split("/", maxsplit=1)[0]
    return (_FAME.index(base) if base in _FAME else len(_FAME), symbol)


def _whole(piece: NDArray[np.float64], price_decimals: int, volume_decimals: int) -> Ints:
    """`(5, n)` prices and volumes into `(8, n)`; trades, which files do not tell, are made up from the volume."""
    rows = np.zeros((8, piece.shape[1]), dtype=np.int64)
    rows[OPEN : CLOSE + 1] = np.rint(piece[:4] * 10.0**price_decimals)
    rows[VOLUME] = np.rint(piece[4] * 10.0**volume_decimals)
    rows[QUOTE] = rows[OPEN : CLOSE + 1].sum(axis=0) // 4 * rows[VOLUME]
    index = np.arange(piece.shape[1])
    rows[TRADES] = np.where(rows[VOLUME] > 0, 8 + (rows[VOLUME] + 7_919 * index) % 997, 0)
    rows[FIRST_ID, 1:] = np.cumsum(rows[TRADES])[:-1]
    return rows
