"""Run inside a copy of the source that docs/extend.md was applied to: what the new feature and network come to.

Enters: on stdin the hex of a bundle made before, on the command line a folder to work in. Leaves: findings as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models.bundle import Bundle, load, save, unpack
from models.features import CATALOGUE, FeatureState, select, step
from models.grid import grid_features
from models.predictor import WindowedPredictor, use_one_thread
from models.spec import Network
from tests.models.plain_features import plain_features
from tests.models.random_candles import candles_at, closes_at, random_ohlcv
from tests.training.make_candles import make_table, write_csv
from training.dataset import Dataset

MINUTE_MS = 60_000
NEW_FEATURE = CATALOGUE[-1]


def of_the_feature() -> dict[str, Any]:
    """Online against the plain definition on every slot of the young series, and against offline where it is warm."""
    ohlcv = random_ohlcv(seed=1, series=3, slots=1_560)
    closes = closes_at(1_560)
    state, rows = FeatureState(3), np.arange(3)
    online = np.stack([step(state, rows, candles_at(ohlcv, rows, at))[0] for at in range(1_560)], axis=1)
    offline, _, warm = grid_features(closes, MINUTE_MS, ohlcv)
    plain = []
    for at in (0, 1, 7, 19, 20, 33, 120):
        past = {int(closes[s]) // MINUTE_MS: tuple(ohlcv[:, 0, s].tolist()) for s in range(at + 1)}
        plain.append(abs(plain_features(past, MINUTE_MS)[NEW_FEATURE] - float(online[0, at, -1])))
    return {
        "feature": NEW_FEATURE,
        "spread": float(online[..., -1].std()),
        "from_definition": max(plain),
        "from_offline": float(np.abs(online - offline)[warm].max()),
        "warm": int(warm.sum()),
    }


def of_an_old_bundle(blob: bytes) -> dict[str, Any]:
    """A bundle from before the change: its hash, its columns, its golden output."""
    bundle = unpack(blob)
    WindowedPredictor(bundle, "cpu")  # refuses another output
    return {"old_hash": bundle.sha256, "old_columns": len(np.arange(len(CATALOGUE))[select(bundle.spec.features)])}


def of_training(folder: Path) -> dict[str, Any]:
    """Train the new network on all columns, pack it, and serve what came of it."""
    from training.assemble import assemble
    from training.dataset import build_dataset
    from training.split import Fractions, split_time
    from training.train import Recipe, fit_network

    dataset = build_dataset(make_table(2_000), 16, 3)
    split = split_time(dataset.labelled.sum(axis=0), Fractions(), 3)
    network = msgspec.convert({"kind": "convolution", "hidden": 8, "layers": 2}, Network)
    recipe = Recipe(network, epochs=2, seed=0)
    file = save(assemble(dataset, split, recipe, fit_network(dataset, split, recipe), "extended-1m"), folder)
    bundle = load(file)
    return {
        "trained_features": bundle.spec.features,
        "trained_network": bundle.spec.network.kind,
        "from_served": _difference(bundle, file, dataset),
    }


def _difference(bundle: Bundle, file: Path, dataset: Dataset) -> float:
    """The most by which a signal of the engine differs from the forecast that training scores by."""
    from streaming.live import Source
    from streaming.offline import predict_files
    from training.evaluate import forecast_rows

    candles, out = write_csv(make_table(2_000), file.parent / "candles"), file.parent / "signals.jsonl"
    predict_files(file, Source((candles,), (), "binance", None), out)
    slot, symbol = np.nonzero(dataset.usable.T)
    forecast = forecast_rows(bundle, dataset, (symbol, slot))
    row = {
        (dataset.symbols[s], int(dataset.close_time_ms[t])): n
        for n, (s, t) in enumerate(zip(symbol, slot, strict=True))
    }
    signals = [json.loads(line) for line in out.read_text().splitlines()]
    if {(signal["symbol"], signal["close_time_ms"]) for signal in signals} != row.keys():
        raise ValueError("signals of other closes than those that training would score")
    return max(
        abs(float(signal[name]) - float(getattr(forecast, name)[row[signal["symbol"], signal["close_time_ms"]]]))
        for signal in signals
        for name in ("location", "scale", "range_location", "range_scale")
    )


if __name__ == "__main__":
    use_one_thread()
    work = Path(sys.argv[1])
    found = of_the_feature() | of_an_old_bundle(bytes.fromhex(sys.stdin.read())) | of_training(work)
    print(json.dumps(found))
