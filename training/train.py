"""Train a network on a dataset: one script, read from top to bottom.

Enters: a dataset, its split, the network wanted, a seed. Leaves: weights, and the return's degrees of freedom.
Does not know: bundles, calibration, baselines, the test span.

Recurrent networks train sequence to sequence, on chunks; others, or if asked, on windows (`training.chunks`). Serving
runs on windows: that both agree is measured, not assumed, since the report scores through the serving predictor.
An ensemble is several networks from seeds one apart, trained one after another.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import cast

import msgspec
import numpy as np
import torch
from msgspec import UNSET
from torch import Tensor, nn

from models.ensemble import Ensemble
from models.networks import answers_sequences, build_network
from models.predictor import choose_device
from models.spec import Network
from models.standardised import Standardised
from training.adamw import one_cycle
from training.checkpoint import Checkpoint, fingerprint
from training.chunks import Batches, Chunks, Windows
from training.dataset import Dataset
from training.loss import MOST_HARM, diverged, exploded, log_dof_of, training_loss
from training.member import Epoch, Member
from training.progress import Progress, Step
from training.split import Span, Split

FEATURE_DROPOUT = 0.1
"""A feature is silent for a whole chunk: a week of candles is else learned by heart within three passes."""
LEAST_AVERAGE_SHARE, AVERAGE_WARM_UP = 0.01, 10
"""What is validated and kept is a running average of the weights over the last hundred steps (at first a tenth of all).
It bears a learning rate twice as high; together, CRPS .834 instead of .848 of vol60. Source: Polyak & Juditsky 1992."""
CLIP_NORM = 1.0
PATIENCE = 8
"""Epochs without a better validation score before training stops; the best weights are kept."""
LEAST_GAIN = 1e-5
LEAST_FEATURE_SD = 1e-6


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network, ready to be packed."""

    network: Standardised  # in eval mode, on the CPU
    dof: float  # of the return's Student-t; the mean of an ensemble's members
    epochs: int  # run; of an ensemble: by the member that validates best
    best_epoch: int  # whose weights these are; likewise
    validation_score: float  # mean loss of the network as it is, so of the whole ensemble; less is better
    history: tuple[Epoch, ...]  # of all members, one after another


@dataclass(frozen=True)
class Recipe:
    """What to train, for how long, from which seed."""

    network: Network
    epochs: int
    seed: int
    windows: bool = False  # train a recurrent network on windows, as a network without a memory always is


def fit_network(  # noqa: PLR0913 - three that say what, three that may be left out
    dataset: Dataset,
    split: Split,
    recipe: Recipe,
    progress: Progress | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "auto",
) -> Fitted:
    """Train on the split's training rows, stop early on its validation rows.

    The same arguments give the same weights to the last bit, on one type of CPU and one version of torch.

    Args:
        dataset: features and labels.
        split: which rows train and which validate.
        recipe: what to train.
        progress: told of every batch and every epoch.
        checkpoint: a file to keep where training stands, and to go on from; removed at the end.
        device: `auto`, `cpu` or `cuda`; on CUDA in mixed precision.

    Raises:
        CandlewickError: the loss is no longer finite, or exploded; or the device is not there.
    """
    place = choose_device(device)
    make_repeatable(place)
    members = [begun(k, dataset, split, recipe, place) for k in range(1, (recipe.network.members or 1) + 1)]
    sequences = answers_sequences(members[0].network) and not recipe.windows
    data: Batches = Chunks(dataset, place) if sequences else Windows(dataset, place)
    kept = Checkpoint(checkpoint, fingerprint(dataset, split, recipe, place.type)) if checkpoint else None
    began = monotonic() - (kept.resume(members) if kept else 0.0)

    def tell(step: Step) -> None:
        if progress:
            progress(step._replace(members=len(members), elapsed_s=monotonic() - began))

    for member in members:
        for _ in epochs_of(member, data, split, recipe.epochs, tell):
            if kept:
                kept.keep(members, monotonic() - began)
    fitted = joined(members, data, dataset, split, recipe)
    if kept:
        kept.remove()
    return fitted


