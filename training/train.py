"""Train a network on a dataset: one script, read from top to bottom.

Enters: a dataset, its split, the network wanted, a seed. Leaves: weights, and the return's degrees of freedom.
Does not know: files, bundles, calibration, baselines, the test span.

Training runs sequence to sequence: a chunk of 240 bars gives a loss at every bar after a burn-in of 60 (lookback 64).
So 240 steps of the LSTM serve 180 labels, where windows of 64 bars would need 11,520. Serving runs on windows: that
both agree is measured, not assumed, since the report scores through the serving predictor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import CandlewickError
from models.lstm import Lstm, build_network
from models.spec import Network
from training.adamw import AdamW, one_cycle
from training.dataset import Dataset
from training.progress import Progress, Step
from training.split import Span, Split

LOSS_BARS = 180
"""Bars of a chunk that give a loss, after the burn-in."""
BURN_IN_SHORTFALL = 4
"""The burn-in is the lookback less this: earlier outputs know less of the past than they will in serving."""
BATCH_CHUNKS = 24
LEAST_BATCHES = 16
"""An epoch of a short history passes over it several times, at other offsets, until it has so many."""
VALIDATION_CHUNKS = 256
HIGHEST_LEARNING_RATE = 5e-3
WEIGHT_DECAY = 0.3
FEATURE_DROPOUT = 0.1
"""A feature is silent for a whole chunk: a week of candles is else learned by heart within three passes."""
LEAST_AVERAGE_SHARE, AVERAGE_WARM_UP = 0.01, 10
"""What is validated and kept is a running average of the weights over the last hundred steps (at first a tenth of all).
It bears a learning rate twice as high; together, CRPS .834 instead of .848 of vol60. Source: Polyak & Juditsky 1992."""
CLIP_NORM = 1.0
PATIENCE = 8
"""Epochs without a better validation score before training stops; the best weights are kept."""
LEAST_GAIN = 1e-5
LEAST_DOF, MOST_DOF = 2.1, 100.0
LEAST_FEATURE_SD = 1e-6


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network, ready to be packed."""

    network: nn.Module  # in eval mode, on the CPU
    dof: float  # of the return's Student-t
    epochs: int  # run
    best_epoch: int  # whose weights these are
    validation_score: float  # nats


@dataclass(frozen=True)
class Recipe:
    """What to train, for how long, from which seed."""

    network: Network
    epochs: int
    seed: int


def fit_network(dataset: Dataset, split: Split, recipe: Recipe, progress: Progress | None = None) -> Fitted:
    """Train on the split's training rows, stop early on its validation rows.

    The same arguments give the same weights to the last bit, on one type of CPU and one version of torch.

    Raises:
        CandlewickError: the loss is no longer finite.
    """
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")  # its other name, use_deterministic_algorithms, imports the compiler
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    data = Chunks(dataset)

    network = cast(Lstm, build_network(recipe.network, dataset.features.shape[2]))
    set_feature_scale(network, dataset, split.train)
    log_dof = nn.Parameter(torch.tensor(math.log(3.0)))
    weights = list(network.parameters())
    optimizer = AdamW([*((weight, WEIGHT_DECAY) for weight in weights), (log_dof, 0.0)])
    most_chunks = max(len(data.starts(split.train, shift)) for shift in range(LOSS_BARS))
    passes = math.ceil(LEAST_BATCHES * BATCH_CHUNKS / most_chunks)
    batches = math.ceil(passes * most_chunks / BATCH_CHUNKS)
    steps, step = recipe.epochs * batches, 0
    averaged, averaged_log_dof = deepcopy(network).requires_grad_(False), log_dof.detach().clone()

    best, best_epoch, best_state = math.inf, 0, copy_of(averaged, averaged_log_dof)
    score: float | None = None
    began = monotonic()
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        starts = np.concatenate([data.starts(split.train, shift) for shift in rng.integers(LOSS_BARS, size=passes)])
        rng.shuffle(starts)  # (chunks, 2)
        for batch, first in enumerate(range(0, len(starts), BATCH_CHUNKS), start=1):
            x, y, counts = data.take(starts[first : first + BATCH_CHUNKS], split.train)  # (B, T, F) (B, T, 2) (B, T)
            outputs = network.forward_sequence(drop_features(x, network.feature_mean))  # (B, T, 4)
            loss = negative_log_likelihood(outputs[counts], y[counts], log_dof).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*weights, log_dof], CLIP_NORM)
            optimizer.step(one_cycle(step, steps, HIGHEST_LEARNING_RATE))
            share = max(LEAST_AVERAGE_SHARE, AVERAGE_WARM_UP / (step + AVERAGE_WARM_UP))
            move_towards([*averaged.parameters(), averaged_log_dof], [*weights, log_dof], share)
            step += 1
            total += loss.item()
            if not math.isfinite(total):
                raise diverged(epoch, batch)
            if progress:
                progress(Step(epoch, recipe.epochs, batch, batches, total / batch, score, False, monotonic() - began))
        score = validation_score(averaged, data, split.validation, averaged_log_dof)
        if progress:
            progress(Step(epoch, recipe.epochs, batch, batch, total / batch, score, True, monotonic() - began))
        if not math.isfinite(score):
            raise diverged(epoch, batch)
        if score < best - LEAST_GAIN:
            best, best_epoch, best_state = score, epoch, copy_of(averaged, averaged_log_dof)
        elif epoch - best_epoch >= PATIENCE:
            break

    weights_of_best, dof = best_state
    averaged.load_state_dict(weights_of_best)
    return Fitted(averaged.eval(), dof, epoch, best_epoch, best)


