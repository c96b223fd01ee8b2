"""Does any row know its future? Direct checks on candles and rows, without any training.

Enters: candles, the dataset made from them, its split. Leaves: which checks hold. Does not know: networks, scores.

What only rolled labels can miss is found here: a feature that holds its own row's future loses it with the roll. So the
candles of some closes are cut right after the close, or their future is made up anew, and the rows are built again by
the code that built the dataset. What was known at a close must come out the same, and labels must change exactly from
where their horizon reaches the first altered bar.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.candle_table import CandleTable
from models.continuity import COLD_AFTER_ABSENT
from models.features import WARM_UP_BARS
from training.dataset import Dataset, Rows, build_dataset
from training.split import Span, Split

Floats = NDArray[np.float64]

TOLERANCE = 1e-5
"""Absolute, and relative above 1. A history is cut into segments, whose features agree within 1e-6."""
MANY_ROWS = 100_000
"""From so many on, one close of each span is looked at; below, where training takes seconds, one of the test span."""
MOST_REPEATED = 0.01
"""Share of test rows whose last two candles may also be those of earlier rows."""
LEAST_FACTOR, MOST_FACTOR, STRETCH = 1.05, 1.2, 1.05
"""An altered bar: its prices times a factor between these, its high and low further apart, its volume times three."""


class Window(NamedTuple):
    """Slots `first <= slot < stop` of a dataset, built again."""

    first: int
    stop: int
    again: Dataset


def look_ahead(table: CandleTable, dataset: Dataset, split: Split, seed: int) -> dict[str, bool]:
    """Check some closes of every span, and that the spans keep apart.

    Raises:
        ValueError: the dataset is not that of the table.
    """
    if dataset.symbols != table.symbols or not np.array_equal(dataset.close_time_ms, table.close_time_ms):
        raise ValueError("the dataset was built from another table; give the one that `build_dataset` was given")
    closes = _some_closes(dataset, split, np.random.default_rng(seed))
    altered = [rebuilt(table, dataset, slot, seed) for slot in closes]
    cut = rebuilt(table, dataset, closes[-1], None)
    known = [same_features(dataset, window, slot) for slot, window in zip(closes, altered, strict=True)]
    future = [labels_follow(dataset, window, slot) for slot, window in zip(closes, altered, strict=True)]
    unknown = not cut.again.labelled[:, cut.again.labelled.shape[1] - dataset.horizon_bars :].any()
    return {
        "features_end_at_the_close": all(known) and same_features(dataset, cut, closes[-1]),
        "labels_begin_at_the_close": all(future) and unknown,
        "spans_keep_apart": spans_keep_apart(dataset, split),
        "test_candles_are_new": repeated_share(dataset, split) <= MOST_REPEATED,
    }


def rebuilt(table: CandleTable, dataset: Dataset, close: int, seed: int | None) -> Window:
    """Build the rows up to a close again from just the candles that they need, a horizon of altered ones after them.

    Without a seed nothing follows the close.
    """
    block = next(block for block in table.blocks() if block.start <= close < block.stop)
    back = WARM_UP_BARS + COLD_AFTER_ABSENT + dataset.lookback_bars + 2 * dataset.horizon_bars
    first = max(close - back, block.start)
    last = close if seed is None else min(close + dataset.horizon_bars, block.stop - 1)
    part = table.since(int(table.open_time_ms[first])).until(int(table.close_time_ms[last]))
    if seed is not None:
        part = _altered(part, close + 1 - first, seed)
    return Window(first, last + 1, build_dataset(part, dataset.lookback_bars, dataset.horizon_bars))


def same_features(dataset: Dataset, window: Window, close: int) -> bool:
    """The rows up to a close, built again without its future, are those of the dataset."""
    there = slice(close + 1 - dataset.lookback_bars, close + 1)
    here = slice(there.start - window.first, there.stop - window.first)
    usable = dataset.usable[:, close]  # (S,) and then so is each row of the window before it
    built = bool(window.again.usable[usable, here.stop - 1].all())
    features = _alike(dataset.features[usable, there], window.again.features[usable, here])  # (S, L, F)
    volatility = _alike(dataset.volatility[usable, there], window.again.volatility[usable, here])
    return built and bool(features.all()) and bool(volatility.all())


def labels_follow(dataset: Dataset, window: Window, close: int) -> bool:
    """Labels that end by the close are the same after its future was altered; the others all differ."""
    there = slice(max(close + 1 - 2 * dataset.horizon_bars, window.first), close + 1)
    here = slice(there.start - window.first, there.stop - window.first)
    both = dataset.labelled[:, there] & window.again.labelled[:, here]  # (S, n)
    ended = np.arange(there.start, there.stop) + dataset.horizon_bars <= close  # (n,)
    for mine, again in (
        (dataset.y_return[:, there], window.again.y_return[:, here]),
        (dataset.y_range[:, there], window.again.y_range[:, here]),
    ):
        if ((_alike(mine, again) != ended) & both).any():
            return False
    return bool((both & ~ended).any())


def spans_keep_apart(dataset: Dataset, split: Split) -> bool:
    """More than a horizon lies between any two rows of different spans, so that no bar is in labels of both."""
    slots = np.flatnonzero(dataset.labelled.any(axis=0))
    used = [slots[span.holds(slots)] for span in split]
    return all(_distance(a, b) > dataset.horizon_bars for a, b in itertools.combinations(used, 2))


def repeated_share(dataset: Dataset, split: Split) -> float:
    """Share of test rows whose last two candles, down to the last digit, close a training or validation row as well.

    Candles that stand still are left out: they are alike in any market.
    """
    known = np.concatenate([_marks(dataset, split.train), _marks(dataset, split.validation)])
    found = _marks(dataset, split.test)
    return float(np.isin(found, known).mean()) if len(found) else 0.0


def _some_closes(dataset: Dataset, split: Split, rng: np.random.Generator) -> list[int]:
    """A slot of each span at random, the test span's last; of a short history only that."""
    spans = split if dataset.labelled.sum() >= MANY_ROWS else split[-1:]
    return [int(rng.choice(dataset.rows(*span)[1])) for span in spans]


