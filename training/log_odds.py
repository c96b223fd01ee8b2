"""Calibrated log odds: a temperature, or a line, for the probability up, where held-out data say that it helps.

Enters: probabilities a model gave, and whether the price rose. Leaves: a slope and an intercept, or nothing.
Does not know: networks, bundles, test.

Direction is barely predictable, so there is little to calibrate and much noise to fit. A temperature and a line are
therefore tried on blocks of time that did not fit them; the better one is kept only if its gain in log loss is larger
than the gain's own standard error over the blocks, else the probability stays what the distribution says.

Source: Platt 1999; Guo et al. 2017 (see `models.distribution.LogOddsLine`); the rule of one standard error, Breiman et
al. 1984, Classification and Regression Trees. An isotonic fit was tried in the same way and left out: its steps tie
rows that the model tells apart, and on real candles (1m) it lost to both lines and cost .001 of AUC.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FOLDS = 10
MARGIN = 0.1
"""Of a fold, left out at both its ends: labels that overlap must not tell what they are judged by."""
LEAST_ROWS = 1_000
"""With fewer, blocks are too short to tell skill from chance."""
MOST_STEPS = 20
CLOSE_ENOUGH = 1e-9
RIDGE = 1e-6
LEAST_SLOPE, MOST_SLOPE, MOST_INTERCEPT = 0.05, 10.0, 1.0


class Line(NamedTuple):
    """Log odds in, log odds out."""

    slope: float = 1.0
    intercept: float = 0.0


def choose_line(probability: Floats, up: Mask) -> Line | None:
    """The line that blocks of held-out rows prefer; none if they do not.

    Args:
        probability: `(n,)` within 0 and 1, in order of time; ties left out.
        up: `(n,)` what happened.
    """
    from scipy.special import logit

    if len(up) < LEAST_ROWS:
        return None
    log_odds = logit(np.clip(probability, 1e-9, 1 - 1e-9))
    gains = {with_intercept: _gains(log_odds, up, with_intercept) for with_intercept in (False, True)}
    best = max(gains, key=lambda with_intercept: float(gains[with_intercept].mean()))
    error = gains[best].std(ddof=1) / math.sqrt(FOLDS)
    return fit_line(log_odds, up, best) if gains[best].mean() > error else None


def fit_line(log_odds: Floats, up: Mask, with_intercept: bool) -> Line:
    """The likeliest line, by Newton's method; without an intercept it is a temperature.

    Sums go through einsum, never through BLAS, whose rounding depends on the number of cores.
    """
    from scipy.special import expit

    design = np.stack([log_odds, np.ones_like(log_odds)])[: 1 + with_intercept]  # (1 or 2, n)
    line = np.array([1.0, 0.0])[: len(design)]
    low = np.array([LEAST_SLOPE, -MOST_INTERCEPT])[: len(design)]
    high = np.array([MOST_SLOPE, MOST_INTERCEPT])[: len(design)]
    for _ in range(MOST_STEPS):
        chance = expit(np.einsum("k,kn->n", line, design))
        gradient = np.einsum("kn,n->k", design, up - chance)
        curvature = np.einsum("kn,n,ln->kl", design, chance * (1 - chance), design) + RIDGE * np.eye(len(design))
        before, line = line, np.clip(line + np.linalg.solve(curvature, gradient), low, high)
        if np.abs(line - before).max() < CLOSE_ENOUGH:
            break
    return Line(*line.tolist())


def line_fields(line: Line | None) -> dict[str, float]:
    """The fields of a `Calibration` that say so; those at rest are not set."""
    if line is None:
        return {}
    fields = {"probability_slope": line.slope}
    return fields | ({"probability_intercept": line.intercept} if line.intercept else {})


def _gains(log_odds: Floats, up: Mask, with_intercept: bool) -> Floats:
    """`(folds,)` mean log loss as it is, less that with a line fitted outside of the fold and its margin."""
    place = np.arange(len(up)) * FOLDS / len(up)  # 0..FOLDS
    gains = np.empty(FOLDS)
    for fold in range(FOLDS):
        outside = (place < fold - MARGIN) | (place >= fold + 1 + MARGIN)
        line = fit_line(log_odds[outside], up[outside], with_intercept)
        inside = (place >= fold) & (place < fold + 1)
        own, truth = log_odds[inside], up[inside]
        gains[fold] = (log_loss(own, truth) - log_loss(line.intercept + line.slope * own, truth)).mean()
    return gains


def log_loss(log_odds: Floats, up: Mask) -> Floats:
    """`(n,)` in nats."""
    return np.asarray(np.logaddexp(0.0, np.where(up, -log_odds, log_odds)))