class Chunks:
    """Chunks of a dataset as tensors: a burn-in of B bars, then 180 bars that give a loss each."""

    def __init__(self, dataset: Dataset) -> None:
        self.burn_in = max(dataset.lookback_bars - BURN_IN_SHORTFALL, 0)
        self._features = torch.from_numpy(dataset.features)  # (S, T, F), shared
        both = np.stack([dataset.y_return, dataset.y_range], axis=-1, dtype=np.float32)
        self._labels = torch.from_numpy(both)  # (S, T, 2)
        self._labelled = dataset.labelled
        self._labels_before = lru_cache(self._count_labels)  # a split has two spans that are asked for again and again

    def starts(self, span: Span, shift: int = 0) -> NDArray[np.int64]:
        """`(n, 2)` symbol and first loss of the chunks whose losses tile a span; those without a label are left out."""
        tiles = np.arange(span.first - shift, span.stop, LOSS_BARS)
        first, stop = np.clip([tiles, tiles + LOSS_BARS], span.first, span.stop)
        before = self._labels_before(span)
        tile, symbol = np.nonzero((before[:, stop] - before[:, first]).T)
        return np.stack([symbol, tiles[tile]], axis=1)

    def _count_labels(self, span: Span) -> NDArray[np.int64]:
        """`(S, T + 1)` how many labels of the span lie before each slot."""
        held = self._labelled & span.holds(np.arange(self._labelled.shape[1]))
        return np.cumsum(np.pad(held, ((0, 0), (1, 0))), axis=1)

    def take(self, starts: NDArray[np.int64], span: Span) -> tuple[Tensor, Tensor, Tensor]:
        """Features `(B, T, F)`, labels `(B, T, 2)`, and which of them count `(B, T)`."""
        symbol = starts[:, :1]  # (B, 1)
        slot = starts[:, 1:] + np.arange(-self.burn_in, LOSS_BARS)  # (B, T)
        inside = np.clip(slot, 0, self._labelled.shape[1] - 1)
        counts = self._labelled[symbol, inside] & span.holds(slot)
        counts[:, : self.burn_in] = False
        at = torch.from_numpy(symbol), torch.from_numpy(inside)
        return self._features[at], self._labels[at], torch.from_numpy(counts)


def negative_log_likelihood(outputs: Tensor, y: Tensor, log_dof: Tensor) -> Tensor:
    """Of both labels, in nats: Student-t for the return, Gaussian for the range. `(n, 4)`, `(n, 2)` to `(n,)`."""
    return_location, return_log_scale, range_location, range_log_scale = outputs.unbind(-1)
    dof = dof_of(log_dof)
    z = (y[:, 0] - return_location) * torch.exp(-return_log_scale)
    constant = torch.lgamma((dof + 1) / 2) - torch.lgamma(dof / 2) - 0.5 * torch.log(math.pi * dof)
    of_return = return_log_scale - constant + (dof + 1) / 2 * torch.log1p(z * z / dof)
    z = (y[:, 1] - range_location) * torch.exp(-range_log_scale)
    of_range = range_log_scale + 0.5 * z * z + 0.5 * math.log(2 * math.pi)
    return of_return + of_range


def dof_of(log_dof: Tensor) -> Tensor:
    """Degrees of freedom, held to where the CRPS exists and the Student-t still differs from the normal."""
    return (2.0 + torch.exp(log_dof)).clamp(LEAST_DOF, MOST_DOF)


def validation_score(network: Lstm, data: Chunks, span: Span, log_dof: Tensor) -> float:
    """Mean negative log likelihood of a span, in nats."""
    starts = data.starts(span)
    total, rows = 0.0, 0
    with torch.no_grad():
        for first in range(0, len(starts), VALIDATION_CHUNKS):
            x, y, counts = data.take(starts[first : first + VALIDATION_CHUNKS], span)
            scores = negative_log_likelihood(network.forward_sequence(x)[counts], y[counts], log_dof)
            total += float(scores.double().sum())
            rows += len(scores)
    return total / rows


def set_feature_scale(network: Lstm, dataset: Dataset, span: Span) -> None:
    """Give the network the mean and standard deviation of the features of the training rows."""
    known = dataset.features[dataset.rows(*span)]  # (n, F)
    network.feature_mean.copy_(torch.from_numpy(known.mean(axis=0, dtype=np.float64)))
    network.feature_sd.copy_(torch.from_numpy(np.maximum(known.std(axis=0, dtype=np.float64), LEAST_FEATURE_SD)))


def drop_features(x: Tensor, mean: Tensor) -> Tensor:
    """Set some features of each chunk `(B, T, F)` to their mean, and stretch the others so that the spread stays."""
    kept = (torch.rand(x.shape[0], 1, x.shape[2]) >= FEATURE_DROPOUT) / (1 - FEATURE_DROPOUT)
    return torch.addcmul(mean, x - mean, kept)


@torch.no_grad()
def move_towards(averages: Sequence[Tensor], weights: Sequence[Tensor], share: float) -> None:
    """Move each average this share of the way to its weight."""
    for average, weight in zip(averages, weights, strict=True):
        average.lerp_(weight, share)


def copy_of(network: Lstm, log_dof: Tensor) -> tuple[dict[str, Tensor], float]:
    """The weights and degrees of freedom as they are now."""
    return {name: value.clone() for name, value in network.state_dict().items()}, float(dof_of(log_dof))


def diverged(epoch: int, batch: int) -> CandlewickError:
    """The message for a loss that is no number."""
    return CandlewickError(
        f"training diverged in epoch {epoch}, batch {batch}: the loss is not finite. "
        "Look for candles with absurd prices or volumes, or take another seed"
    )
