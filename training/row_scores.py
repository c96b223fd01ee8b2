"""One score a row: how well a bundle, its baselines and its rivals foretold each label of a span.

Enters: forecasts of the serving code and the labels that came true. Leaves: columns `(n,)`, cut as one likes.
Does not know: figures, intervals, networks. CRPS in the unit of the label, log scores in nats: less is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.distribution import (
    gaussian_cdf,
    gaussian_crps,
    gaussian_log_score,
    student_t_cdf,
    student_t_crps,
    student_t_log_score,
)
from models.forecast import Forecast
from training.baselines import Normal, Rival, range_forecasts
from training.dataset import Dataset, Rows

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEAST_BLOCK_MS = 7_200_000
"""Two hours: markets calm down and wake up together, and slowly."""
LEAST_BLOCK_HORIZONS = 4
"""Labels overlap for one horizon; blocks must be clearly longer."""


@dataclass(frozen=True, eq=False)
class HeadScores:
    """One head's scores on n rows, and those of others by name."""

    crps: Floats  # (n,)
    crps_of: Mapping[str, Floats]
    log_score: Floats  # (n,)
    log_score_of: Mapping[str, Floats]
    error: Floats  # (n,) label less the middle of its forecast
    error_of: Mapping[str, Floats]
    level: Floats  # (n,) the label's place in its forecast, 0..1 (PIT)

    def take(self, rows: Mask) -> HeadScores:
        """The scores of some of the rows."""
        return HeadScores(
            self.crps[rows],
            _take(self.crps_of, rows),
            self.log_score[rows],
            _take(self.log_score_of, rows),
            self.error[rows],
            _take(self.error_of, rows),
            self.level[rows],
        )


@dataclass(frozen=True, eq=False)
class RowScores:
    """Everything that is said of n rows."""

    block: NDArray[np.int64]  # (n,) number of the row's block of time
    range: HeadScores
    return_: HeadScores
    price_error: Floats  # (n,) target price less the expected one, over the price at the close
    price_error_of_last: Floats  # (n,) the same where the price at the close is expected to stay
    probability_up: Floats  # (n,)
    probability_up_of: Mapping[str, Floats]
    up: Mask  # (n,)
    moved: Mask  # (n,) a return of exactly 0 has no direction
    up_rate: float  # climatology: of the rows that trained the bundle

    def __len__(self) -> int:
        return len(self.block)

    def take(self, rows: Mask) -> RowScores:
        """The scores of some of the rows."""
        return replace(
            self,
            block=self.block[rows],
            range=self.range.take(rows),
            return_=self.return_.take(rows),
            price_error=self.price_error[rows],
            price_error_of_last=self.price_error_of_last[rows],
            probability_up=self.probability_up[rows],
            probability_up_of=_take(self.probability_up_of, rows),
            up=self.up[rows],
            moved=self.moved[rows],
        )


def score_rows(
    bundle: Bundle,
    dataset: Dataset,
    rows: Rows,
    forecast: Forecast,
    rivals: Mapping[str, Rival] | None = None,
) -> RowScores:
    """Score forecasts of labelled rows."""
    rivals = rivals or {}
    y_return = dataset.y_return[rows]
    unit = dataset.volatility[rows] * math.sqrt(dataset.horizon_bars)
    price = np.exp(y_return * unit)  # of the target, over that at the close
    return RowScores(
        block=np.asarray(rows[1] // block_bars(dataset.timeframe_ms, dataset.horizon_bars), np.int64),
        range=_score_range(bundle, dataset, rows, forecast, rivals),
        return_=_score_return(bundle, y_return, forecast),
        price_error=price - np.exp(forecast.location * unit),
        price_error_of_last=price - 1.0,
        probability_up=forecast.probability_up,
        probability_up_of={
            name: rival.probability_up for name, rival in rivals.items() if rival.probability_up is not None
        },
        up=y_return > 0,
        moved=y_return != 0,
        up_rate=bundle.spec.baselines.up_rate,
    )


def block_bars(timeframe_ms: int, horizon_bars: int) -> int:
    """Bars of a bootstrap block: two hours or four horizons, whichever is longer."""
    return max(math.ceil(LEAST_BLOCK_MS / timeframe_ms), LEAST_BLOCK_HORIZONS * horizon_bars)


def _score_range(
    bundle: Bundle, dataset: Dataset, rows: Rows, forecast: Forecast, rivals: Mapping[str, Rival]
) -> HeadScores:
    y, own = dataset.y_range[rows], (forecast.range_location, forecast.range_scale)
    others = range_forecasts(dataset, rows, bundle.spec.baselines)
    others["har"] = Normal(forecast.har_location, forecast.har_scale)
    others |= {name: rival.range for name, rival in rivals.items() if rival.range is not None}
    return HeadScores(
        crps=gaussian_crps(y, *own),
        crps_of={name: gaussian_crps(y, *normal) for name, normal in others.items()},
        log_score=gaussian_log_score(y, *own),
        log_score_of={"har": gaussian_log_score(y, *others["har"])},
        error=y - forecast.range_location,
        error_of={"har": y - forecast.har_location},
        level=gaussian_cdf(y, *own),
    )


def _score_return(bundle: Bundle, y: Floats, forecast: Forecast) -> HeadScores:
    own = forecast.location, forecast.scale, bundle.spec.distribution.dof
    baseline = 0.0, forecast.ewma_scale, bundle.spec.baselines.return_dof
    return HeadScores(
        crps=student_t_crps(y, *own),
        crps_of={"baseline": student_t_crps(y, *baseline)},
        log_score=student_t_log_score(y, *own),
        log_score_of={"baseline": student_t_log_score(y, *baseline)},
        error=y - forecast.location,
        error_of={"zero": y},
        level=student_t_cdf(y, *own),
    )


def _take(columns: Mapping[str, Floats], rows: Mask) -> dict[str, Floats]:
    return {name: column[rows] for name, column in columns.items()}
