"""Train a network on a dataset: one script, read top to bottom.

Enters: a dataset, its split, the network wanted, a seed. Leaves: weights, and the degrees of freedom of the return head.
Does not know: files, bundles, calibration, baselines, the test span.

Training runs sequence to sequence: a chunk of 240 bars gives a loss at every bar after a burn-in of 60, so one pass of the
LSTM serves 180 labels, where windows of 64 bars would need 180 passes. Serving runs on windows; that both agree is
measured by the report, which scores through the serving predictor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
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

BURN_IN_BARS = 60
"""Outputs this early in a chunk know too little of the past; 64 bars of context suffice (docs)."""
CHUNK_BARS = 240
BATCH = 24  # chunks
LEAST_BATCHES = 50
"""Batches an epoch: short histories are passed over several times, at other offsets."""
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
CLIP_NORM = 1.0
PATIENCE = 8
"""Epochs without a better validation score before training stops; the best weights are kept."""
DOF_RANGE = (2.1, 100.0)


@dataclass(frozen=True)
class EpochProgress:
    """Where training stands; told after every batch and every epoch."""

    epoch: int  # from 1
    epochs: int
    batch: int  # from 1
    batches: int
    train_loss: float  # nats, mean of the epoch so far
    validation_score: float | None  # nats, of the last finished epoch; less is better
    eta_s: float  # until the last epoch, if nothing stops it earlier


Progress = Callable[[EpochProgress], None]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network, ready to be packed."""

    network: nn.Module  # in eval mode, on the CPU
    dof: float  # of the return's Student-t
    epochs: int  # run
    best_epoch: int  # whose weights these are
    validation_score: float


def fit_network(
    dataset: Dataset, split: Split, wanted: Network, epochs: int, seed: int, progress: Progress | None = None
) -> Fitted:
    """Train on the split's training rows, stop early on its validation rows.

    The same arguments give the same weights to the last bit on one type of CPU.

    Raises:
        CandlewickError: the loss is no longer finite.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = build_network(wanted, dataset.features.shape[2])
    set_scale(network, dataset, split.train)
    log_dof = nn.Parameter(torch.tensor(math.log(3.0)))
    optimizer = torch.optim.AdamW([*network.parameters(), log_dof], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    data = Tensors(dataset)
    batches = len(list(epoch_batches(dataset, split.train, np.random.default_rng(0))))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * (batches + 2), pct_start=0.1)
    best, best_epoch, best_state, best_dof = math.inf, 0, network.state_dict(), 5.0
    score: float | None = None
    started = time.monotonic()
    for epoch in range(1, epochs + 1):
        network.train()
        total = 0.0
        for batch, chunks in enumerate(epoch_batches(dataset, split.train, rng), start=1):
            x, y, mask = data.take(chunks, split.train)  # (B, T, F), (B, T, 2), (B, T)
            loss = negative_log_likelihood(network.forward_sequence(x), y, log_dof)[mask].mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*network.parameters(), log_dof], CLIP_NORM)
            optimizer.step()
            schedule.step()
            total += loss.item()
            if not math.isfinite(total):
                raise CandlewickError(f"training diverged in epoch {epoch}, batch {batch}: the loss is {total}; ...")
            if progress:
                done = epoch - 1 + batch / batches
                eta = (time.monotonic() - started) / done * (epochs - done)
                progress(EpochProgress(epoch, epochs, batch, batches, total / batch, score, eta))
        score = validate(network, data, dataset, split.validation, log_dof)
        if score < best - 1e-5:
            best, best_epoch, best_dof = score, epoch, float(dof(log_dof))
            best_state = {name: value.clone() for name, value in network.state_dict().items()}
        elif epoch - best_epoch >= PATIENCE:
            break
    network.load_state_dict(best_state)
    return Fitted(network.eval(), best_dof, epoch, best_epoch, best)
