"""Every kind of network under one contract, and how to make one from a spec.

Enters: what a spec says of its network. Leaves: a fresh module. Does not know: weights, bundles, losses.

To add a kind: write a module like `models.mlp`, name it in `models.spec.Network.kind`, give its shapes in
`models.spec.expected_shapes` and its maker here. `tests/models/test_networks.py` then holds it to the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeGuard

from torch import Tensor

from models.ensemble import Ensemble, SequenceEnsemble
from models.mlp import Mlp
from models.recurrent import Gru, Lstm
from models.spec import Network
from models.standardised import Standardised, StandardisedSequence

RECURRENT = frozenset({"lstm", "gru"})
"""Kinds that answer at every step of a sequence at the price of one pass."""


class WindowNetwork(Protocol):
    """What serving asks of a network, a `torch.nn.Module` whose tensors are those of `expected_shapes`.

    A window's answer depends on no other window of the batch; it is finite for any finite features, and the same for
    the same weights; its log scales lie within MAX_LOG_SCALE of 0.
    """

    feature_mean: Tensor  # (F,) it standardises its own input
    feature_sd: Tensor  # (F,)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, L, F), newest last, to (B, 4): location and log scale of the return, then of the range."""
        ...


_MAKERS: dict[str, Callable[[Network, int, int], Standardised]] = {
    "lstm": lambda network, features, _: Lstm(features, network.hidden, network.layers),
    "gru": lambda network, features, _: Gru(features, network.hidden, network.layers),
    "mlp": lambda network, features, lookback_bars: Mlp(features, lookback_bars, network.hidden, network.layers),
}


def build_network(network: Network, features: int, lookback_bars: int) -> Standardised:
    """Make the network a spec asks for, with fresh weights from torch's generator."""
    if not network.members:
        return _MAKERS[network.kind](network, features, lookback_bars)
    members = [_MAKERS[network.kind](network, features, lookback_bars) for _ in range(network.members)]
    return (SequenceEnsemble if network.kind in RECURRENT else Ensemble)(features, members)


def answers_sequences(network: Standardised) -> TypeGuard[StandardisedSequence]:
    """Whether a network can be trained sequence to sequence."""
    return isinstance(network, StandardisedSequence)
