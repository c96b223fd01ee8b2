"""What the feature step remembers of every series: a struct of arrays, one row a series.

Enters: row numbers, and what happened to them. Leaves: a working copy (PLACES, n) to advance, and the last closes.
Does not know: what a feature is, or which series a row belongs to. Zeros are a cold row: no real close is 0.

Decaying averages live in `values`. Long spans are finite: sums over blocks of 60 slots aligned to event time, each
begun at zero, so nothing drifts and nothing older than 24 blocks (1,440 slots) has any influence.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = NDArray[np.intp]

# Places in the working copy. Neighbours that advance alike are kept side by side, so one operation advances them all.
LAST_CLOSE = 0
EMA_12, EMA_20, EMA_26, VOLUME_10, VOLUME_60, PARKINSON_10, PARKINSON_60, ATR_14 = range(1, 9)
VARIANCE_10, VARIANCE_60, GAIN_14, LOSS_14 = range(9, 13)
AVERAGES = slice(EMA_12, LOSS_14 + 1)  # the first 8 advance with every candle, the last 4 where the return is known
MACD_SIGNAL_9 = 13
# Sums over the current block, and over the whole blocks before it that belong to a span of 240 or 1,440 bars.
SQUARES, RETURNS, VOLUME, CANDLES = range(14, 18)  # squared returns, how many; volumes, how many
CURRENT_BLOCK = slice(SQUARES, CANDLES + 1)
SQUARES_240, SQUARES_1440, RETURNS_240, RETURNS_1440, VOLUME_240, CANDLES_240 = range(18, 24)
PLACES = 24

BLOCK_BARS = 60
BLOCKS = 24  # with the current one: spans of 181..240 and 1,381..1,440 slots
CLOSES = 20  # the closes Bollinger's bands need

_ALPHA = np.array(  # in the order of AVERAGES
    [2 / 13, 2 / 21, 2 / 27, 2 / 11, 2 / 61, 2 / 11, 2 / 61, 1 / 14, 2 / 11, 2 / 61, 1 / 14, 1 / 14]
)[:, None]
_MACD_SIGNAL_ALPHA = 2 / 10


class Candles(NamedTuple):
    """Columns of n PRESENT candles, at most one per series."""

    close_time_ms: Ints  # (n,) UTC
    timeframe_ms: Ints  # (n,)
    open: Floats  # (n,) and so the others; prices above 0, volume 0 or more, all finite
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class FeatureState:
    """The memory of `capacity` series; new rows are cold."""

    def __init__(self, capacity: int) -> None:
        self.last_slot: Ints = np.zeros(capacity, np.int64)
        self.values: Floats = np.zeros((capacity, PLACES))
        self.closes: Floats = np.zeros((capacity, CLOSES))  # by slot % 20; 0 is absent
        self.blocks: Floats = np.zeros((capacity, 4, BLOCKS))  # by block % 24
        self.block_numbers: Ints = np.zeros((capacity, BLOCKS), np.int64)

    @property
    def capacity(self) -> int:
        """How many rows there are."""
        return len(self.values)

    def grow(self, capacity: int) -> None:
        """Make room for at least `capacity` rows, at least doubling; what is known stays."""
        missing = max(capacity, 2 * self.capacity) - self.capacity
        if capacity <= self.capacity:
            return
        for name in ("last_slot", "values", "closes", "blocks", "block_numbers"):
            known = getattr(self, name)
            setattr(self, name, np.concatenate([known, np.zeros((missing, *known.shape[1:]), known.dtype)]))

    def reset(self, rows: Rows) -> None:
        """Make rows cold."""
        for array in (self.last_slot, self.values, self.closes, self.blocks, self.block_numbers):
            array[rows] = 0

    def advance(self, rows: Rows, candles: Candles) -> tuple[Floats, Floats, Floats]:
        """Move unique rows on by one candle each, over the absent slots between, if any.

        Returns:
            the memory (PLACES, n), a copy; the closes of the last 20 slots in no order, 0 where absent (20, n); and the
            log return (n,), 0 where the candle before is not known.
        """
        slot = candles.close_time_ms // candles.timeframe_ms
        last_slot = self.last_slot.take(rows)
        memory = np.ascontiguousarray(self.values.take(rows, axis=0).T)
        known = (last_slot == slot - 1) & (memory[LAST_CLOSE] > 0.0)  # the candle before
        closes = self._push_close(rows, slot, last_slot, candles.close)
        self._turn_blocks(rows, memory, slot // BLOCK_BARS, last_slot // BLOCK_BARS)
        log_return = _move(memory, known, candles)
        self.values[rows] = memory.T
        self.last_slot[rows] = slot
        return memory, closes, log_return

    def _push_close(self, rows: Rows, slot: Ints, last_slot: Ints, close: Floats) -> Floats:
        """Remember a close, clear the places of the slots skipped before it, and return the last 20."""
        skipped = slot - last_slot > 1
        if skipped.any():
            places = np.arange(CLOSES)
            age = (slot[skipped, None] - places) % CLOSES  # (m, 20)
            row, place = np.nonzero((age > 0) & (age < (slot - last_slot)[skipped, None]))
            self.closes[rows[skipped][row], place] = 0.0
        self.closes[rows, slot - slot // CLOSES * CLOSES] = close
        return np.ascontiguousarray(self.closes.take(rows, axis=0).T)

    def _turn_blocks(self, rows: Rows, memory: Floats, block: Ints, last_block: Ints) -> None:
        """Where a new block begins, put the last one away and sum up those that still belong to a span."""
        turning = block != last_block
        if not turning.any():
            return
        turned = np.flatnonzero(turning)
        at, place = rows[turned], last_block[turned] % BLOCKS
        self.blocks[at, :, place] = memory[CURRENT_BLOCK, turned].T
        self.block_numbers[at, place] = last_block[turned]
        sums, age = self.blocks[at], block[turned, None] - self.block_numbers[at]  # (m, 4, 24), (m, 24)
        short = (sums * (age < 4)[:, None]).sum(axis=2).T  # (4, m)
        long = (sums[:, :2] * (age < BLOCKS)[:, None]).sum(axis=2).T  # (2, m)
        memory[CURRENT_BLOCK, turned] = 0.0
        memory[[[SQUARES_240], [RETURNS_240], [VOLUME_240], [CANDLES_240]], turned] = short
        memory[[[SQUARES_1440], [RETURNS_1440]], turned] = long


def _move(memory: Floats, known: NDArray[np.bool_], candles: Candles) -> Floats:
    """Move averages and sums on by one candle; return the log return, 0 where the candle before is not known."""
    close, count = candles.close, len(candles.close)
    previous = np.where(known, memory[LAST_CLOSE], close)
    quotients = np.empty((2, count))
    np.divide(close, previous, out=quotients[0])
    np.divide(candles.high, candles.low, out=quotients[1])
    logs = np.log(quotients)  # the return and the range
    squares = logs * logs
    _move_averages(memory, known, candles, previous, squares)
    sums = np.empty((4, count))  # the order of CURRENT_BLOCK
    sums[0], sums[1], sums[2], sums[3] = squares[0], known, candles.volume, 1.0
    block = memory[CURRENT_BLOCK]
    block += sums
    memory[LAST_CLOSE] = close
    log_return: Floats = logs[0]
    return log_return


def _move_averages(
    memory: Floats, known: NDArray[np.bool_], candles: Candles, previous: Floats, squares: Floats
) -> None:
    """Move all exponential averages. Those of a cold row begin at its first candle."""
    averages, now = memory[AVERAGES], np.empty((12, len(previous)))
    now[:3] = candles.close
    now[3:5] = candles.volume
    now[5:7] = squares[1] / (4 * math.log(2))  # Parkinson's variance
    np.subtract(np.maximum(candles.high, previous), np.minimum(candles.low, previous), out=now[7])  # true range
    now[8:10] = squares[0]
    change = candles.close - previous
    np.maximum(change, 0.0, out=now[10])
    np.subtract(now[10], change, out=now[11])
    cold = memory[LAST_CLOSE] == 0.0
    if cold.any():
        averages[:8, cold] = now[:8, cold]
        averages[8:10, cold] = now[5, cold]  # for want of a return
    now -= averages
    now *= _ALPHA
    now[8:] *= known
    averages += now
    memory[MACD_SIGNAL_9] += _MACD_SIGNAL_ALPHA * (averages[0] - averages[2] - memory[MACD_SIGNAL_9])
