"""The worker without a model, and if wanted without features: what is left is the cost of everything around them.

It is the same command with two names bound to something that answers at once; the bundle is checked, the windows are
gathered and every signal is written as ever.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models import engine
from models.features import CATALOGUE, Candles, FeatureState
from models.predictor import CPU_CHUNK, WindowedPredictor
from models.serving import ServingBundle, make_ready
from models.spec import OUTPUTS
from streaming import model_log
from streaming.predict import Predict

NULL_VOLATILITY = 1e-3


class NullPredictor:
    """Answers zeros."""

    chunk = CPU_CHUNK

    def predict(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(windows), OUTPUTS), np.float32)


def ready_without_model(*arguments: Any) -> ServingBundle:
    """A bundle checked as ever, whose network is never asked."""
    return replace(make_ready(*arguments), predictor=cast(WindowedPredictor, NullPredictor()))


def step_without_features(
    state: FeatureState, rows: NDArray[np.intp], candles: Candles
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Features that say nothing."""
    return np.zeros((len(rows), len(CATALOGUE)), np.float32), np.full(len(rows), NULL_VOLATILITY)


def say_acknowledged() -> None:
    """Say, after each batch, how many signals are acknowledged now, and when; monotonic, as every process has it."""
    count = Predict._count

    def counted(role: Predict, served: Any, seconds: float) -> None:
        if signals := sum(served.signalled.values()):  # a window that is rebuilt gives none
            sys.stdout.write(f"{signals} {time.monotonic()}\n")
            sys.stdout.flush()
        count(role, served, seconds)

    Predict._count = counted  # type: ignore[assignment, method-assign]


def main(without_features: bool) -> None:
    from candlewick import main as candlewick

    model_log.make_ready = ready_without_model  # type: ignore[assignment, attr-defined]
    if without_features:
        engine.step = step_without_features  # type: ignore[attr-defined]
    candlewick(["run", "predict"])


if __name__ == "__main__":
    if "--say-acknowledged" in sys.argv[1:]:  # whoever does not listen would let the pipe run full
        say_acknowledged()
    main("--null-features" in sys.argv[1:])
