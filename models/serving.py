"""A bundle made ready to serve: its network, its reading of the network's output, its columns of the catalogue.

Enters: the bytes of a bundle. Leaves: one object that answers windows. Does not know: when it serves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.bundle import unpack
from models.features import select
from models.forecast import Interpreter
from models.predictor import WindowedPredictor, choose_device, use_one_thread
from models.spec import Spec


@dataclass(frozen=True)
class ServingBundle:
    """Everything serving needs of one bundle, built once, never changed."""

    sha256: str
    spec: Spec
    predictor: WindowedPredictor
    interpreter: Interpreter
    columns: NDArray[np.intp] | slice
    symbols: frozenset[str]


def check_device(device: str) -> None:
    """See to it that networks can run there, before the first of them is to.

    Raises:
        CandlewickError: there is no such device.
    """
    use_one_thread()
    choose_device(device)


def make_ready(blob: bytes, sha256: str | None = None, device: str = "auto") -> ServingBundle:
    """Check a bundle as a whole, golden output included, and make it ready.

    Raises:
        InvalidBundle: whatever makes it unfit to serve.
    """
    use_one_thread()
    bundle = unpack(blob, sha256=sha256)
    return ServingBundle(
        sha256=bundle.sha256,
        spec=bundle.spec,
        predictor=WindowedPredictor(bundle, device),
        interpreter=Interpreter(bundle.spec),
        columns=select(bundle.spec.features),
        symbols=frozenset(bundle.spec.symbols),
    )
