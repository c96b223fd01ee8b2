"""What the network's four numbers mean: calibrated distributions, prices, basis points, and the baselines beside them.

Enters: raw outputs, the close, the volatility and the features at that close. Leaves: the columns of a signal.
Does not know: torch, series, time, or what the gate has proven.

The network speaks of y_return = ln(C[t+H] / C[t]) / (volatility sqrt(H)), Student-t, and of
y_range = ln(mean over the horizon of (high - low) / close / volatility), Gaussian; `models.label` defines both.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from models.distribution import LogOddsLine, StudentTCdf, lognormal_mean, student_t_quantile
from models.features import CATALOGUE
from models.spec import MAX_LOG_SCALE, Calibration, Har, Spec

Floats = NDArray[np.float64]

_BPS = 1e4


class Forecast(NamedTuple):
    """Columns of n forecasts, each (n,) float64 but for the direction."""

    location: Floats  # of y_return, calibrated
    scale: Floats
    range_location: Floats  # of y_range, calibrated
    range_scale: Floats
    ewma_scale: Floats  # baseline of y_return: Student-t around 0
    har_location: Floats  # baseline of y_range
    har_scale: Floats
    probability_up: Floats  # of a return above 0, calibrated where the bundle says how
    expected_return_bps: Floats  # log return over the horizon
    expected_range_bps: Floats  # of the mean (high - low) / close of a bar
    interval_low: Floats  # price, central interval of the calibrated coverage
    interval_high: Floats
    direction: NDArray[np.int8]  # 1 long, -1 short, 0 flat; only the thresholds speak, whether it is proven or not


class Interpreter:
    """Reads raw outputs by one spec; whatever the spec fixes is worked out once."""

    def __init__(self, spec: Spec) -> None:
        dof, coverage = spec.distribution.dof, spec.calibration.interval_coverage
        self._calibration = spec.calibration
        self._cdf = StudentTCdf(dof)
        self._line = _log_odds_line(spec.calibration)
        self._reach = float(student_t_quantile((1.0 + coverage) / 2.0, 0.0, 1.0, dof))  # half an interval, in scales
        self._root_horizon = math.sqrt(spec.horizon_bars)
        self._ewma_scale = spec.baselines.return_scale
        self._har_mean, self._har_log_sd = spec.baselines.har.mean[0], spec.baselines.har.log_sd[0]
        self._har_slopes = _slopes(spec.baselines.har)  # (2, F)
        self._long, self._short = spec.thresholds.long, spec.thresholds.short

    def interpret(
        self, raw: NDArray[np.float32], close: Floats, volatility: Floats, features: NDArray[np.float32]
    ) -> Forecast:
        """Turn raw outputs into forecasts; a row's result has the same bits in any company.

        Args:
            raw: (n, 4) outputs of the network, finite.
            close: (n,) price at the close.
            volatility: (n,) of 1-bar log returns, known at the close.
            features: (n, 23) at the close, the whole catalogue.
        """
        location, scale, range_location, range_scale = self._calibrated(raw)
        har_location, har_scale = self._baseline_of_range(features)
        unit = volatility * self._root_horizon  # the typical log return over the horizon
        middle, half = location * unit, scale * unit * self._reach
        probability_up = self._cdf(location / scale)
        if self._line:
            probability_up = self._line(probability_up)
        return Forecast(
            location=location,
            scale=scale,
            range_location=range_location,
            range_scale=range_scale,
            ewma_scale=np.full(len(raw), self._ewma_scale),
            har_location=har_location,
            har_scale=har_scale,
            probability_up=probability_up,
            expected_return_bps=middle * _BPS,
            expected_range_bps=lognormal_mean(range_location, range_scale) * volatility * _BPS,
            interval_low=close * np.exp(middle - half),
            interval_high=close * np.exp(middle + half),
            direction=self._direction(probability_up),
        )

    def _calibrated(self, raw: NDArray[np.float32]) -> Floats:
        """Locations and scales, (4, n)."""
        columns = raw.T.astype(np.float64, order="C")
        location, scale, range_location, range_scale = columns
        location *= self._calibration.return_location_factor
        np.exp(scale, out=scale)
        scale *= self._calibration.return_scale_factor
        range_location += self._calibration.range_location_shift
        np.exp(range_scale, out=range_scale)
        range_scale *= self._calibration.range_scale_factor
        return columns

    def _baseline_of_range(self, features: NDArray[np.float32]) -> Floats:
        """Location and scale, (2, n)."""
        # Not a matrix product: that one's rounding depends on how many rows there are.
        columns: Floats = np.einsum("mk,nk->mn", self._har_slopes, features.astype(np.float64))
        location, scale = columns
        location += self._har_mean
        scale += self._har_log_sd
        np.minimum(scale, MAX_LOG_SCALE, out=scale)
        np.maximum(scale, -MAX_LOG_SCALE, out=scale)
        np.exp(scale, out=scale)
        return columns

    def _direction(self, probability_up: Floats) -> NDArray[np.int8]:
        return (probability_up >= self._long).view(np.int8) - (probability_up <= self._short).view(np.int8)


def _log_odds_line(calibration: Calibration) -> LogOddsLine | None:
    """What calibrates the probability up; none where the bundle says nothing, so that its bits stay as they were."""
    slope, intercept = calibration.probability_slope, calibration.probability_intercept
    if slope is UNSET and intercept is UNSET:
        return None
    return LogOddsLine(1.0 if slope is UNSET else slope, 0.0 if intercept is UNSET else intercept)


def _slopes(har: Har) -> Floats:
    """One coefficient a catalogue column, of the mean and of the log sd: (2, F)."""
    slopes = np.zeros((2, len(CATALOGUE)))
    for name, of_mean, of_log_sd in zip(har.features, har.mean[1:], har.log_sd[1:], strict=True):
        slopes[:, CATALOGUE.index(name)] += of_mean, of_log_sd
    return slopes