def _altered(table: CandleTable, first: int, seed: int) -> CandleTable:
    """The same candles up to a slot; from it on another market."""
    ohlcv = table.ohlcv.copy()
    future = ohlcv[:, :, first:]  # (5, S, bars)
    future[:4] *= np.random.default_rng(seed).uniform(LEAST_FACTOR, MOST_FACTOR, size=future.shape[1:])
    future[1] *= STRETCH
    future[2] /= STRETCH
    future[4] *= 3
    return replace(table, ohlcv=ohlcv)


def _alike(mine: NDArray[np.floating], again: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(mine - again) <= TOLERANCE * np.maximum(np.abs(mine), 1.0))


def _distance(a: NDArray[np.intp], b: NDArray[np.intp]) -> int:
    """The least distance between members of two sorted sets."""
    after = np.searchsorted(b, a)
    above = np.abs(b[np.minimum(after, len(b) - 1)] - a)
    below = np.abs(a - b[np.maximum(after - 1, 0)])
    return int(np.minimum(above, below).min())


def _marks(dataset: Dataset, span: Span) -> NDArray[np.uint64]:
    """One number for the last two candles of each row that moved, equal where all ten prices and volumes are."""
    symbol, slot = _moving(dataset, dataset.rows(*span))
    marks = np.zeros(len(slot), np.uint64)
    odd = np.random.default_rng(0).integers(1, 2**63, size=10, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    columns = itertools.product((0, 1), dataset.ohlcv)
    for (back, column), factor in zip(columns, odd, strict=True):
        bits = column[symbol, slot - back].view(np.uint64) * factor
        marks ^= bits ^ (bits >> np.uint64(29))
    return marks


def _moving(dataset: Dataset, rows: Rows) -> Rows:
    symbol, slot = rows
    _, high, low, _, volume = dataset.ohlcv
    moving = (high[rows] > low[rows]) & (volume[rows] > 0) & (slot > 0)
    return symbol[moving], slot[moving]
