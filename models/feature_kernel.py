"""The memory of a series moved on by one candle, and every feature at its close: the formulas, compiled.

Enters: the memory of all series, and candles, at most one a series. Leaves: the memory moved on, features, volatility.
Does not know: absent candles (it sees the slot jump), symbols, windows, models, or if it runs live or over history.

Decaying averages live in `values`. Long spans are finite: sums over blocks of 60 slots aligned to event time, each
begun at zero, so nothing drifts and nothing older than 24 blocks (1,440 slots) has any influence.

Source: volatilities over several spans, Corsi 2009 (A Simple Approximate Long-Memory Model of Realized Volatility);
the range estimator, Parkinson 1980; RSI and ATR, Wilder 1978; bands, Bollinger 2001; MACD, Appel 2005.
"""

from __future__ import annotations

import math

import numpy as np

from models.compiled import U, compiled, helper

# Places in the memory of a series.
LAST_CLOSE = 0
_EMA_12, _EMA_20, _EMA_26, _VOLUME_10, _VOLUME_60, _PARKINSON_10, _PARKINSON_60, _ATR_14 = range(1, 9)
_VARIANCE_10, _VARIANCE_60, _GAIN_14, _LOSS_14, _MACD_SIGNAL_9 = range(9, 14)
# Sums over the current block, and over the whole blocks before it that belong to a span of 240 or 1,440 bars.
_SQUARES, _RETURNS, _VOLUME, _CANDLES = range(14, 18)  # squared returns, how many; volumes, how many
_SQUARES_240, _SQUARES_1440, _RETURNS_240, _RETURNS_1440, _VOLUME_240, _CANDLES_240 = range(18, 24)
PLACES = 24

SUMS = 4
BLOCK_BARS = 60
BLOCKS = 24  # with the current one: spans of 181..240 and 1,381..1,440 slots
_SHORT_BLOCKS = 4
CLOSES = 20  # the closes Bollinger's bands need

_WILDER = 1 / 14
_LEAST_VARIANCE = 1e-12  # of a 1-bar log return: a volatility of 0.01 bps
_LEAST_SHARE = 0.04  # of the variance over 1,440 slots: no volatility falls below a fifth of that one
_LEAST_PARKINSON = 1e-14
_LEAST_VOLUME_RATIO = 1e-3
_TINY = float(np.finfo(np.float64).tiny)  # divides nothing by nothing; no volume is as small
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000


@helper
def _average(memory, place, span, value):
    """Move an exponential average of this span; alpha = 2 / (span + 1)."""
    memory[place] += 2.0 / (span + 1.0) * (value - memory[place])


@helper
def _wilder(memory, place, value):
    memory[place] += _WILDER * (value - memory[place])


@helper
def _push_close(closes, slot, last_slot, close):
    """Remember a close by its slot, and clear the places of the slots skipped before it; 0 is absent."""
    for age in range(1, min(slot - last_slot, CLOSES)):
        closes[U((slot - age) % CLOSES)] = 0.0
    closes[U(slot % CLOSES)] = close


@helper
def _turn_block(memory, blocks, numbers, block, last_block):
    """Put the last block away, and sum up those that still belong to a span."""
    place = U(last_block % BLOCKS)
    for which in range(SUMS):
        blocks[which, place] = memory[_SQUARES + which]
        memory[_SQUARES + which] = 0.0
    numbers[place] = last_block
    for which in range(_SQUARES_240, _CANDLES_240 + 1):
        memory[which] = 0.0
    for at in range(U(BLOCKS)):
        age = block - numbers[at]
        if age < _SHORT_BLOCKS:
            memory[_SQUARES_240] += blocks[0, at]
            memory[_RETURNS_240] += blocks[1, at]
            memory[_VOLUME_240] += blocks[2, at]
            memory[_CANDLES_240] += blocks[3, at]
        if age < BLOCKS:
            memory[_SQUARES_1440] += blocks[0, at]
            memory[_RETURNS_1440] += blocks[1, at]


