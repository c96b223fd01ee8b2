"""A trained network into a bundle: calibration, baselines and spec around its weights.

Enters: a network, its dataset and split. Leaves: the bytes of a bundle. Does not know: files, the test span.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.bundle import pack, with_golden
from models.features import CATALOGUE, WARM_UP_BARS
from models.predictor import run_network
from models.spec import Distribution, Golden, Labels, Spec, Thresholds
from training.baselines import fit_baselines
from training.calibrate import calibrate
from training.dataset import Dataset, Rows
from training.split import Split
from training.train import Fitted, Recipe


def assemble(dataset: Dataset, split: Split, recipe: Recipe, fitted: Fitted, model: str) -> bytes:
    """Pack a bundle for the slot `model`: baselines from the training rows, calibration from the validation rows."""
    train, validation = (dataset.rows(*span) for span in (split.train, split.validation))
    raw = run_windows(fitted, dataset, validation)
    calibration = calibrate(raw, dataset.y_return[validation], dataset.y_range[validation], fitted.dof)
    spec = Spec(
        model=model,
        timeframe_ms=dataset.timeframe_ms,
        horizon_bars=dataset.horizon_bars,
        lookback_bars=dataset.lookback_bars,
        warm_up_bars=WARM_UP_BARS,
        symbols=tuple(dataset.symbols[i] for i in np.unique(train[0])),
        features=CATALOGUE,
        labels=Labels(),
        network=recipe.network,
        distribution=Distribution(dof=fitted.dof),
        baselines=fit_baselines(dataset, train),
        calibration=calibration,
        thresholds=Thresholds(),
        golden=Golden(),
        trained_until_ms=trained_until_ms(dataset, split),
        seed=recipe.seed,
    )
    tensors = {name: value.numpy() for name, value in fitted.network.state_dict().items()}
    return pack(spec, with_golden(spec, tensors))


def run_windows(fitted: Fitted, dataset: Dataset, rows: Rows) -> NDArray[np.float32]:
    """Raw outputs `(n, 4)` for rows, window by window as in serving."""
    return np.concatenate([run_network(fitted.network, windows) for windows in dataset.windows(rows)])


def trained_until_ms(dataset: Dataset, split: Split) -> int:
    """Close time of the last bar that any label of training or validation saw."""
    last = max(split.train.stop, split.validation.stop) - 1
    return int(dataset.close_time_ms[last + dataset.horizon_bars])
