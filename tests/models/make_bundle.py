"""A valid bundle with random but sane weights, for every test that needs one."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.bundle import pack, with_golden
from models.features import CATALOGUE
from models.spec import (
    Baselines,
    Calibration,
    Distribution,
    Golden,
    Har,
    Labels,
    Network,
    RangeEwma,
    Spec,
    Thresholds,
    expected_shapes,
)

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


def make_bundle(
    seed: int = 0,
    lookback: int = 64,
    hidden: int = 32,
    horizon: int = 3,
    model: str = "default-1m",
    trained_until_ms: int = 0,
    symbols: tuple[str, ...] = SYMBOLS,
    features: tuple[str, ...] = CATALOGUE,
    timeframe_ms: int = 60_000,
    **overrides: Any,
) -> bytes:
    """A blob; `overrides` replace whole fields of its spec."""
    spec = make_spec(
        seed=seed,
        lookback_bars=lookback,
        network=Network(kind="lstm", hidden=hidden, layers=1),
        horizon_bars=horizon,
        model=model,
        trained_until_ms=trained_until_ms,
        symbols=tuple(sorted(symbols)),
        features=features,
        timeframe_ms=timeframe_ms,
    )
    spec = msgspec.structs.replace(spec, **overrides)
    return pack(spec, with_golden(spec, make_weights(spec)))


def make_spec(**overrides: Any) -> Spec:
    """A spec; `overrides` replace whole fields."""
    spec = Spec(
        model="default-1m",
        timeframe_ms=60_000,
        horizon_bars=3,
        lookback_bars=64,
        warm_up_bars=1_500,
        symbols=SYMBOLS,
        features=CATALOGUE,
        labels=Labels(),
        network=Network(kind="lstm", hidden=32, layers=1),
        distribution=Distribution(dof=5.0),
        baselines=Baselines(
            return_scale=0.7,
            return_dof=4.5,
            vol60_mean=0.4,
            vol60_sd=0.5,
            range_ewma=RangeEwma(span_bars=20, intercept=0.05, slope=0.8, sd=0.4),
            har=Har(
                features=("volatility_10", "volatility_240", "parkinson_10"),
                mean=(0.4, 0.25, -0.1, 0.15),
                log_sd=(-0.9, 0.05, 0.02, -0.04),
            ),
            up_rate=0.49,
        ),
        calibration=Calibration(),
        thresholds=Thresholds(),
        golden=Golden(),
        trained_until_ms=0,
        seed=0,
    )
    return msgspec.structs.replace(spec, **overrides)


def make_weights(spec: Spec) -> dict[str, NDArray[np.float32]]:
    """Weights as torch would draw them, from the spec's seed: the network's own tensors, not the golden ones."""
    rng = np.random.default_rng(spec.seed)
    width = 1.0 / np.sqrt(spec.network.hidden)
    shapes = expected_shapes(spec.network, len(spec.features), spec.lookback_bars)
    weights = {name: rng.uniform(-width, width, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["head.bias"] = np.array([0.0, -0.4, 0.4, -0.8], np.float32)
    weights["feature_mean"] = rng.normal(0.0, 0.3, len(spec.features)).astype(np.float32)
    weights["feature_sd"] = rng.uniform(0.5, 1.5, len(spec.features)).astype(np.float32)
    return weights
