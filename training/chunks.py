"""A dataset as batches of tensors: chunks for sequence-to-sequence training, or windows one by one.

Enters: a dataset, and spans of it. Leaves: features, labels, and which of them count. Does not know: networks, losses.

A chunk of 240 bars gives a loss at every bar after a burn-in of 60 (lookback 64). So 240 steps of a recurrent network
serve 180 labels, where windows of 64 bars would need 11,520.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.dataset import Dataset
from training.split import Span

LOSS_BARS = 180
"""Bars of a chunk that give a loss, after the burn-in."""
BURN_IN_SHORTFALL = 4
"""The burn-in is the lookback less this: earlier outputs know less of the past than they will in serving."""
BATCH_CHUNKS, VALIDATION_CHUNKS = 24, 256
BATCH_WINDOWS, VALIDATION_WINDOWS = 512, 4_096
LEAST_BATCHES = 16
"""An epoch of a short history passes over it several times, at other offsets, until it has so many."""

Starts = NDArray[np.int64]
"""`(n, 2)`: symbol and slot of each chunk's first loss, or of each window's end."""


class Batch(NamedTuple):
    """Chunks or windows, and their labels."""

    x: Tensor  # (B, T, F) or (B, L, F)
    y: Tensor  # (B, T, 2) or (B, 2)
    counts: Tensor  # (B, T) or (B,), bool


class Epochs(NamedTuple):
    """How an epoch goes over a span."""

    passes: int
    batches: int  # at most


class Batches(Protocol):
    """What training asks of a dataset."""

    sequences: bool  # whether a network must answer at every step
    size: int  # of a training batch
    validation_size: int
    learning_rate: float  # the highest

    def epochs(self, span: Span) -> Epochs:
        """How many passes and batches an epoch over a span has."""
        ...

    def starts(self, span: Span, shift: int = 0) -> Starts:
        """What covers every label of a span exactly once, in order."""
        ...

    def drawn(self, span: Span, passes: int, rng: np.random.Generator) -> Starts:
        """What covers every label of a span so many times, in disorder."""
        ...

    def take(self, starts: Starts, span: Span) -> Batch:
        """Tensors on the device."""
        ...


class Chunks:
    """Chunks of a dataset as tensors: a burn-in of B bars, then 180 bars that give a loss each."""

    sequences, size, validation_size = True, BATCH_CHUNKS, VALIDATION_CHUNKS
    learning_rate = 1.6e-2  # thousands of labels a batch bear more than hundreds do

    def __init__(self, dataset: Dataset, device: torch.device | None = None) -> None:
        self.burn_in = max(dataset.lookback_bars - BURN_IN_SHORTFALL, 0)
        self._features, self._labels = on_device(dataset, device)
        self._labelled = dataset.labelled
        self._labels_before = lru_cache(self._count_labels)  # a split has two spans that are asked for again and again

    def epochs(self, span: Span) -> Epochs:
        """As many passes as give `LEAST_BATCHES`."""
        most_chunks = max(len(self.starts(span, shift)) for shift in range(LOSS_BARS))
        return _epochs(most_chunks, BATCH_CHUNKS)

    def starts(self, span: Span, shift: int = 0) -> Starts:
        """`(n, 2)` symbol and first loss of the chunks whose losses tile a span; those without a label are left out."""
        tiles = np.arange(span.first - shift, span.stop, LOSS_BARS)
        first, stop = np.clip([tiles, tiles + LOSS_BARS], span.first, span.stop)
        before = self._labels_before(span)
        tile, symbol = np.nonzero((before[:, stop] - before[:, first]).T)
        return np.stack([symbol, tiles[tile]], axis=1)

    def drawn(self, span: Span, passes: int, rng: np.random.Generator) -> Starts:
        """Each pass at another offset."""
        starts = np.concatenate([self.starts(span, shift) for shift in rng.integers(LOSS_BARS, size=passes)])
        rng.shuffle(starts)
        return starts

    def _count_labels(self, span: Span) -> NDArray[np.int32]:
        """`(S, T + 1)` how many labels of the span lie before each slot."""
        held = self._labelled & span.holds(np.arange(self._labelled.shape[1]))
        return np.cumsum(np.pad(held, ((0, 0), (1, 0))), axis=1, dtype=np.int32)

    def take(self, starts: Starts, span: Span) -> Batch:
        """Features `(B, T, F)`, labels `(B, T, 2)`, and which of them count `(B, T)`."""
        symbol = starts[:, :1]  # (B, 1)
        slot = starts[:, 1:] + np.arange(-self.burn_in, LOSS_BARS)  # (B, T)
        inside = np.clip(slot, 0, self._labelled.shape[1] - 1)
        counts = self._labelled[symbol, inside] & span.holds(slot)
        counts[:, : self.burn_in] = False
        device = self._features.device
        at = torch.from_numpy(symbol).to(device), torch.from_numpy(inside).to(device)
        return Batch(self._features[at], self._labels[at], torch.from_numpy(counts).to(device))


class Windows:
    """Windows of a dataset as tensors, each with the label of its end: what serving sees."""

    sequences, size, validation_size = False, BATCH_WINDOWS, VALIDATION_WINDOWS
    learning_rate = 8e-3

    def __init__(self, dataset: Dataset, device: torch.device | None = None) -> None:
        self._back = np.arange(1 - dataset.lookback_bars, 1)[:, None]  # (L, 1)
        self._features, self._labels = on_device(dataset, device)
        self._rows = lru_cache(dataset.rows)

    def epochs(self, span: Span) -> Epochs:
        """As many passes as give `LEAST_BATCHES`."""
        return _epochs(len(self.starts(span)), BATCH_WINDOWS)

    def starts(self, span: Span, shift: int = 0) -> Starts:
        """`(n, 2)` symbol and slot of every labelled row; windows know no shift."""
        return np.stack(self._rows(*span), axis=1)

    def drawn(self, span: Span, passes: int, rng: np.random.Generator) -> Starts:
        """Every row so many times."""
        starts = np.concatenate([self.starts(span)] * passes)
        return starts[rng.permutation(len(starts))]

    def take(self, starts: Starts, span: Span) -> Batch:
        """Features `(B, L, F)`, labels `(B, 2)`; all count `(B,)`."""
        symbol, slot = starts[:, 0], starts[:, 1]
        symbols, slots = (torch.from_numpy(index).to(self._features.device) for index in (symbol, slot + self._back))
        x = self._features[symbols, slots].transpose(0, 1)  # in memory (L, B, F), as networks want it
        return Batch(x, self._labels[symbols, slots[-1]], torch.ones(len(starts), dtype=torch.bool, device=x.device))


def on_device(dataset: Dataset, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """Features `(S, T, F)`, shared with the dataset on the CPU, and labels `(S, T, 2)`."""
    both = np.stack([dataset.y_return, dataset.y_range], axis=-1, dtype=np.float32)
    return torch.from_numpy(dataset.features).to(device), torch.from_numpy(both).to(device)


def _epochs(most: int, size: int) -> Epochs:
    passes = math.ceil(LEAST_BATCHES * size / most)
    return Epochs(passes, math.ceil(passes * most / size))