def epochs_of(member: Member, data: Batches, split: Split, epochs: int, tell: Progress) -> Iterator[Epoch]:
    """Train one network, from wherever it stands to its last epoch; whoever keeps it does so between two epochs."""
    passes, batches = data.epochs(split.train)
    answer, mean = answers(member.network, data), member.network.feature_mean
    score: float | None = member.history[-1].validation_score if member.history else None
    if score is None:
        member.first_score = validation_score(member.averaged, data, split.validation, member.averaged_log_dof)
    for epoch in range(member.epoch + 1, epochs + 1):
        if member.epoch - member.best_epoch >= PATIENCE:
            break
        total, batch = 0.0, 0
        starts = data.drawn(split.train, passes, member.order)  # (n, 2)
        for batch, first in enumerate(range(0, len(starts), data.size), start=1):
            x, y, counts = data.take(starts[first : first + data.size], split.train)  # (B, T, F) (B, T, 2) (B, T)
            with mixed_precision(x.device):
                outputs = answer(drop_features(x, mean, member.noise))  # (B, T, 4), without T where windows train
            loss = training_loss(outputs[counts].float(), y[counts], member.log_dof).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(member.parameters, CLIP_NORM)
            step = member.optimizer.steps
            member.optimizer.step(one_cycle(step, epochs * batches, data.learning_rate))
            member.average(max(LEAST_AVERAGE_SHARE, AVERAGE_WARM_UP / (step + AVERAGE_WARM_UP)))
            total += loss.item()
            if not math.isfinite(total):
                raise diverged(epoch, batch)
            tell(Step(epoch, epochs, batch, batches, total / batch, score, False, 0.0, member.number))
        score = validation_score(member.averaged, data, split.validation, member.averaged_log_dof)
        tell(Step(epoch, epochs, batch, batch, total / batch, score, True, 0.0, member.number))
        if not math.isfinite(score):
            raise diverged(epoch, batch)
        if score > member.first_score + MOST_HARM:
            raise exploded(epoch, score, member.first_score)
        member.history.append(Epoch(epoch, total / batch, score, member.number))
        if score < member.best_score - LEAST_GAIN:
            member.keep_best(score)
        yield member.history[-1]


def make_repeatable(device: torch.device) -> None:
    """One thread and deterministic algorithms on the CPU; CUDA is as repeatable as its libraries are."""
    torch.set_num_threads(1)
    if device.type == "cpu":
        # Its other name, use_deterministic_algorithms, imports the compiler.
        torch.set_deterministic_debug_mode("error")
    else:
        torch.set_deterministic_debug_mode("default")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA begins


def begun(number: int, dataset: Dataset, split: Split, recipe: Recipe, device: torch.device) -> Member:
    """Member `number`, from 1, before its first epoch."""
    seed = recipe.seed + number - 1
    torch.manual_seed(seed)
    one = msgspec.structs.replace(recipe.network, members=UNSET)
    network = build_network(one, dataset.features.shape[2], dataset.lookback_bars)
    set_feature_scale(network, dataset, split.train)
    return Member(number, network.to(device), seed)


def joined(members: Sequence[Member], data: Batches, dataset: Dataset, split: Split, recipe: Recipe) -> Fitted:
    """The best weights of every member as one network, validated as such."""
    best = min(members, key=lambda member: member.best_score)
    network, dof, score = best.best, best.best_dof, best.best_score
    if len(members) > 1:
        device = network.feature_mean.device
        whole = cast(Ensemble, build_network(recipe.network, dataset.features.shape[2], dataset.lookback_bars))
        network = whole.adopt([member.best for member in members]).to(device).requires_grad_(False)
        dof = sum(member.best_dof for member in members) / len(members)
        score = validation_score(network, data, split.validation, log_dof_of(dof).to(device))
    history = tuple(epoch for member in members for epoch in member.history)
    return Fitted(network.cpu().eval(), dof, best.epoch, best.best_epoch, score, history)


def answers(network: Standardised, data: Batches) -> Callable[[Tensor], Tensor]:
    """What the network is asked: an answer at every step of a chunk, or at the end of a window."""
    return network.forward_sequence if data.sequences and answers_sequences(network) else network.forward


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Matrix products in bfloat16 on CUDA; on a CPU they would be slower, not faster."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


@torch.no_grad()
def validation_score(network: Standardised, data: Batches, span: Span, log_dof: Tensor) -> float:
    """Mean loss of a span."""
    starts, answer = data.starts(span), answers(network, data)
    total, rows = 0.0, 0
    for first in range(0, len(starts), data.validation_size):
        x, y, counts = data.take(starts[first : first + data.validation_size], span)
        scores = training_loss(answer(x)[counts], y[counts], log_dof)
        total += float(scores.double().sum())
        rows += len(scores)
    return total / rows


def set_feature_scale(network: Standardised, dataset: Dataset, span: Span) -> None:
    """Give the network the mean and standard deviation of the features of the training rows."""
    mean, sd = dataset.feature_moments(dataset.rows(*span))
    network.feature_mean.copy_(torch.from_numpy(mean))
    network.feature_sd.copy_(torch.from_numpy(np.maximum(sd, LEAST_FEATURE_SD)))


def drop_features(x: Tensor, mean: Tensor, noise: torch.Generator) -> Tensor:
    """Set some features of each chunk `(B, T, F)` to their mean, and stretch the others so that the spread stays."""
    drawn = torch.rand(x.shape[0], 1, x.shape[2], generator=noise).to(x.device)
    kept = (drawn >= FEATURE_DROPOUT) / (1 - FEATURE_DROPOUT)
    return torch.addcmul(mean, x - mean, kept)
