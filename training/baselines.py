"""The honest baselines: simple forecasts fitted on the very rows that train the network.

Enters: a dataset and its training rows. Leaves: the `Baselines` of a spec, and what two of them say of any rows (`har`
travels with every signal, so the serving code speaks for it). Does not know: networks, validation, test.

Source: the exponential average of the range follows J.P. Morgan 1996, RiskMetrics; `har` Corsi 2009, A Simple
Approximate Long-Memory Model of Realized Volatility, with a second line for the log standard deviation (Harvey 1976,
Estimating Regression Models with Multiplicative Heteroscedasticity).
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
MOST_STEP = 0.5  # of a coefficient in one step of scoring
LEAST_SD = 1e-6


class Normal(NamedTuple):
    """A normal forecast of the range label for n rows."""

    location: Floats  # (n,)
    scale: Floats  # (n,)


class Rival(NamedTuple):
    """What another model, fitted on the same training rows, says of n rows; none where it says nothing."""

    range: Normal | None = None  # of y_range
    probability_up: Floats | None = None  # (n,) of a return above 0


def fit_baselines(dataset: Dataset, rows: Rows) -> Baselines:
    """Fit every baseline on the labels of rows."""
    y_return, y_range = dataset.y_return[rows], dataset.y_range[rows]
    moved = y_return[y_return != 0]
    return_scale, return_dof = fit_student_t(y_return)
    return Baselines(
        return_scale=return_scale,
        return_dof=return_dof,
        vol60_mean=float(y_range.mean()),
        vol60_sd=max(float(y_range.std()), LEAST_SD),
        range_ewma=_fit_range_ewma(dataset, rows),
        har=_fit_har(dataset.features[rows], y_range),
        up_rate=float((moved > 0).mean()) if len(moved) else 0.5,
    )


def range_forecasts(dataset: Dataset, rows: Rows, baselines: Baselines) -> dict[str, Normal]:
    """What `vol60` and `range_ewma` say of the range label, by name."""
    line, nothing = baselines.range_ewma, np.zeros(len(rows[0]))
    level = range_levels(dataset, (line.span_bars,))[0][rows]
    return {
        "vol60": Normal(baselines.vol60_mean + nothing, baselines.vol60_sd + nothing),
        "range_ewma": Normal(line.intercept + line.slope * level, line.sd + nothing),
    }


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
    y = dataset.y_range[rows]
    levels = range_levels(dataset, RANGE_SPANS)
    lines = [(*_line(level[rows], y), span) for level, span in zip(levels, RANGE_SPANS, strict=True)]
    sd, intercept, slope, span = min(lines)
    return RangeEwma(span_bars=span, intercept=intercept, slope=slope, sd=max(sd, LEAST_SD))


def _line(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Least squares of y on x: residual standard deviation, intercept, slope."""
    x_mean, y_mean = x.mean(), y.mean()
    slope = ((x - x_mean) * (y - y_mean)).sum() / max(((x - x_mean) ** 2).sum(), LEAST_SD)
    intercept = y_mean - slope * x_mean
    return float((y - intercept - slope * x).std()), float(intercept), float(slope)


def _fit_har(features: NDArray[np.float32], y: Floats) -> Har:
    """Least squares for the mean; Fisher scoring of the normal likelihood of its residuals for the log sd.

    Sums go through einsum, never through BLAS: its rounding depends on the number of cores, and so would the hash.
    """
    design = _design(features, HAR_FEATURES)
    solve = np.linalg.pinv(np.einsum("nk,nl->kl", design, design), hermitian=True)

    def project(values: Floats) -> Floats:
        return np.asarray(np.einsum("kl,l->k", solve, np.einsum("nk,n->k", design, values)))

    mean = project(y)
    squared = (y - np.einsum("nk,k->n", design, mean)) ** 2
    log_sd = np.zeros_like(mean)
    log_sd[0] = 0.5 * np.log(squared.mean() + LEAST_SD**2)
    for _ in range(SCORING_STEPS):
        surprise = squared * np.exp(-2 * np.einsum("nk,k->n", design, log_sd)) - 1
        log_sd += np.clip(project(surprise) / 2, -MOST_STEP, MOST_STEP)
    return Har(features=HAR_FEATURES, mean=tuple(mean.tolist()), log_sd=tuple(log_sd.tolist()))


def _design(features: NDArray[np.float32], names: tuple[str, ...]) -> Floats:
    columns = [features[:, CATALOGUE.index(name)] for name in names]
    return np.stack([np.ones(len(features)), *columns], axis=1).astype(np.float64)
