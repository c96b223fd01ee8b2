"""A network without a memory: the whole window at once through dense layers.

Enters: standardised features, time first. Leaves: outputs at the last step.
Does not know: the scale of the features, bundles, losses.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from models.standardised import Standardised, fresh_head


class Mlp(Standardised):
    """The flattened window through dense layers with SiLU between them.

    Source: SiLU, Elfwing et al. 2018, Sigmoid-Weighted Linear Units.
    """

    def __init__(self, features: int, lookback_bars: int, hidden: int, layers: int) -> None:
        super().__init__(features)
        widths = [lookback_bars * features, *[hidden] * layers]
        self.dense = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.head = fresh_head(hidden)

    def last(self, x: Tensor) -> Tensor:
        """From (L, B, F) to (B, 4)."""
        hidden = x.transpose(0, 1).flatten(1)  # (B, L * F)
        for layer in self.dense:
            hidden = nn.functional.silu(layer(hidden))  # (B, H)
        outputs: Tensor = self.head(hidden)
        return outputs
