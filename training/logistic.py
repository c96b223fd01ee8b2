"""Logistic regression of up or down on the last candle: what direction is worth without a network.

Enters: a dataset and training rows. Leaves: probabilities of a return above 0 for any rows.
Does not know: windows, networks, the test span. Never part of a bundle, never served.

Features are standardised on the training rows; returns of exactly 0 have no direction and are left out. Source: Cox
1958, The Regression Analysis of Binary Sequences; the fit is scikit-learn's (Newton steps, L2 penalty of strength 1).
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.dataset import Dataset, Rows

Floats = NDArray[np.float64]

MOST_ROWS = 400_000
"""Of more rows, an even share in time is taken: 24 coefficients gain nothing from them."""
MOST_ITERATIONS = 20
LEAST_SD = 1e-6
MOST_DEVIATIONS = 8.0
"""Standardised features are held within this: a wild candle is no reason for certainty."""


class Logistic(NamedTuple):
    """A line in standardised features: the log odds of a return above 0."""

    mean: Floats  # (F,) of the features
    sd: Floats  # (F,)
    slopes: Floats  # (F,)
    intercept: float

    def probability_up(self, dataset: Dataset, rows: Rows) -> Floats:
        """`(n,)` within 0 and 1."""
        from scipy.special import expit

        return np.asarray(expit(self.intercept + _standardised(dataset, rows, self.mean, self.sd) @ self.slopes))


def fit_logistic(dataset: Dataset, rows: Rows) -> Logistic:
    """Fit on the rows whose price moved; the same rows give the same numbers.

    Where all moved one way, or none did, the probability is that of Laplace's rule of succession and the slopes are 0.
    """
    rows = _moved(dataset, rows)
    up = dataset.y_return[rows] > 0
    features = dataset.features[rows]
    if up.all() or not up.any():
        width = features.shape[1]
        odds = math.log((int(up.sum()) + 1) / (int((~up).sum()) + 1))
        return Logistic(np.zeros(width), np.ones(width), np.zeros(width), odds)
    mean = features.mean(axis=0, dtype=np.float64)
    sd = np.maximum(features.std(axis=0, dtype=np.float64), LEAST_SD)
    slopes, intercept = _fit(_standardised(dataset, rows, mean, sd), up)
    return Logistic(mean, sd, slopes, intercept)


def _moved(dataset: Dataset, rows: Rows) -> Rows:
    moved = np.flatnonzero(dataset.y_return[rows])
    kept = moved[np.arange(min(len(moved), MOST_ROWS)) * len(moved) // max(min(len(moved), MOST_ROWS), 1)]
    return rows[0][kept], rows[1][kept]


def _standardised(dataset: Dataset, rows: Rows, mean: Floats, sd: Floats) -> Floats:
    return np.clip((dataset.features[rows] - mean) / sd, -MOST_DEVIATIONS, MOST_DEVIATIONS)


def _fit(x: Floats, up: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Slopes and intercept."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, solver="newton-cholesky", max_iter=MOST_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bounded fit is what we want
        model.fit(x, up)
    return np.asarray(model.coef_[0], np.float64), float(model.intercept_[0])
