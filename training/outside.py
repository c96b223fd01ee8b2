"""Where candles are outside what a bundle was trained on: its timeframe, its symbols, its past, its features.

Enters: a bundle, candles, the rows that are scored. Leaves: sentences for a person; nothing where all is familiar.
Does not know: scores. A bundle tells until when it was trained, not from when on: earlier candles may be its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from models.bundle import Bundle
from models.errors import CandlewickError
from models.features import select
from models.series import timeframe_name
from models.spec import Spec
from training.dataset import Dataset, Rows

MOST_NAMED = 5
LARGE_SHIFT = 0.5
"""In standard deviations of the training rows: the mean of a feature has moved by half of what it usually varies."""
LARGE_SHARE = 0.01
"""Of rows cut at the network's limit; features have heavy tails, some are always."""


class Shift(NamedTuple):
    """How a feature differs from what training saw."""

    feature: str
    beyond: float  # share of rows past the network's limit, where it sees no difference any more
    mean: float  # in standard deviations of the training rows


def check_timeframe(spec: Spec, timeframe_ms: int) -> None:
    """Refuse candles that the bundle cannot forecast.

    Raises:
        CandlewickError: they are of another length than the bundle's.
    """
    if timeframe_ms != spec.timeframe_ms:
        own, theirs = timeframe_name(spec.timeframe_ms), timeframe_name(timeframe_ms)
        raise CandlewickError(
            f"the candles are {theirs}, the bundle forecasts {own}: give it candles of {own}, or train one on {theirs}"
        )


def first_unseen_slot(spec: Spec, dataset: Dataset) -> int:
    """The first slot whose row the bundle cannot have learned from, be it as a label."""
    return int(np.searchsorted(dataset.close_time_ms, spec.trained_until_ms, side="right"))


def in_words(bundle: Bundle, dataset: Dataset, rows: Rows) -> list[str]:
    """What is unfamiliar about the rows that are scored, one sentence each."""
    if not len(rows[0]):
        return []
    return [
        *_symbols_in_words(bundle.spec, dataset, rows),
        *_times_in_words(bundle.spec, dataset, rows),
        *_shifts_in_words(feature_shifts(bundle, dataset, rows)),
    ]


def feature_shifts(bundle: Bundle, dataset: Dataset, rows: Rows) -> list[Shift]:
    """Every feature of the bundle at the closes of rows, against the mean and deviation that training left in it."""
    from models.standardised import MAX_DEVIATIONS

    features = dataset.features[rows][:, select(bundle.spec.features)]
    z = (features - bundle.tensors["feature_mean"]) / bundle.tensors["feature_sd"]  # (n, F)
    beyond, mean = (np.abs(z) > MAX_DEVIATIONS).mean(axis=0), z.mean(axis=0, dtype=np.float64)
    return [Shift(*entry) for entry in zip(bundle.spec.features, beyond.tolist(), mean.tolist(), strict=True)]


def _symbols_in_words(spec: Spec, dataset: Dataset, rows: Rows) -> list[str]:
    known, count = set(spec.symbols), np.bincount(rows[0], minlength=len(dataset.symbols))
    foreign = [(name, n) for name, n in zip(dataset.symbols, count.tolist(), strict=True) if n and name not in known]
    if not foreign:
        return []
    named = _named([name for name, _ in foreign])
    rows_of = sum(n for _, n in foreign)
    return [
        f"symbols: {named} did not train the bundle, {rows_of:,} of {len(rows[0]):,} rows; signals for them are never "
        "proven, see each symbol's own figures"
    ]


def _times_in_words(spec: Spec, dataset: Dataset, rows: Rows) -> list[str]:
    early = dataset.close_time_ms[rows[1]] <= spec.trained_until_ms
    if not early.any():
        return []
    return [
        f"time: {int(early.sum()):,} of {len(early):,} rows close no later than the bundle's training ended "
        f"({_date(spec.trained_until_ms)}): they may be in-sample, and figures on them too good to be true"
    ]


def _shifts_in_words(shifts: Sequence[Shift]) -> list[str]:
    cut = sorted((s for s in shifts if s.beyond >= LARGE_SHARE), key=lambda s: -s.beyond)
    moved = sorted((s for s in shifts if abs(s.mean) >= LARGE_SHIFT), key=lambda s: -abs(s.mean))
    sentences = []
    if cut:
        named = _named([f"{s.feature} in {s.beyond:.1%} of rows" for s in cut])
        sentences.append(f"features: beyond six standard deviations of training, where the network cuts them: {named}")
    if moved:
        named = _named([f"{s.feature} by {s.mean:+.2f}" for s in moved])
        sentences.append(f"features: their mean has moved, in standard deviations of training: {named}")
    return sentences


def _named(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _date(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
