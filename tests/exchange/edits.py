"""What makes the exchange's story differ from the tape: bars that never were, bars without a trade, later corrections.

Enters: blocks of bars with their symbols and slots. Leaves: the same blocks, changed. Does not know: sockets, REST.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tests.exchange.tape import CLOSE, FIRST_ID, HIGH, LOW, OPEN, QUOTE, TRADES, VOLUME, Ints

Kind = Literal["no_rows", "zero_trade", "delist", "revision"]
FOR_EVER = 2**62


@dataclass
class Edit:
    """One change, of slots `first <= slot < stop` of the base grid."""

    kind: Kind
    symbols: frozenset[int] | None  # numbers of listings; None: all
    first: int
    stop: int = FOR_EVER  # set when the cause ends
    share: float = 1.0  # of the slots, chosen by a hash
    after_ms: int = 1_000  # a revision shows so long after its bar's close

    def mask(self, symbol: Ints, slot: Ints) -> NDArray[np.bool_]:
        """`(n,)`: which bars it touches."""
        inside = (slot >= self.first) & (slot < self.stop)
        if self.symbols is not None:
            inside = inside & np.isin(symbol, list(self.symbols))
        if self.share < 1:
            inside = inside & (chance(symbol, slot) < self.share)
        return np.asarray(inside)


def chance(symbol: Ints, slot: Ints) -> NDArray[np.float64]:
    """A number in [0, 1) that depends on nothing but symbol and slot: a truth must not change when asked again."""
    mixed = (symbol.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ (
        slot.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    )
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) / 2.0**53)


def without_trade(bars: Ints, touched: NDArray[np.bool_], price: Ints) -> None:
    """Make the touched bars of `(8, n)` what an exchange shows when nobody traded: the last price, and n = 0."""
    for row in (OPEN, HIGH, LOW, CLOSE):
        bars[row, touched] = price[touched]
    for row in (VOLUME, QUOTE, TRADES):
        bars[row, touched] = 0


def revised(bars: Ints, touched: NDArray[np.bool_]) -> None:
    """Add a late trade to the touched bars, which only volume and count show; a bar without trades stays as it is."""
    here = touched & (bars[TRADES] > 0)
    more = 1 + bars[VOLUME, here] // 64
    bars[VOLUME, here] += more
    bars[QUOTE, here] += more * bars[CLOSE, here]
    bars[TRADES, here] += 1


def last_id(bars: Ints) -> Ints:
    """`(n,)` id of each bar's last trade; meaningless where there was none."""
    return np.asarray(bars[FIRST_ID] + bars[TRADES] - 1)
