"""Signals as JSON, put together from pieces of text and columns of numbers.

Enters: kept texts and which of them each record takes, numbers. Leaves: the records side by side. Does not know: what
the texts say.

A number is 16 characters wide: a sign, or a blank where it is positive, which JSON allows; ten digits with a point
after the first; an exponent of two digits. It lies within 1e-9 of the number itself.
"""

from __future__ import annotations

import numpy as np

from models.compiled import U, compiled, helper

WIDTH = 16
"""Characters of a number, e.g. `-1.234567890e-02`."""
LEAST, MOST = 1e-99, 9.99e98
"""Magnitudes outside are written as 0 and as the most: an exponent has two digits, and JSON knows no infinity."""
NOT_A_NUMBER = -1

_ZERO = 110  # place of exponent 0 in the tables
_TENS = 10.0 ** np.arange(-float(_ZERO), float(_ZERO))
_SHIFTS = 10.0 ** np.arange(9.0 + _ZERO, 9.0 - _ZERO, -1.0)  # by exponent: brings ten digits before the point
_FOURS = np.frombuffer("".join(f"{i:04}" for i in range(10_000)).encode(), np.uint8)
_EXPONENTS = np.frombuffer("".join(f"e{i:+03}" for i in range(-99, 100)).encode(), np.uint8)
_MOST_EXPONENT = 99


@helper
def _copy(out, at, text, first, last):
    """Write `text[first:last]`, and say where it ends."""
    here, there = U(at), U(first)
    for i in range(U(last - first)):
        out[here + i] = text[there + i]
    return at + last - first


@helper
def _write(out, at, number):
    """Write a number that is not NaN."""
    size = min(abs(number), MOST)
    exponent, digits = np.int64(0), U(0)
    if size >= LEAST:
        # The exponent of 2 times log10(2), or one more.
        exponent = (((np.float64(size).view(np.int64) >> 52) - 1_023) * 1_233) >> 12
        if size >= _TENS[U(exponent + 1 + _ZERO)]:
            exponent += 1
        digits = U(size * _SHIFTS[U(exponent + _ZERO)] + 0.5)
        if digits >= U(10_000_000_000):  # rounded up to the next power
            exponent += 1
            digits = U(size * _SHIFTS[U(exponent + _ZERO)] + 0.5)
    here = U(at)
    out[here] = 45 if number < 0.0 and size >= LEAST else 32
    pair, eight = digits // U(100_000_000), digits % U(100_000_000)
    first, second, power = eight // U(10_000), eight % U(10_000), U(exponent + _MOST_EXPONENT)
    out[here + U(1)] = U(48) + pair // U(10)
    out[here + U(2)] = 46
    out[here + U(3)] = U(48) + pair % U(10)
    for i in range(U(4)):
        out[here + U(4) + i] = _FOURS[first * U(4) + i]
        out[here + U(8) + i] = _FOURS[second * U(4) + i]
        out[here + U(12) + i] = _EXPONENTS[power * U(4) + i]


@compiled(
    "i8(u1[::1], i8[::1], Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], "
    "Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], Array(u1, 1, 'C', readonly=True), "
    "Array(u1, 1, 'C', readonly=True), i8[::1], f8[:, ::1])"
)
def write_signals(out, ends, heads, head_ends, head, middles, middle_ends, middle, prices, tail, places, numbers):
    """Write record after record: head, middle, price, tail with its numbers.

    Args:
        out: gets the records (uint8); long enough for all of them.
        ends: (n,) gets where each ends.
        heads: the heads, side by side; head_ends: where each of them ends; head: (n,) which one a record takes.
        middles: the middles likewise.
        prices: n numbers as text, with a comma between.
        tail: what a record ends with, blank where its numbers go; places: (m,) where they do.
        numbers: (m, n).

    Returns:
        how long it is altogether, NOT_A_NUMBER where one is NaN.
    """
    at, price = 0, 0
    for i in range(len(ends)):
        which = head[i]
        at = _copy(out, at, heads, head_ends[which - 1] if which else 0, head_ends[which])
        which = middle[i]
        at = _copy(out, at, middles, middle_ends[which - 1] if which else 0, middle_ends[which])
        while price < len(prices) and prices[U(price)] != 44:
            out[U(at)] = prices[U(price)]
            at, price = at + 1, price + 1
        price += 1
        begin = at
        at = _copy(out, at, tail, 0, len(tail))
        for which in range(len(places)):
            number = numbers[which, i]
            if np.isnan(number):
                return NOT_A_NUMBER
            _write(out, begin + places[which], number)
        ends[i] = at
    return at
