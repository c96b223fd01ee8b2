"""Gradient-boosted trees as a rival of the network: a learned mean and a learned standard deviation of the range label.

Enters: a dataset, training and validation rows, a seed. Leaves: normal forecasts of the range label for any rows.
Does not know: networks, bundles, the test span. Never part of a bundle, never served: a line of the report to beat.

The mean is fitted by least squares. The log variance is fitted on the squared residuals of training rows with the loss
of a gamma with log link: residual^2 exp(-f) + f is twice the Gaussian likelihood's share of it. Both stop when the
validation rows stop to gain. Residuals of rows that taught the mean are too small, so shift and scale are calibrated on
validation rows by the very function that calibrates the network's. LightGBM is an optional extra.

Source: Ke et al. 2017, LightGBM; Davidian & Carroll 1987, Variance Function Estimation, for a variance from squared
residuals. On the real candles residuals of training rows with this calibration gave a CRPS .1 % lower than
residuals of validation rows, which are honest, but few.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import CandlewickError
from models.spec import MAX_LOG_SCALE
from training.baselines import LEAST_SD, Normal
from training.calibrate import fit_range_calibration
from training.dataset import Dataset, Rows
from training.tree_features import tree_features

Floats = NDArray[np.float64]
Table = NDArray[np.float32]

INSTALL = "LightGBM is not installed, so its figure is left out: pip install 'candlewick[trees]'"
MOST_ROWS = 500_000
"""Training rows; of more, an even share in time is taken."""
MOST_RESIDUALS = 200_000
"""Training rows that teach the standard deviation."""
COMMON: dict[str, Any] = {
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "max_bin": 63,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
}
MEAN = COMMON | {"objective": "regression", "learning_rate": 0.07, "num_leaves": 63, "min_data_in_leaf": 200}
VARIANCE = COMMON | {"objective": "gamma", "learning_rate": 0.1, "num_leaves": 15, "min_data_in_leaf": 500}
MEAN_TREES, VARIANCE_TREES = 300, 120
PATIENCE = 15
"""Trees without a better validation score before a fit stops."""


@dataclass(frozen=True, eq=False)
class Trees:
    """Two fitted ensembles of trees, and their calibration."""

    mean: Any  # lightgbm.Booster
    variance: Any  # lightgbm.Booster
    shift: float  # onto the mean
    factor: float  # on the standard deviation

    def range_normal(self, dataset: Dataset, rows: Rows) -> Normal:
        """Forecast the range label of n rows."""
        table = tree_features(dataset, rows)
        return Normal(_predict(self.mean, table) + self.shift, _scale(self.variance, table) * self.factor)


def trees_available() -> bool:
    """Whether LightGBM is installed; nothing is imported."""
    return find_spec("lightgbm") is not None


def fit_trees(dataset: Dataset, train_rows: Rows, validation_rows: Rows, seed: int) -> Trees:
    """Fit on training rows, stop and calibrate on validation rows; one thread, the same result for the same seed.

    Raises:
        CandlewickError: LightGBM is not installed.
    """
    if not trees_available():
        raise CandlewickError(INSTALL)
    train_rows = thinned(train_rows, MOST_ROWS)
    table, held_out = tree_features(dataset, train_rows), tree_features(dataset, validation_rows)
    y, y_held_out = dataset.y_range[train_rows], dataset.y_range[validation_rows]
    mean = _boost(MEAN, MEAN_TREES, (table, y), (held_out, y_held_out), seed)
    location = _predict(mean, held_out)
    few = _evenly(len(y), MOST_RESIDUALS)
    squares = _squares(y[few] - _predict(mean, table[few]))
    variance = _boost(
        VARIANCE, VARIANCE_TREES, (table[few], squares), (held_out, _squares(y_held_out - location)), seed
    )
    shift, factor = fit_range_calibration(location, _scale(variance, held_out), y_held_out)
    return Trees(mean, variance, shift, factor)


def thinned(rows: Rows, most: int) -> Rows:
    """At most so many of the rows, evenly spread over time (rows are ordered by it)."""
    kept = _evenly(len(rows[0]), most)
    return rows[0][kept], rows[1][kept]


def _evenly(count: int, most: int) -> NDArray[np.intp]:
    kept = min(count, most)
    return np.arange(kept) * count // max(kept, 1)


def _squares(residuals: Floats) -> Floats:
    """A gamma variable is above 0."""
    return np.maximum(residuals**2, LEAST_SD**2)


def _boost(
    settings: dict[str, Any], trees: int, train: tuple[Table, Floats], held_out: tuple[Table, Floats], seed: int
) -> Any:
    """A booster that has stopped where the held-out rows gain no more."""
    import lightgbm

    settings = settings | {"seed": seed % 2**31}  # what LightGBM takes
    data = lightgbm.Dataset(*train, params=settings)
    held = lightgbm.Dataset(*held_out, reference=data, params=settings)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    return lightgbm.train(settings, data, trees, valid_sets=[held], callbacks=[stop])


def _predict(booster: Any, table: Table) -> Floats:
    return np.asarray(booster.predict(table, num_threads=1), np.float64)


def _scale(variance: Any, table: Table) -> Floats:
    """Standard deviations, within the bounds that the network's have."""
    return np.clip(np.sqrt(_predict(variance, table)), np.exp(-MAX_LOG_SCALE), np.exp(MAX_LOG_SCALE))
