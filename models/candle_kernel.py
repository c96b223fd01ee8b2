"""Candles as our own encoder writes them, read without an object for any of them.

Enters: the JSON of many candles side by side. Leaves: columns, and which records it could read and found sound. Does
not know: why it could not read the others: whoever calls has them decoded one by one, at twenty times the cost.

It takes the fields in the order of `models.events.Candle`, without blanks, and only numbers whose decimal digits make
one exact operation of a float: a whole number up to 2^53, times or divided by a power of ten up to 10^22, both of which
a float holds exactly (Clinger 1990, How to Read Floating Point Numbers Accurately). So it never reads another number
than `decode_candle` does; longer digits are left to that one.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from models.compiled import U, compiled, helper
from models.events import SCHEMA_VERSION, Origin, encode
from models.series import Series

ORIGINS: tuple[Origin, ...] = get_args(Origin)
"""By their number in a column."""
TIMES, CLOSE_TIME, REVISION, ORIGIN = 3, 0, 1, 2
PRICES, OPEN, HIGH, LOW, CLOSE, VOLUME = 5, 0, 1, 2, 3, 4

MOST_EXACT = 2**53
_MOST_COUNT = 2**31
_MOST_DIGITS = 18  # as many never overflow 64 bits
_POWERS = 10.0 ** np.arange(23)

_NAMES = (
    ',"open_time_ms":', ',"close_time_ms":', ',"open":', ',"high":', ',"low":', ',"close":', ',"volume":',
    ',"absent":false,"revision":', ',"origin":"', '","received_at_ms":', "}",
)  # fmt: skip
_OPEN_TIME, _CLOSE_TIME, _PRICES, _REVISION, _ORIGIN, _RECEIVED, _END = 0, 1, 2, 7, 8, 9, 10


def head_of(series: Series) -> bytes:
    """What every candle of a series begins with, as our encoder writes it."""
    return encode({"v": SCHEMA_VERSION, **series._asdict()})[:-1]


def _side_by_side(texts: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of all, and where each begins; the last number is where all end."""
    starts = np.cumsum([0, *(len(text) for text in texts)])
    return np.frombuffer("".join(texts).encode(), np.uint8), starts


_NAMES_TEXT, _NAMES_AT = _side_by_side(_NAMES)
_ORIGINS_TEXT, _ORIGINS_AT = _side_by_side(ORIGINS)


@helper
def _hash(text, first, last, partition):
    """FNV-1a of a key and its partition."""
    found = U(14_695_981_039_346_656_037) ^ U(partition)
    for at in range(U(first), U(last)):
        found = (found ^ U(text[at])) * U(1_099_511_628_211)
    return found ^ (found >> U(32))


@helper
def _same(text, first, last, other, other_first, other_last):
    if last - first != other_last - other_first:
        return False
    here, there = U(first), U(other_first)
    for i in range(U(last - first)):  # noqa: SIM110 - a generator cannot be compiled
        if text[here + i] != other[there + i]:
            return False
    return True


@compiled("void(Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], i8[::1])")
def index_keys(keys, key_ends, partition, slots):
    """Fill the hash table that `find_rows` looks into.

    Args:
        keys: of all series, side by side (uint8); key_ends: (series,) where each ends.
        partition: (series,) whose it is; below 0: nobody's.
        slots: gets rows, -1 where none is; a power of two long, and longer than there are series.
    """
    mask = U(len(slots) - 1)
    for row in range(len(key_ends)):
        if partition[U(row)] < 0:
            continue
        first = key_ends[U(row - 1)] if row else 0
        at = _hash(keys, first, key_ends[U(row)], partition[U(row)]) & mask
        while slots[at] >= 0:
            at = (at + U(1)) & mask
        slots[at] = row


@compiled(
    "void(Array(u1, 1, 'C', readonly=True), i8[:, ::1], i8[::1], Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], "
    "i8[::1], i8[::1])"
)
def find_rows(text, places, partitions, keys, key_ends, partition, slots, rows):
    """The rows (n,) of the series that records belong to, -1 where it is unknown; arguments as of its neighbours."""
    mask = U(len(slots) - 1)
    for i in range(U(len(rows))):
        first, last = places[0, i], places[1, i]
        rows[i] = -1
        if last <= first:
            continue
        at = _hash(text, first, last, partitions[i]) & mask
        while slots[at] >= 0:
            row = slots[at]
            key_first = key_ends[U(row - 1)] if row else 0
            if partition[U(row)] == partitions[i] and _same(text, first, last, keys, key_first, key_ends[U(row)]):
                rows[i] = row
                break
            at = (at + U(1)) & mask


@helper
def _after(text, at, stop, wanted, first, last):
    """Where the text goes on after the wanted one, `wanted[first:last]`; -1 where it differs."""
    if at < 0 or at + last - first > stop:
        return -1
    here, there = U(at), U(first)
    for i in range(U(last - first)):
        if text[here + i] != wanted[there + i]:
            return -1
    return at + last - first


@helper
def _digits(text, at, stop, number):
    """Go on reading a whole number: it, and where it ends."""
    found = U(number)
    while at < stop:
        digit = U(text[U(at)]) - U(48)
        if digit > U(9):  # what is below "0" is huge
            break
        found = found * U(10) + digit
        at += 1
    return np.int64(found), at