@helper
def _move(memory, known, high, low, close, volume):
    """Move averages and sums on by one candle; the log return, 0 where the candle before is not known.

    Averages of a cold row begin at its first candle. After a gap the return moves neither variance nor RSI.
    """
    cold = memory[LAST_CLOSE] == 0.0
    previous = memory[LAST_CLOSE] if known else close
    log_return, log_range = math.log(close / previous), math.log(high / low)
    square = log_return * log_return
    parkinson = log_range * log_range / (4.0 * math.log(2.0))
    true_range = max(high, previous) - min(low, previous)
    if cold:
        memory[_EMA_12] = memory[_EMA_20] = memory[_EMA_26] = close
        memory[_VOLUME_10] = memory[_VOLUME_60] = volume
        memory[_PARKINSON_10] = memory[_PARKINSON_60] = parkinson
        memory[_ATR_14] = true_range
        memory[_VARIANCE_10] = memory[_VARIANCE_60] = parkinson  # for want of a return
    _average(memory, _EMA_12, 12, close)
    _average(memory, _EMA_20, 20, close)
    _average(memory, _EMA_26, 26, close)
    _average(memory, _VOLUME_10, 10, volume)
    _average(memory, _VOLUME_60, 60, volume)
    _average(memory, _PARKINSON_10, 10, parkinson)
    _average(memory, _PARKINSON_60, 60, parkinson)
    _wilder(memory, _ATR_14, true_range)
    if known:
        change = close - previous
        _average(memory, _VARIANCE_10, 10, square)
        _average(memory, _VARIANCE_60, 60, square)
        _wilder(memory, _GAIN_14, max(change, 0.0))
        _wilder(memory, _LOSS_14, max(change, 0.0) - change)
        memory[_RETURNS] += 1.0
    _average(memory, _MACD_SIGNAL_9, 9, memory[_EMA_12] - memory[_EMA_26])
    memory[_SQUARES] += square
    memory[_VOLUME] += volume
    memory[_CANDLES] += 1.0
    memory[LAST_CLOSE] = close
    return log_return


@helper
def _bollinger(closes, close, unit):
    """Distance to the mean close of the last 20 slots, over two population standard deviations: 2 %b - 1."""
    total, squares, count = 0.0, 0.0, 0
    for at in range(U(CLOSES)):
        if closes[at] > 0.0:
            distance = closes[at] - close  # from the close, so that the squares keep their digits
            total += distance
            squares += distance * distance
            count += 1
    mean = total / count
    variance = max(squares / count - mean * mean, 0.0)
    return -mean / (2.0 * math.sqrt(variance) + 0.05 * unit)


@helper
def _describe_ratios(memory, volume, variance_10, variance_60, variance_240, variance_1440, out):
    """Log ratios of volatilities and volumes.

    Volatilities (10, 240, 1,440) and Parkinson's (10, 60) to that over 60; the average volume over 10 to that over 240;
    this volume to the average over 60. Those of volume are 0 where nothing traded within 240 bars.
    """
    out[13] = 0.5 * math.log(variance_10 / variance_60)
    out[14] = 0.5 * math.log(variance_240 / variance_60)
    out[15] = 0.5 * math.log(variance_1440 / variance_60)
    out[16] = 0.5 * math.log((memory[_PARKINSON_10] + _LEAST_PARKINSON) / variance_60)
    out[17] = 0.5 * math.log((memory[_PARKINSON_60] + _LEAST_PARKINSON) / variance_60)
    total = memory[_VOLUME_240] + memory[_VOLUME]
    out[18] = out[5] = 0.0
    if total > 0.0:
        average = total / (memory[_CANDLES_240] + memory[_CANDLES])
        out[18] = math.log(memory[_VOLUME_10] / max(average, _TINY) + _LEAST_VOLUME_RATIO)
        out[5] = math.log(volume / max(memory[_VOLUME_60], _TINY) + _LEAST_VOLUME_RATIO)


@helper
def _describe_momentum(memory, close, unit, out):
    """RSI less 50 over 20; in units of the true range: MACD 12/26, its histogram (9), distance to EMA 20."""
    gain, loss = memory[_GAIN_14], memory[_LOSS_14]
    # The last term is seen only where a price stands still so long that its past must be forgotten.
    out[6] = 2.5 * (gain - loss) / (gain + loss + 1e-6 * unit)
    true_range = max(memory[_ATR_14], 0.2 * unit)
    macd = memory[_EMA_12] - memory[_EMA_26]
    out[7] = macd / true_range
    out[8] = (macd - memory[_MACD_SIGNAL_9]) / true_range
    out[9] = (close - memory[_EMA_20]) / true_range


