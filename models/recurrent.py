"""Networks with a memory: an LSTM or a GRU over the window, and a linear head on its last step.

Enters: standardised features, time first. Leaves: outputs at the last step, or at every one.
Does not know: the scale of the features, bundles, losses.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.standardised import StandardisedSequence, fresh_head


class Recurrent(StandardisedSequence):
    """A recurrent network and a head. A subclass makes both, in this order, and names what remembers."""

    head: nn.Linear

    @property
    def memory(self) -> nn.LSTM | nn.GRU:
        """What turns steps (T, B, F) into hidden states (T, B, H)."""
        raise NotImplementedError

    def last(self, x: Tensor) -> Tensor:
        """From (L, B, F) to (B, 4)."""
        hidden, _ = self.memory(x)  # (L, B, H)
        outputs: Tensor = self.head(hidden[-1])
        return outputs

    def every(self, x: Tensor) -> Tensor:
        """From (T, B, F) to (T, B, 4)."""
        hidden, _ = self.memory(x)  # (T, B, H)
        outputs: Tensor = self.head(hidden)
        return outputs


class Lstm(Recurrent):
    """Source: Hochreiter and Schmidhuber 1997, Long Short-Term Memory; forget gates, Gers et al. 2000."""

    def __init__(self, features: int, hidden: int, layers: int) -> None:
        super().__init__(features)
        self.lstm = nn.LSTM(features, hidden, layers)
        self.head = fresh_head(hidden)

    @property
    def memory(self) -> nn.LSTM:
        """The LSTM."""
        return self.lstm


class Gru(Recurrent):
    """Source: Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder."""

    def __init__(self, features: int, hidden: int, layers: int) -> None:
        super().__init__(features)
        self.gru = nn.GRU(features, hidden, layers)
        self.head = fresh_head(hidden)

    @property
    def memory(self) -> nn.GRU:
        """The GRU."""
        return self.gru
