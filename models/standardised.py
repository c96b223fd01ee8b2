"""What every network shares: it standardises its own input and holds its own output.

Enters: features (B, L, F) as the catalogue gives them. Leaves: (B, 4), uncalibrated. Does not know: bundles, labels,
losses, time, what lies between. Imports torch: whoever need not have it imports this module late.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.spec import MAX_LOG_SCALE, OUTPUTS

MAX_DEVIATIONS = 6.0
"""Standardised features are cut here: one wild candle must not saturate every gate for a whole window."""


class Standardised(nn.Module, ABC):
    """A network over a window. A subclass writes `last`; see `models.networks` for the contract."""

    feature_mean: Tensor  # (F,) of the training rows
    feature_sd: Tensor  # (F,) likewise, above 0
    _least: Tensor
    _most: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_sd", torch.ones(features))
        most = torch.tensor([torch.inf, MAX_LOG_SCALE, torch.inf, MAX_LOG_SCALE])
        self.register_buffer("_most", most, persistent=False)
        self.register_buffer("_least", -most, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Predict at the last step.

        Args:
            x: features (B, L, F), newest last.

        Returns:
            (B, 4): location and log scale of the return, location and log scale of the range. Log scales are held to
            within MAX_LOG_SCALE of 0.
        """
        return self.held(self.last(self.standardised(x)))

    @abstractmethod
    def last(self, x: Tensor) -> Tensor:
        """From standardised features (L, B, F), time first, to (B, 4), not yet held."""

    def standardised(self, x: Tensor) -> Tensor:
        """Features (B, L, F) in standard deviations, time first: (L, B, F)."""
        batch, _, features = x.shape
        x = x.transpose(0, 1).contiguous()  # no copy where the caller's memory is time first already
        # Laid flat: operations along rows of B * F numbers are several times faster than along rows of F.
        flat = x.flatten(1) - self.feature_mean.expand(batch, features).reshape(-1)  # (L, B * F), ours to change
        flat.div_(self.feature_sd.expand(batch, features).reshape(-1)).clamp_(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        return flat.view(x.shape)

    def held(self, outputs: Tensor) -> Tensor:
        """Hold the log scales of (..., 4) to within MAX_LOG_SCALE of 0."""
        return outputs.clamp(self._least, self._most)


class StandardisedSequence(Standardised):
    """A network that can answer at every step of a sequence at the price of one pass. A subclass writes `every`."""

    def forward_sequence(self, x: Tensor) -> Tensor:
        """Predict at every step from the steps up to it, the last as `forward` does: (B, T, F) to (B, T, 4)."""
        return self.held(self.every(self.standardised(x))).transpose(0, 1)

    @abstractmethod
    def every(self, x: Tensor) -> Tensor:
        """From standardised features (T, B, F), time first, to (T, B, 4), not yet held."""


def fresh_head(hidden: int) -> nn.Linear:
    """A linear head from a hidden state to the outputs, that begins near the climate: location 0, scale 1."""
    head = nn.Linear(hidden, OUTPUTS)
    with torch.no_grad():
        head.weight.mul_(0.1)
        head.bias.zero_()
    return head