@helper
def _count(text, at, stop, most):
    """A whole number and where it ends; -1 where there is none that JSON allows, or it is above `most`."""
    if at < 0:
        return np.int64(0), -1
    number, end = _digits(text, at, stop, np.int64(0))
    if end == at or (text[U(at)] == 48 and end > at + 1) or end - at > _MOST_DIGITS or number > most:
        return np.int64(0), -1
    return number, end


@helper
def _number(text, at, stop):
    """A number that is 0 or more, and where it ends; -1 where it is none, or one to be read with more care."""
    if at < 0:
        return 0.0, -1
    whole, end = _digits(text, at, stop, np.int64(0))
    if end == at or (text[U(at)] == 48 and end > at + 1):
        return 0.0, -1
    length, scale = end - at, 0
    if end < stop and text[U(end)] == 46:  # .
        first = end + 1
        whole, end = _digits(text, first, stop, whole)
        if end == first:
            return 0.0, -1
        length, scale = length + end - first, first - end
    if end < stop and text[U(end)] == 101:  # e
        first = end + 1
        negative = first < stop and text[U(first)] == 45
        if first < stop and (negative or text[U(first)] == 43):
            first += 1
        exponent, end = _digits(text, first, stop, np.int64(0))
        if end == first or end - first > 3:
            return 0.0, -1
        scale += -exponent if negative else exponent
    if length > _MOST_DIGITS:
        return 0.0, -1
    while whole > MOST_EXACT and scale < 0 and whole % 10 == 0:  # 1000000000000000.0
        whole, scale = whole // 10, scale + 1
    if whole > MOST_EXACT or not -22 <= scale <= 22:
        return 0.0, -1
    if scale < 0:
        return whole / _POWERS[-scale], end
    return whole * _POWERS[scale], end


@compiled(
    "void(Array(u1, 1, 'C', readonly=True), i8[:, ::1], i8[::1], Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], "
    "f8[::1], i8[:, ::1], f8[:, ::1], b1[::1])"
)
def read_candles(text, places, rows, heads, head_ends, timeframe_ms, limits, times, prices, good):
    """Read record after record.

    Args:
        text: in which the records lie (uint8).
        places: (4, n) where each key begins and ends, and each value; of one that is not there the end comes first.
        rows: (n,) the series its key names; below 0 where that is unknown.
        heads: for each series the text that its records begin with, side by side (uint8).
        head_ends: (series,) where each of them ends.
        timeframe_ms: (series,) length of a bar.
        limits: least and most price, most volume, the skew of clocks allowed (ms), the longest bar on a grid (ms).
        times: (TIMES, n) gets close time, revision and number of the origin.
        prices: (PRICES, n) gets open, high, low, close and volume.
        good: (n,) gets whether the record was read and is sound.
    """
    for i in range(len(rows)):
        at, stop, row = places[2, i], places[3, i], rows[i]
        good[i] = False
        if row < 0:
            continue
        at = _after(text, at, stop, heads, head_ends[row - 1] if row else 0, head_ends[row])
        at = _after(text, at, stop, _NAMES_TEXT, _NAMES_AT[_OPEN_TIME], _NAMES_AT[_OPEN_TIME + 1])
        opens_at, at = _count(text, at, stop, MOST_EXACT)
        at = _after(text, at, stop, _NAMES_TEXT, _NAMES_AT[_CLOSE_TIME], _NAMES_AT[_CLOSE_TIME + 1])
        closes_at, at = _count(text, at, stop, MOST_EXACT)
        for which in range(PRICES):
            name = _PRICES + which
            at = _after(text, at, stop, _NAMES_TEXT, _NAMES_AT[name], _NAMES_AT[name + 1])
            prices[which, i], at = _number(text, at, stop)
        at = _after(text, at, stop, _NAMES_TEXT, _NAMES_AT[_REVISION], _NAMES_AT[_REVISION + 1])
        revision, at = _count(text, at, stop, _MOST_COUNT)
        at = _after(text, at, stop, _NAMES_TEXT, _NAMES_AT[_ORIGIN], _NAMES_AT[_ORIGIN + 1])
        if at < 0:
            continue
        origin, origin_ends = -1, -1
        for which in range(len(_ORIGINS_AT) - 1):
            origin_ends = _after(text, at, stop, _ORIGINS_TEXT, _ORIGINS_AT[which], _ORIGINS_AT[which + 1])
            if origin_ends >= 0:
                origin = which
                break
        at = _after(text, origin_ends, stop, _NAMES_TEXT, _NAMES_AT[_RECEIVED], _NAMES_AT[_RECEIVED + 1])
        received_at, at = _count(text, at, stop, MOST_EXACT)
        at = _after(text, at, stop, _NAMES_TEXT, _NAMES_AT[_END], _NAMES_AT[_END + 1])
        if at != stop:
            continue
        times[CLOSE_TIME, i], times[REVISION, i], times[ORIGIN, i] = closes_at, revision, origin
        length = timeframe_ms[row]
        low, high = prices[LOW, i], prices[HIGH, i]
        good[i] = (
            closes_at - opens_at == length
            and (length > limits[4] or opens_at % length == 0)
            and received_at >= closes_at - limits[3]
            and low >= limits[0]
            and high <= limits[1]
            and low <= min(prices[OPEN, i], prices[CLOSE, i])
            and high >= max(prices[OPEN, i], prices[CLOSE, i])
            and 0.0 <= prices[VOLUME, i] <= limits[2]
        )
