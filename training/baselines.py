"""The honest baselines: simple forecasts fitted on the very rows that train the network.

Enters: a dataset and its training rows. Leaves: the `Baselines` of a spec, and what two of them say of any rows (`har`
travels with every signal, so the serving code speaks for it). Does not know: networks, validation, test.

Source: the exponential average of the range follows J.P. Morgan 1996, RiskMetrics; `har` Corsi 2009, A Simple
Approximate Long-Memory Model of Realized Volatility, with a second line for the log standard deviation (Harvey 1976,
Estimating Regression Models with Multiplicative Heteroscedasticity).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
PIECE_SLOTS = 4_096
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
    """Fit every baseline on the labels of rows, in the order of their slots."""
    y_return, y_range = dataset.y_return[rows], dataset.y_range[rows]
    moved = y_return[y_return != 0]
    return_scale, return_dof = fit_student_t(y_return)
    return Baselines(
        return_scale=return_scale,
        return_dof=return_dof,
        vol60_mean=float(y_range.mean()),
        vol60_sd=max(float(y_range.std()), LEAST_SD),
        range_ewma=_fit_range_ewma(dataset, rows),
        har=_fit_har(dataset, rows, y_range),
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
    levels = np.empty((len(spans), *dataset.volatility.shape))
    for slots, piece in _level_pieces(dataset, spans):
        levels[:, :, slots] = piece
    return levels


def _level_pieces(dataset: Dataset, spans: tuple[int, ...]) -> Iterator[tuple[slice, Floats]]:
    """The same, some slots at a time, and which slots these are."""
    _, high, low, close, _ = dataset.ohlcv
    alpha = (2 / (np.array(spans) + 1))[:, None]  # (spans, 1)
    level = np.full((len(spans), len(close)), np.nan)
    for first in range(0, close.shape[1], PIECE_SLOTS):
        slots = slice(first, first + PIECE_SLOTS)
        relative = (high[:, slots] - low[:, slots]) / close[:, slots]  # (S, n)
        levels = np.empty((len(spans), *relative.shape))
        for slot, now in enumerate(relative.T):
            moved = np.where(np.isnan(level), now, level + alpha * (now - level))
            level = np.where(np.isnan(now), level, moved)
            levels[:, :, slot] = level
        with np.errstate(invalid="ignore"):
            yield slots, np.log(np.maximum(levels / dataset.volatility[:, slots], LEAST_RANGE))


def _fit_range_ewma(dataset: Dataset, rows: Rows) -> RangeEwma:
    """The span whose line through the label leaves the least residual; rows come in the order of their slots.

    Sums of x, x x and x y are all that a line needs, so that of the levels some slots at a time do.
    """
    symbol, slot = rows
    y = dataset.y_range[rows]
    y_mean = float(y.mean())
    y -= y_mean
    sums = np.zeros((3, len(RANGE_SPANS)))
    for slots, levels in _level_pieces(dataset, RANGE_SPANS):
        here = slice(*np.searchsorted(slot, (slots.start, slots.stop)))
        x = levels[:, symbol[here], slot[here] - slots.start]  # (spans, n)
        sums += x.sum(axis=1), (x * x).sum(axis=1), (x * y[here]).sum(axis=1)
    lines = [(*_line(own, len(y), float((y * y).sum())), span) for own, span in zip(sums.T, RANGE_SPANS, strict=True)]
    sd, rise, slope, span = min(lines)
    return RangeEwma(span_bars=span, intercept=y_mean + rise, slope=slope, sd=max(sd, LEAST_SD))


def _line(sums: Floats, count: int, y_square: float) -> tuple[float, float, float]:
    """Least squares of y, whose mean is 0, on x: residual standard deviation, intercept, slope."""
    x, x_square, product = (sums / count).tolist()
    square = x_square - x * x
    slope = product / max(square, LEAST_SD / count)
    left = y_square / count - 2 * slope * product + slope * slope * square
    return math.sqrt(max(left, 0.0)), -slope * x, slope


def _fit_har(dataset: Dataset, rows: Rows, y: Floats) -> Har:
    """Least squares for the mean; Fisher scoring of the normal likelihood of its residuals for the log sd.

    Sums go through einsum, never through BLAS: its rounding depends on the number of cores, and so would the hash.
    """
    solve = np.linalg.pinv(sum(np.einsum("nk,nl->kl", x, x) for _, x in _designs(dataset, rows)), hermitian=True)

    def project(values: Callable[[slice, Floats], Floats]) -> Floats:
        sums = sum(np.einsum("nk,n->k", x, values(piece, x)) for piece, x in _designs(dataset, rows))
        return np.asarray(np.einsum("kl,l->k", solve, sums))

    mean = project(lambda piece, _: y[piece])
    squared = np.empty_like(y)
    for piece, x in _designs(dataset, rows):
        squared[piece] = (y[piece] - np.einsum("nk,k->n", x, mean)) ** 2
    log_sd = np.zeros_like(mean)
    log_sd[0] = 0.5 * np.log(squared.mean() + LEAST_SD**2)

    def surprise(piece: slice, x: Floats) -> Floats:
        return np.asarray(squared[piece] * np.exp(-2 * np.einsum("nk,k->n", x, log_sd)) - 1)

    for _ in range(SCORING_STEPS):
        log_sd += np.clip(project(surprise) / 2, -MOST_STEP, MOST_STEP)
    return Har(features=HAR_FEATURES, mean=tuple(mean.tolist()), log_sd=tuple(log_sd.tolist()))


def _designs(dataset: Dataset, rows: Rows) -> Iterator[tuple[slice, Floats]]:
    """`(n, 1 + columns)` a piece of the rows at a time: ones, and what HAR looks at."""
    columns = [CATALOGUE.index(name) for name in HAR_FEATURES]
    for piece, features in dataset.pieces(rows):
        yield piece, np.concatenate([np.ones((len(features), 1)), features[:, columns]], axis=1)
