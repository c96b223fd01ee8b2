"""The two predictive distributions, location-scale: Student-t for returns, Gaussian for the log range.

Enters: arrays or numbers that broadcast together. Leaves: arrays. Does not know: networks, units, labels.
Scores are negatively oriented: less is better. Scales are above 0, degrees of freedom above 1 for a CRPS.

Source: Gneiting & Raftery 2007 (Strictly Proper Scoring Rules, Prediction, and Estimation) for the scores; closed forms
of the CRPS from Jordan, Krueger & Lerch 2019 (Evaluating Probabilistic Forecasts with scoringRules), appendix A.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = float | NDArray[np.floating[Any]]

_SQRT_2_PI = math.sqrt(2.0 * math.pi)
_SQRT_PI = math.sqrt(math.pi)


def student_t_cdf(value: Numbers, location: Numbers, scale: Numbers, dof: Numbers) -> Floats:
    """Probability of at most `value`. For many values of one `dof`, `StudentTCdf` is several times faster."""
    return np.asarray(special.stdtr(dof, _standardised(value, location, scale)))


def student_t_quantile(probability: Numbers, location: Numbers, scale: Numbers, dof: Numbers) -> Floats:
    """Value that is not exceeded with this probability.

    The central interval of coverage c is location +- scale * student_t_quantile((1 + c) / 2, 0, 1, dof).
    """
    return np.asarray(location + np.asarray(scale) * special.stdtrit(dof, probability))


def student_t_crps(value: Numbers, location: Numbers, scale: Numbers, dof: Numbers) -> Floats:
    """Continuous ranked probability score, in the unit of `value`; `dof` above 1."""
    z, dof = _standardised(value, location, scale), np.asarray(dof, np.float64)
    density = np.exp(_student_t_log_density(z, dof))
    # Half the mean absolute difference of two draws; logarithms, since the beta functions underflow at large dof.
    log_ratio = special.betaln(0.5, dof - 0.5) - 2.0 * special.betaln(0.5, 0.5 * dof)
    spread = 2.0 * np.sqrt(dof) / (dof - 1.0) * np.exp(log_ratio)
    signed = z * (2.0 * special.stdtr(dof, z) - 1.0)
    return np.asarray(scale * (signed + 2.0 * density * (dof + z * z) / (dof - 1.0) - spread))


def student_t_log_score(value: Numbers, location: Numbers, scale: Numbers, dof: Numbers) -> Floats:
    """Negative log density at `value`, in nats."""
    z = _standardised(value, location, scale)
    return np.asarray(np.log(scale) - _student_t_log_density(z, np.asarray(dof, np.float64)))


def gaussian_cdf(value: Numbers, location: Numbers, scale: Numbers) -> Floats:
    """Probability of at most `value`."""
    return np.asarray(special.ndtr(_standardised(value, location, scale)))


def gaussian_quantile(probability: Numbers, location: Numbers, scale: Numbers) -> Floats:
    """Value that is not exceeded with this probability."""
    return np.asarray(location + np.asarray(scale) * special.ndtri(probability))


def gaussian_crps(value: Numbers, location: Numbers, scale: Numbers) -> Floats:
    """Continuous ranked probability score, in the unit of `value`."""
    z = _standardised(value, location, scale)
    density = np.exp(-0.5 * z * z) / _SQRT_2_PI
    return np.asarray(scale * (z * (2.0 * special.ndtr(z) - 1.0) + 2.0 * density - 1.0 / _SQRT_PI))


def gaussian_log_score(value: Numbers, location: Numbers, scale: Numbers) -> Floats:
    """Negative log density at `value`, in nats."""
    z = _standardised(value, location, scale)
    return np.asarray(0.5 * z * z + np.log(scale) + math.log(_SQRT_2_PI))


def lognormal_mean(location: Numbers, scale: Numbers) -> Floats:
    """Mean of exp(X), X Gaussian."""
    return np.asarray(np.exp(location + 0.5 * np.square(scale)))


class StudentTCdf:
    """The CDF of the standard Student-t of one `dof` as a table: a bundle has one, and asks it at every candle.

    Cubic Hermite interpolation of cdf(sinh(u)) on an even grid of u, slopes from the density. Within 1e-9 of the true
    value for `dof` of 2 or more, at a fifth of its cost.
    """

    _KNOTS = 2_049  # odd: one lies at 0, where an even chance is exactly .5
    _REACH = math.asinh(1e6)  # beyond, the value at the edge

    def __init__(self, dof: float) -> None:
        knots = np.linspace(-self._REACH, self._REACH, self._KNOTS)
        self._step = knots[1] - knots[0]
        value = special.stdtr(dof, np.sinh(knots))
        slope = np.exp(_student_t_log_density(np.sinh(knots), np.float64(dof))) * np.cosh(knots) * self._step
        rise, first, last = np.diff(value), slope[:-1], slope[1:]
        self._cubics = np.stack([value[:-1], first, 3.0 * rise - 2.0 * first - last, first + last - 2.0 * rise], axis=1)

    def __call__(self, z: Floats) -> Floats:
        """Probability of at most `z`, (n,)."""
        place = np.clip((np.arcsinh(z) + self._REACH) / self._step, 0.0, self._KNOTS - 1.0)
        left = np.fmin(place, self._KNOTS - 2).astype(np.intp)  # NaN has an interval too, and stays NaN
        place -= left
        constant, linear, square, cube = self._cubics.take(left, axis=0).T
        probability = ((cube * place + square) * place + linear) * place + constant
        return np.asarray(np.clip(probability, 0.0, 1.0))


class LogOddsLine:
    """A probability made more or less bold: its log odds through a line. Strictly rising, and strictly within 0 and 1.

    Source: Platt 1999, Probabilistic Outputs for Support Vector Machines; with no intercept, the temperature of Guo et
    al. 2017, On Calibration of Modern Neural Networks.
    """

    MOST_LOG_ODDS = 20.0
    """A chance of 2e-9, and the same from 1."""

    def __init__(self, slope: float, intercept: float) -> None:
        self._slope, self._intercept = slope, intercept

    def __call__(self, probability: Floats) -> Floats:
        """Calibrate `(n,)` probabilities, 0 and 1 included."""
        odds = special.logit(probability)
        odds *= self._slope
        odds += self._intercept
        np.minimum(odds, self.MOST_LOG_ODDS, out=odds)
        np.maximum(odds, -self.MOST_LOG_ODDS, out=odds)
        return np.asarray(special.expit(odds))


def _standardised(value: Numbers, location: Numbers, scale: Numbers) -> Floats:
    return (np.asarray(value, np.float64) - location) / np.asarray(scale, np.float64)


def _student_t_log_density(z: Floats, dof: NDArray[np.floating[Any]] | np.float64) -> Floats:
    """Of the standard Student-t; log of the beta function, which loses no digits at large dof."""
    log_density: Floats = -(
        special.betaln(0.5, 0.5 * dof) + 0.5 * np.log(dof) + 0.5 * (dof + 1.0) * np.log1p(z * z / dof)
    )
    return log_density
