"""One network in the making: all that its training remembers from one epoch to the next.

Enters: a fresh network and its seed. Leaves: tensors and numbers that a checkpoint keeps, and takes them back.
Does not know: the data, the loss, files. An ensemble is several of these, trained one after another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.standardised import Standardised
from training.adamw import AdamW
from training.loss import dof_of

WEIGHT_DECAY = 0.3
FIRST_LOG_DOF = math.log(3.0)


class Epoch(NamedTuple):
    """What one epoch came to."""

    epoch: int  # from 1
    train_loss: float  # mean over the epoch
    validation_score: float  # mean loss; less is better
    member: int = 1  # of an ensemble, from 1


class Member:
    """A network, its running average, its optimizer, its random numbers, and the best weights so far."""

    def __init__(self, number: int, network: Standardised, seed: int) -> None:
        """Args: `number` from 1; `network` fresh and on its device, torch's generator as its making left it."""
        self.number = number
        self.network, self.averaged = network, deepcopy(network).requires_grad_(False)
        self.log_dof = nn.Parameter(torch.tensor(FIRST_LOG_DOF, device=network.feature_mean.device))
        self.averaged_log_dof = self.log_dof.detach().clone()
        self.optimizer = AdamW([*((weight, WEIGHT_DECAY) for weight in network.parameters()), (self.log_dof, 0.0)])
        self.order = np.random.default_rng(seed)  # of the batches
        self.noise = torch.Generator().set_state(torch.get_rng_state())  # on the CPU, whatever the device
        self.history: list[Epoch] = []
        self.first_score = self.best_score = math.inf  # of the validation rows, before any training; and at best
        self.best_epoch = 0
        self.best_dof = float(dof_of(self.averaged_log_dof))
        self.best = deepcopy(self.averaged)

    @property
    def epoch(self) -> int:
        """The last one that is over; 0 before the first."""
        return len(self.history)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that training moves."""
        return [*self.network.parameters(), self.log_dof]

    @torch.no_grad()
    def average(self, share: float) -> None:
        """Move each average this share of the way to its weight."""
        averages = [*self.averaged.parameters(), self.averaged_log_dof]
        for average, weight in zip(averages, self.parameters, strict=True):
            average.lerp_(weight, share)

    def keep_best(self, score: float) -> None:
        """Keep the averaged weights as they are now."""
        self.best_score, self.best_epoch = score, self.epoch
        self.best_dof = float(dof_of(self.averaged_log_dof))
        self.best.load_state_dict(self.averaged.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, in use: whoever keeps them copies them."""
        return dict(self._tensors())

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for part in ("network", "averaged", "best"):
            yield from ((f"{part}.{name}", value) for name, value in getattr(self, part).state_dict().items())
        yield from ((f"optimizer.{name}", value) for name, value in self.optimizer.moments().items())
        yield "log_dof", self.log_dof.detach()
        yield "averaged_log_dof", self.averaged_log_dof
        yield "noise", self.noise.get_state()

    def numbers(self) -> dict[str, Any]:
        """All else, as JSON takes it."""
        return {
            "steps": self.optimizer.steps,
            "order": self.order.bit_generator.state,
            "history": self.history,
            "first_score": self.first_score,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "best_dof": self.best_dof,
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go on from what `tensors` and `numbers` once gave."""
        for name, value in self._tensors():
            value.copy_(tensors[name])
        self.noise.set_state(tensors["noise"])  # what it gave above was a copy
        self.optimizer.steps = numbers["steps"]
        self.order.bit_generator.state = numbers["order"]
        self.history = [Epoch(*epoch) for epoch in numbers["history"]]
        self.first_score, self.best_score = numbers["first_score"], numbers["best_score"]
        self.best_epoch, self.best_dof = numbers["best_epoch"], numbers["best_dof"]
