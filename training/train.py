"""Train a network on a dataset: one script, read from top to bottom.

Enters: a dataset, its split, the network wanted, a seed. Leaves: weights, and the degrees of freedom of the return head.
Does not know: files, bundles, calibration, baselines, the test span.

Training runs sequence to sequence: a chunk of 240 bars gives a loss at every bar after a burn-in of 60, so 240 steps of
the LSTM serve 180 labels, where windows of 64 bars would need 11,520. Serving runs on windows; that both agree is
measured, not assumed: the report scores through the serving predictor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import CandlewickError
from models.lstm import build_network
from models.spec import Network
from training.dataset import Dataset
from training.split import Span, Split

CHUNK_BARS = 240
BURN_IN_BARS = 60
"""Outputs this early in a chunk know too little of the past: 64 bars of context suffice, fewer do not."""
BATCH_CHUNKS = 24
VALIDATION_CHUNKS = 256
LEARNING_RATE = 2e-3  # at its highest; it rises over the first tenth and falls to nearly nothing
WEIGHT_DECAY = 0.3
FEATURE_DROPOUT = 0.1
"""A feature is silent for a whole chunk: a week of candles is else learned by heart within three passes."""
CLIP_NORM = 1.0
PATIENCE = 8
"""Epochs without a better validation score before training stops; the best weights are kept."""
LEAST_GAIN = 1e-5
LEAST_DOF, MOST_DOF = 2.1, 100.0
LEAST_FEATURE_SD = 1e-6


@dataclass(frozen=True)
class EpochProgress:
    """Where training stands; told after every batch."""

    epoch: int  # from 1
    epochs: int
    batch: int  # from 1
    batches: int  # about: chunks without a label are left out, and their number varies
    train_loss: float  # nats, mean of the epoch so far
    validation_score: float | None  # nats, of the last whole epoch; less is better
    eta_s: float  # until the last epoch, if training does not stop before it


Progress = Callable[[EpochProgress], None]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network, ready to be packed."""

    network: nn.Module  # in eval mode, on the CPU
    dof: float  # of the return's Student-t
    epochs: int  # run
    best_epoch: int  # whose weights these are
    validation_score: float  # nats


