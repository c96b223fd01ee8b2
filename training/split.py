"""Cut history into training, validation and test by time, so that no label reaches into the next span.

Enters: the slots there are, fractions, a horizon. Leaves: three spans of slots.
Does not know: candles, features, networks.

The row at slot t sees bars up to t, and its label bars t+1 .. t+H. So the purge is one horizon: the last H rows before
a cut are dropped. There is no embargo after it: features reach back over a cut, as they do in serving, but only to bars
that had closed.
"""

from __future__ import annotations

from typing import NamedTuple

from models.errors import CandlewickError

MIN_ROWS = 64
"""Slots a span must keep after its purge."""


class Fractions(NamedTuple):
    """Shares of the time, in order."""

    train: float = 0.70
    validation: float = 0.15
    test: float = 0.15


class Span(NamedTuple):
    """Slots `first <= slot < stop` whose rows may be used; their labels end before `stop + horizon`."""

    first: int
    stop: int

    @property
    def slots(self) -> int:
        """How many slots it has, never below 0."""
        return max(self.stop - self.first, 0)


class Split(NamedTuple):
    """Spans of rows in order of time."""

    train: Span
    validation: Span
    test: Span


def split_time(first: int, stop: int, fractions: Fractions, horizon_bars: int) -> Split:
    """Cut the slots `first <= slot < stop` in order of time and purge before each cut.

    Raises:
        CandlewickError: the fractions are no shares, or a span would be left with fewer than `MIN_ROWS` slots.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise CandlewickError(f"fractions {tuple(fractions)} must be above 0 and sum to 1, like 0.7 0.15 0.15")
    slots = stop - first
    validation = first + round(slots * fractions.train)
    test = first + round(slots * (fractions.train + fractions.validation))
    split = Split(
        Span(first, validation - horizon_bars),
        Span(validation, test - horizon_bars),
        Span(test, stop - horizon_bars),
    )
    for name, span in zip(Split._fields, split, strict=True):
        if span.slots < MIN_ROWS:
            needed = round((MIN_ROWS + horizon_bars) / min(fractions)) + 1
            raise CandlewickError(
                f"{max(slots, 0)} usable bars leave {span.slots} for {name}; "
                f"with horizon {horizon_bars} at least {needed} are needed: give more candles or a shorter horizon"
            )
    return split
