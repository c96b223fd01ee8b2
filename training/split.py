"""Cut history into training, validation and test by time, so that no label reaches into the next span.

Enters: how many rows each slot has, fractions, a horizon. Leaves: three spans of slots.
Does not know: candles, features, networks.

The cuts are times, the same for all symbols. They lie where the wanted share of the ROWS is past: where series begin or
end at different times, a share of the time alone could leave a test span with one symbol.

The row at slot t sees bars up to t, and its label bars t+1 .. t+H. So the purge is one horizon: the last H rows before
a cut are dropped. There is no embargo after it: features reach back over a cut, as they do in serving, but only to bars
that had closed.

Who trains because the market has changed must not keep the newest bars to validate on: then only the old market would
train. `split_spread` cuts validation into blocks all over history, and trains on the newest bars. Many splits of one
history, one after the other or all at once, are made by `training.folds`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import CandlewickError

MIN_ROWS = 64
"""Rows a span must keep after its purge."""
VALIDATION_BLOCK_BARS = 60
"""Of a validation spread over history: an hour of minutes. Short, so that a market some hours old is in it as well; but
two horizons at least, else purging around so many blocks would leave nothing to train on."""


class Fractions(NamedTuple):
    """Shares of the rows, in order of time."""

    train: float = 0.60
    validation: float = 0.15
    test: float = 0.25


class Span(NamedTuple):
    """Slots `first <= slot < stop` whose rows may be used; their labels end before `stop + horizon`.

    Where `every` is not 0, only those whose distance from the last slot, modulo `every`, lies within `width` of
    `begin`. Those of `holes` are left out: pairs of a first slot and the one after the last.
    """

    first: int
    stop: int
    every: int = 0
    begin: int = 0
    width: int = 0
    holes: tuple[tuple[int, int], ...] = ()

    def holds(self, slot: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Which of these slots are in it."""
        inside = (slot >= self.first) & (slot < self.stop)
        for first, stop in self.holes:
            inside &= (slot < first) | (slot >= stop)
        if not self.every:
            return np.asarray(inside)
        place = (self.stop - 1 - slot) % self.every
        return np.asarray(inside & (place >= self.begin) & (place < self.begin + self.width))

    @property
    def slots(self) -> int:
        """How many slots it has, never below 0."""
        return max(self.stop - self.first, 0)


class Split(NamedTuple):
    """Spans of rows in order of time."""

    train: Span
    validation: Span
    test: Span


def split_time(rows: NDArray[np.int64], fractions: Fractions, horizon_bars: int) -> Split:
    """Cut slots in order of time and purge before each cut.

    Args:
        rows: `(T,)` how many labelled rows each slot has.
        fractions: shares of the rows.
        horizon_bars: H; the label of slot t ends at slot t + H.

    Raises:
        CandlewickError: the fractions are no shares, or a span would be left with fewer than `MIN_ROWS` rows.
    """
    _check_shares(fractions)
    past = np.cumsum(rows)
    total = int(past[-1]) if len(past) else 0
    first, last = (int(np.searchsorted(past, count, side="left")) for count in (1, total))
    cuts = [total * fractions.train, total * (fractions.train + fractions.validation)]
    validation, test = (int(np.searchsorted(past, round(cut), side="right")) for cut in cuts)
    split = Split(Span(first, validation - horizon_bars), Span(validation, test - horizon_bars), Span(test, last + 1))
    return held_to_least(split, rows, horizon_bars)


def split_spread(rows: NDArray[np.int64], fractions: Fractions, horizon_bars: int) -> Split:
    """Keep the newest rows to test on, and spread validation over all before them in blocks; purge around each block.

    Arguments and errors are those of `split_time`. The newest bars before the test span train; however small its share,
    it has `MIN_ROWS` rows, so that who wants no more than that need not know how many rows there are.
    """
    _check_shares(fractions)
    whole = split_time(rows, _with_least_test(fractions, int(rows.sum())), horizon_bars)
    share = fractions.validation / (fractions.train + fractions.validation)
    before = Span(whole.train.first, whole.validation.stop)
    return held_to_least(Split(*validate_spread(before, share, horizon_bars), whole.test), rows, horizon_bars)


def _check_shares(fractions: Fractions) -> None:
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise CandlewickError(f"fractions {tuple(fractions)} must be above 0 and sum to 1, like 0.6 0.15 0.25")


def _with_least_test(fractions: Fractions, total: int) -> Fractions:
    """The fractions, the last one raised to `MIN_ROWS` of so many rows at the cost of the others alike."""
    if not fractions.test * total < MIN_ROWS < total:
        return fractions
    left = (1 - MIN_ROWS / total) / (1 - fractions.test)
    return Fractions(fractions.train * left, fractions.validation * left, MIN_ROWS / total)


def validate_spread(span: Span, share: float, horizon_bars: int) -> tuple[Span, Span]:
    """Cut a span into training and, in blocks all over it, this share of validation. The newest bars train."""
    block_bars = max(VALIDATION_BLOCK_BARS, 2 * horizon_bars)
    every = round(block_bars / share)
    train_bars = every - block_bars - 2 * horizon_bars
    train = span._replace(every=every, begin=0, width=train_bars)
    return train, span._replace(every=every, begin=train_bars + horizon_bars, width=block_bars)


def validate_newest(span: Span, share: float, rows: NDArray[np.int64], horizon_bars: int) -> tuple[Span, Span]:
    """Cut a span into training and, from the newest, this share of its rows for validation; purge between them."""
    past = np.cumsum(np.where(span.holds(np.arange(len(rows))), rows, 0))
    total = int(past[-1]) if len(past) else 0
    cut = int(np.searchsorted(past, round(total * (1 - share)), side="right"))
    return span._replace(stop=cut - horizon_bars), span._replace(first=cut)


def held_to_least(split: Split, rows: NDArray[np.int64], horizon_bars: int) -> Split:
    """The split, if each of its spans keeps `MIN_ROWS` of the rows `(T,)`.

    Raises:
        CandlewickError: one does not.
    """
    slots = np.arange(len(rows))
    for name, span in zip(Split._fields, split, strict=True):
        left = int(rows[span.holds(slots)].sum())
        if left < MIN_ROWS:
            raise CandlewickError(
                f"{left} usable rows are left for {name}, at least {MIN_ROWS} are needed: "
                f"give more candles, or a horizon shorter than {horizon_bars} bars"
            )
    return split
