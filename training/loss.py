"""What training makes small, the negative log likelihood of both labels; and what is said where it grows instead.

Enters: outputs of a network and the labels that came true. Leaves: nats. Does not know: networks, datasets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.errors import CandlewickError

LEAST_DOF, MOST_DOF = 2.1, 100.0
MOST_HARM = 3.0
"""Nats by which an epoch may leave validation worse than no training at all; one nat is e times less likely already."""


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


def log_dof_of(dof: float) -> Tensor:
    """The parameter of these degrees of freedom."""
    return torch.tensor(math.log(dof - 2.0))


def diverged(epoch: int, batch: int) -> CandlewickError:
    """The message for a loss that is no number."""
    return CandlewickError(
        f"training diverged in epoch {epoch}, batch {batch}: the loss is not finite. "
        "Look for candles with absurd prices or volumes, or take another seed"
    )


def exploded(epoch: int, score: float, first: float) -> CandlewickError:
    """The message for a validation score that is worse than before training by more than `MOST_HARM`."""
    return CandlewickError(
        f"the loss exploded in epoch {epoch}: validation rows score {score:.4g} nats, and {first:.4g} before training. "
        "Look for candles with absurd prices or volumes, validate on a market more like the one that trains "
        "(--validate spread), or take another seed"
    )
