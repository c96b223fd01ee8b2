"""What training makes small: the surprise at the return and the CRPS of the range; and what is said where it grows.

Enters: outputs of a network and the labels that came true. Leaves: numbers. Does not know: networks, datasets.

The range is trained on the very score that it is judged by. A likelihood would listen to its long upper tail: on real
5m candles, validation rows, a CRPS of .9395 of HAR's by likelihood, .9369 by CRPS. The return is mostly noise: at a
third of its weight it disturbs what both heads share less, and forecasts as well.
Source: Gneiting & Raftery 2007, Strictly Proper Scoring Rules: both are proper, so what is made small is honest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.errors import CandlewickError
from training.likelihood import LEAST_DOF, MOST_DOF

RETURN_WEIGHT, RANGE_WEIGHT = 0.3, 3.0
"""A nat of the return, and a unit of CRPS of the range, which is about .2 where a forecast is good."""
MOST_HARM = 3.0
"""By how much an epoch may leave validation worse than no training at all: about as much as a forecast can win."""


def training_loss(outputs: Tensor, y: Tensor, log_dof: Tensor) -> Tensor:
    """Of outputs `(n, 4)` and both labels `(n, 2)`: `(n,)`."""
    return_location, return_log_scale, range_location, range_log_scale = outputs.unbind(-1)
    of_return = student_t_surprise(y[:, 0], return_location, return_log_scale, log_dof)
    of_range = gaussian_crps(y[:, 1], range_location, range_log_scale)
    return RETURN_WEIGHT * of_return + RANGE_WEIGHT * of_range


def student_t_surprise(y: Tensor, location: Tensor, log_scale: Tensor, log_dof: Tensor) -> Tensor:
    """Negative log likelihood of a Student-t in nats, `(n,)`."""
    dof = dof_of(log_dof)
    z = (y - location) * torch.exp(-log_scale)
    constant = torch.lgamma((dof + 1) / 2) - torch.lgamma(dof / 2) - 0.5 * torch.log(math.pi * dof)
    return log_scale - constant + (dof + 1) / 2 * torch.log1p(z * z / dof)


def gaussian_crps(y: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """CRPS of a Gaussian in the unit of y, `(n,)`. Source: Gneiting et al. 2005, eq. 5."""
    scale = torch.exp(log_scale)
    z = (y - location) / scale
    density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return scale * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


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
        f"the loss exploded in epoch {epoch}: {score:.4g} on validation rows, {first:.4g} before training. "
        "Look for candles with absurd prices or volumes, validate on a market more like the one that trains "
        "(--validate spread), or take another seed"
    )
