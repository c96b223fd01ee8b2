"""The honest baselines: simple forecasts fitted on the very rows that train the network.

Enters: a dataset and its training rows. Leaves: `models.spec.Baselines`, and the range forecasts of each baseline for any rows.
Does not know: networks, validation, test.

Source: the EMA of the range follows RiskMetrics 1996; `har` follows Corsi 2009, A Simple Approximate Long-Memory Model of
Realized Volatility, with a second linear form for the log standard deviation (Harvey 1976).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features import CATALOGUE
from models.label import LEAST_RANGE
from models.spec import Baselines, Har, RangeEwma
from training.dataset import Dataset, Rows
from training.likelihood import fit_student_t

Floats = NDArray[np.float64]

RANGE_SPANS = (5, 10, 20, 30, 60, 120)
HAR_FEATURES = (
    "volatility_10",
    "volatility_240",
    "volatility_1440",
    "parkinson_10",
    "parkinson_60",
    "range",
    "log_volume",
    "volume_10_240",
    "day_sin",
    "day_cos",
    "day_sin_2",
    "day_cos_2",
    "hour_sin",
    "hour_cos",
)
SCORING_STEPS = 20


class Normal(NamedTuple):
    """A normal forecast of the range label for n rows."""

    location: Floats  # (n,)
    scale: Floats  # (n,)


def fit_baselines(dataset: Dataset, rows: Rows) -> Baselines:
    """Fit every baseline on the labels of rows."""
    y_return, y_range = dataset.y_return[rows], dataset.y_range[rows]
    moved = y_return[y_return != 0]
    return_scale, return_dof = fit_student_t(y_return)
    return Baselines(
        return_scale=return_scale,
        return_dof=return_dof,
        vol60_mean=float(y_range.mean()),
        vol60_sd=max(float(y_range.std()), 1e-6),
        range_ewma=_fit_range_ewma(dataset, rows),
        har=_fit_har(dataset.features[rows], y_range),
        up_rate=float((moved > 0).mean()) if len(moved) else 0.5,
    )


def range_forecasts(dataset: Dataset, rows: Rows, baselines: Baselines) -> dict[str, Normal]:
    """What each baseline says of the range label, by name."""
    count = len(rows[0])
    ewma, har = baselines.range_ewma, baselines.har
    level = range_levels(dataset, (ewma.span_bars,))[0][rows]
    return {
        "vol60": Normal(np.full(count, baselines.vol60_mean), np.full(count, baselines.vol60_sd)),
        "range_ewma": Normal(ewma.intercept + ewma.slope * level, np.full(count, ewma.sd)),
        "har": har_forecast(har, dataset.features[rows]),
    }


def har_forecast(har: Har, features: NDArray[np.float32]) -> Normal:
    """The linear forecast from features `(n, F)` in the order of the catalogue."""
    design = _design(features, har.features)
    return Normal(design @ np.array(har.mean), np.exp(design @ np.array(har.log_sd)))


def range_levels(dataset: Dataset, spans: tuple[int, ...]) -> Floats:
    """`(spans, S, T)`: log of the EMA of (high - low) / close over the volatility; absent bars leave the EMA alone."""
    _, high, low, close, _ = dataset.ohlcv
    relative = (high - low) / close  # (S, T)
    alpha = (2 / (np.array(spans) + 1))[:, None]  # (spans, 1)
    level = np.full((len(spans), len(close)), np.nan)
    levels = np.empty((len(spans), *close.shape))
    for slot in range(close.shape[1]):
        now = relative[:, slot]
        moved = np.where(np.isnan(level), now, level + alpha * (now - level))
        level = np.where(np.isnan(now), level, moved)
        levels[:, :, slot] = level
    with np.errstate(invalid="ignore"):
        return np.log(np.maximum(levels / dataset.volatility, LEAST_RANGE))


def _fit_range_ewma(dataset: Dataset, rows: Rows) -> RangeEwma:
    """The span whose line through the label leaves the least residual."""
    y_range = dataset.y_range[rows]
    lines = [
        (*_line(level[rows], y_range), span)
        for level, span in zip(range_levels(dataset, RANGE_SPANS), RANGE_SPANS, strict=True)
    ]
    sd, intercept, slope, span = min(lines)
    return RangeEwma(span_bars=span, intercept=intercept, slope=slope, sd=max(sd, 1e-6))


def _line(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Least squares of y on x: residual standard deviation, intercept, slope."""
    design = np.stack([np.ones_like(x), x], axis=1)
    coefficients = np.linalg.lstsq(design, y)[0]
    return float((y - design @ coefficients).std()), float(coefficients[0]), float(coefficients[1])


def _fit_har(features: NDArray[np.float32], y: Floats) -> Har:
    """Least squares for the mean; Fisher scoring of the normal likelihood of its residuals for the log sd."""
    design = _design(features, HAR_FEATURES)
    solve = np.linalg.pinv(design)  # (1 + k, n)
    mean = solve @ y
    squared = (y - design @ mean) ** 2
    log_sd = np.zeros_like(mean)
    log_sd[0] = 0.5 * np.log(squared.mean() + 1e-12)
    for _ in range(SCORING_STEPS):
        surprise = squared * np.exp(-2 * design @ log_sd) - 1
        log_sd += np.clip(solve @ surprise / 2, -0.5, 0.5)
    return Har(features=HAR_FEATURES, mean=tuple(mean.tolist()), log_sd=tuple(log_sd.tolist()))


def _design(features: NDArray[np.float32], names: tuple[str, ...]) -> Floats:
    columns = [features[:, CATALOGUE.index(name)] for name in names]
    return np.stack([np.ones(len(features)), *columns], axis=1).astype(np.float64)
