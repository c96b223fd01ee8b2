"""Adam with decoupled weight decay, and the learning rate's one cycle.

Enters: parameters with gradients. Leaves: the parameters, moved. Does not know: the loss, the data.
torch.optim does the same, but its first use imports torch's compiler: 5.6 s and 200 MB, more than the demo's training.

Source: Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization; the cycle,
Smith & Topin 2019, Super-Convergence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

MEAN_DECAY, SQUARE_DECAY, LEAST_ROOT = 0.9, 0.999, 1e-8
WARM_UP_SHARE = 0.1
FIRST_SHARE, LAST_SHARE = 0.04, 4e-6
"""Of the highest learning rate, at the first and at the last step."""


class AdamW:
    """One optimizer over a few parameters, each with its own weight decay."""

    def __init__(self, parameters: Iterable[tuple[nn.Parameter, float]]) -> None:
        """Args: `parameters` pairs each with its weight decay, a share of the learning rate."""
        self._parameters = [(p, decay, torch.zeros_like(p), torch.zeros_like(p)) for p, decay in parameters]
        self.steps = 0  # taken so far

    def moments(self) -> dict[str, Tensor]:
        """What it remembers of each parameter, by number: the tensors themselves, in use."""
        pairs = enumerate((mean, square) for _, _, mean, square in self._parameters)
        return {f"{i}.{name}": value for i, pair in pairs for name, value in zip(("mean", "square"), pair, strict=True)}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every parameter along its gradient, and forget the gradient."""
        self.steps += 1
        mean_share, square_share = 1 - MEAN_DECAY**self.steps, 1 - SQUARE_DECAY**self.steps
        for parameter, decay, mean, square in self._parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            mean.lerp_(gradient, 1 - MEAN_DECAY)
            square.mul_(SQUARE_DECAY).addcmul_(gradient, gradient, value=1 - SQUARE_DECAY)
            root: Tensor = (square / square_share).sqrt_().add_(LEAST_ROOT)
            parameter.mul_(1 - learning_rate * decay).addcdiv_(mean, root, value=-learning_rate / mean_share)
            parameter.grad = None


def one_cycle(step: int, steps: int, highest: float) -> float:
    """The learning rate of step `0 <= step < steps`: up over the first tenth, then down to nearly nothing."""
    turn = int(WARM_UP_SHARE * steps)
    if step < turn:
        return highest * _cosine(FIRST_SHARE, 1.0, step / turn)
    return highest * _cosine(1.0, LAST_SHARE, (step - turn) / max(steps - 1 - turn, 1))


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * min(share, 1.0)))
