"""The network: standardised features through an LSTM, one location and log scale for the return, one for the range.

Enters: features (B, L, F) as the catalogue gives them. Leaves: (B, 4), uncalibrated. Does not know: bundles, labels,
losses, time. Imports torch: whoever need not have it imports this module late.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.spec import MAX_LOG_SCALE, OUTPUTS, Network, expected_shapes

__all__ = ["MAX_DEVIATIONS", "Lstm", "build_network", "expected_shapes"]

MAX_DEVIATIONS = 6.0
"""Standardised features are cut here: one wild candle must not saturate every gate for a whole window."""


class Lstm(nn.Module):
    """An LSTM over the window and a linear head on its last step; it standardises its own input.

    Source: Hochreiter and Schmidhuber 1997, Long Short-Term Memory; forget gates, Gers et al. 2000.
    """

    feature_mean: Tensor  # (F,) of the training rows
    feature_sd: Tensor  # (F,) likewise, above 0
    _least: Tensor
    _most: Tensor

    def __init__(self, features: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_sd", torch.ones(features))
        most = torch.tensor([torch.inf, MAX_LOG_SCALE, torch.inf, MAX_LOG_SCALE])
        self.register_buffer("_most", most, persistent=False)
        self.register_buffer("_least", -most, persistent=False)
        self.lstm = nn.LSTM(features, hidden, layers)
        self.head = nn.Linear(hidden, OUTPUTS)
        with torch.no_grad():  # begin near the climate: location 0, scale 1
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Predict at the last step.

        Args:
            x: features (B, L, F), newest last.

        Returns:
            (B, 4): location and log scale of the return, location and log scale of the range. Log scales are held to
            within MAX_LOG_SCALE of 0.
        """
        _, (hidden, _) = self.lstm(self._standardised(x))  # (layers, B, H)
        return self._outputs(hidden[-1])

    def forward_sequence(self, x: Tensor) -> Tensor:
        """Predict at every step from the steps up to it: (B, T, F) to (B, T, 4), for training."""
        hidden, _ = self.lstm(self._standardised(x))  # (T, B, H)
        return self._outputs(hidden).transpose(0, 1)

    def _standardised(self, x: Tensor) -> Tensor:
        """Features (B, L, F) in standard deviations, time first: (L, B, F)."""
        batch, _, features = x.shape
        x = x.transpose(0, 1).contiguous()  # no copy where the caller's memory is time first already
        # Laid flat: operations along rows of B * F numbers are several times faster than along rows of F.
        flat = x.flatten(1) - self.feature_mean.expand(batch, features).reshape(-1)  # (L, B * F), ours to change
        flat.div_(self.feature_sd.expand(batch, features).reshape(-1)).clamp_(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        return flat.view(x.shape)

    def _outputs(self, hidden: Tensor) -> Tensor:
        outputs: Tensor = self.head(hidden)  # (..., 4)
        return outputs.clamp(self._least, self._most)


def build_network(network: Network, features: int) -> nn.Module:
    """Make the network a spec asks for, with fresh weights from torch's generator."""
    return {"lstm": Lstm}[network.kind](features, network.hidden, network.layers)