@helper
def _describe_clock(close_time_ms, out):
    """Where the close lies in the UTC day (two harmonics) and in the hour."""
    day = (close_time_ms % _DAY_MS) * (2.0 * math.pi / _DAY_MS)
    hour = (close_time_ms % _HOUR_MS) * (2.0 * math.pi / _HOUR_MS)
    day_sin, day_cos = math.sin(day), math.cos(day)
    out[11], out[12] = day_sin, day_cos
    out[19], out[20] = 2.0 * day_sin * day_cos, 1.0 - 2.0 * day_sin * day_sin
    out[21], out[22] = math.sin(hour), math.cos(hour)


@compiled(
    "void(i8[::1], f8[:, ::1], f8[:, ::1], f8[:, :, ::1], i8[:, ::1], i8[:], i8[:], i8[:], f8[:], f8[:], f8[:], f8[:], "
    "f8[:], b1, f4[:, ::1], f8[::1])"
)
def advance(
    last_slot, values, closes, blocks, block_numbers,
    rows, close_time_ms, timeframe_ms, opens, highs, lows, closing, volumes, describe, features, volatility,
):  # fmt: skip
    """Move unique rows on by one candle each, over the absent slots between, if any.

    Args:
        last_slot, values, closes, blocks, block_numbers: the memory of all rows (`models.feature_state`).
        rows: (n,), and the columns of their candles.
        describe: whether to fill what follows.
        features: (n, F) in the order of the catalogue.
        volatility: (n,) trailing standard deviation of 1-bar log returns, span 60.
    """
    clock_ms = np.int64(-1)
    for i in range(U(len(rows))):
        row = U(rows[i])
        memory, close = values[row], closing[i]
        slot, last = close_time_ms[i] // timeframe_ms[i], last_slot[row]
        known = last == slot - 1 and memory[LAST_CLOSE] > 0.0  # the candle before
        _push_close(closes[row], slot, last, close)
        if slot // BLOCK_BARS != last // BLOCK_BARS:
            _turn_block(memory, blocks[row], block_numbers[row], slot // BLOCK_BARS, last // BLOCK_BARS)
        log_return = _move(memory, known, highs[i], lows[i], close, volumes[i])
        last_slot[row] = slot
        if not describe:
            continue
        variance_240 = (memory[_SQUARES_240] + memory[_SQUARES]) / max(memory[_RETURNS_240] + memory[_RETURNS], 1.0)
        variance_1440 = (memory[_SQUARES_1440] + memory[_SQUARES]) / max(memory[_RETURNS_1440] + memory[_RETURNS], 1.0)
        least = max(_LEAST_SHARE * variance_1440, _LEAST_VARIANCE)
        variance_60 = max(memory[_VARIANCE_60], least)
        deviation = math.sqrt(variance_60)
        unit = close * deviation  # the typical move of one bar, in price
        out = features[i]
        out[0] = log_return / deviation
        out[1] = (highs[i] - lows[i]) / unit
        out[2] = (close - opens[i]) / unit
        out[3] = (highs[i] - max(opens[i], close)) / unit
        out[4] = (min(opens[i], close) - lows[i]) / unit
        _describe_momentum(memory, close, unit, out)
        out[10] = _bollinger(closes[row], close, unit)
        _describe_ratios(
            memory, volumes[i], max(memory[_VARIANCE_10], least), variance_60, max(variance_240, least),
            max(variance_1440, least), out,
        )  # fmt: skip
        if close_time_ms[i] != clock_ms:
            clock_ms = close_time_ms[i]
            _describe_clock(clock_ms, out)
        else:  # as of the one before
            for at in range(11, 13):
                out[at] = features[i - U(1), at]
            for at in range(19, 23):
                out[at] = features[i - U(1), at]
        volatility[i] = deviation