def fit_network(
    dataset: Dataset, split: Split, wanted: Network, *, epochs: int, seed: int, progress: Progress | None = None
) -> Fitted:
    """Train on the split's training rows, stop early on its validation rows.

    The same arguments give the same weights to the last bit, on one type of CPU and one version of torch.

    Raises:
        CandlewickError: the loss is no longer finite.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    data = Chunks(dataset)

    network = build_network(wanted, dataset.features.shape[2])
    set_feature_scale(network, dataset, split.train)
    log_dof = nn.Parameter(torch.tensor(math.log(3.0)))
    weights = list(network.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": [log_dof], "weight_decay": 0.0}],
        lr=LEARNING_RATE,
    )
    batches = data.most_batches(split.train)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=epochs * batches, pct_start=0.1
    )

    best, best_epoch, best_state = math.inf, 0, copy_of(network, log_dof)
    score: float | None = None
    began = time.monotonic()
    for epoch in range(1, epochs + 1):
        total = 0.0
        shift = int(rng.integers(CHUNK_BARS - BURN_IN_BARS))
        starts = data.starts(split.train, shift)
        starts = starts[rng.permutation(len(starts))]
        for batch, first in enumerate(range(0, len(starts), BATCH_CHUNKS), start=1):
            x, y, counts = data.take(starts[first : first + BATCH_CHUNKS], split.train)  # (B, T, F) (B, T, 2) (B, T)
            outputs = network.forward_sequence(drop_features(x, network.feature_mean))  # (B, T, 4)
            loss = negative_log_likelihood(outputs[counts], y[counts], log_dof).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*weights, log_dof], CLIP_NORM)
            optimizer.step()
            schedule.step()
            total += loss.item()
            if not math.isfinite(total):
                raise diverged(epoch, batch)
            if progress:
                done = epoch - 1 + batch / batches
                eta_s = (time.monotonic() - began) / done * (epochs - done)
                progress(EpochProgress(epoch, epochs, batch, batches, total / batch, score, eta_s))
        score = validation_score(network, data, split.validation, log_dof)
        if not math.isfinite(score):
            raise diverged(epoch, batch)
        if score < best - LEAST_GAIN:
            best, best_epoch, best_state = score, epoch, copy_of(network, log_dof)
        elif epoch - best_epoch >= PATIENCE:
            break

    weights_of_best, dof = best_state
    network.load_state_dict(weights_of_best)
    return Fitted(network.eval(), dof, epoch, best_epoch, best)


class Chunks:
    """Chunks of a dataset as tensors. The chunk that starts at slot s gives losses at slots s + 60 .. s + 239."""

    def __init__(self, dataset: Dataset) -> None:
        self._features = torch.from_numpy(dataset.features)  # (S, T, F), shared
        both = np.stack([dataset.y_return, dataset.y_range], axis=-1, dtype=np.float32)
        self._labels = torch.from_numpy(both)  # (S, T, 2)
        self._labelled = dataset.labelled

    def starts(self, span: Span, shift: int = 0) -> NDArray[np.int64]:
        """`(n, 2)` symbol and first slot of the chunks whose losses tile a span; chunks without a label are left out."""
        tiles = np.arange(span.first - shift, span.stop, CHUNK_BARS - BURN_IN_BARS)
        count = np.cumsum(np.pad(self._labelled, ((0, 0), (1, 0))), axis=1)  # (S, T + 1), labels before a slot
        edges = np.clip([tiles, tiles + CHUNK_BARS - BURN_IN_BARS], span.first, span.stop)
        tile, symbol = np.nonzero((count[:, edges[1]] - count[:, edges[0]]).T)
        return np.stack([symbol, tiles[tile] - BURN_IN_BARS], axis=1)

    def most_batches(self, span: Span) -> int:
        """At least as many batches as any shift of the tiles makes."""
        tiles = span.slots // (CHUNK_BARS - BURN_IN_BARS) + 2
        return math.ceil(tiles * len(self._labelled) / BATCH_CHUNKS)

    def take(self, starts: NDArray[np.int64], span: Span) -> tuple[Tensor, Tensor, Tensor]:
        """Features `(B, T, F)`, labels `(B, T, 2)`, and which of them count `(B, T)`."""
        symbol = starts[:, :1]  # (B, 1)
        slot = starts[:, 1:] + np.arange(CHUNK_BARS)  # (B, T)
        inside = np.clip(slot, 0, self._labelled.shape[1] - 1)
        counts = self._labelled[symbol, inside] & (slot >= span.first) & (slot < span.stop)
        counts[:, :BURN_IN_BARS] = False
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


def validation_score(network: nn.Module, data: Chunks, span: Span, log_dof: Tensor) -> float:
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


def set_feature_scale(network: nn.Module, dataset: Dataset, span: Span) -> None:
    """Give the network the mean and standard deviation of the features of the training rows."""
    known = dataset.features[dataset.rows(span.first, span.stop)]  # (n, F)
    network.feature_mean.copy_(torch.from_numpy(known.mean(axis=0, dtype=np.float64)))
    network.feature_sd.copy_(torch.from_numpy(np.maximum(known.std(axis=0, dtype=np.float64), LEAST_FEATURE_SD)))


def drop_features(x: Tensor, mean: Tensor) -> Tensor:
    """Replace some features of each chunk `(B, T, F)` by their mean, and stretch the others so that the spread stays."""
    kept = (torch.rand(x.shape[0], 1, x.shape[2]) >= FEATURE_DROPOUT) / (1 - FEATURE_DROPOUT)
    return torch.addcmul(mean, x - mean, kept)


def copy_of(network: nn.Module, log_dof: Tensor) -> tuple[dict[str, Tensor], float]:
    """The weights and degrees of freedom as they are now."""
    return {name: value.clone() for name, value in network.state_dict().items()}, float(dof_of(log_dof))


def diverged(epoch: int, batch: int) -> CandlewickError:
    """The message for a loss that is no number."""
    return CandlewickError(
        f"training diverged in epoch {epoch}, batch {batch}: the loss is not finite. "
        "Look for candles with absurd prices or volumes, or take another seed"
    )
