"""What a bundle can and cannot do: proper scores on a span of time, through the code that serves.

Enters: a bundle and a dataset. Leaves: figures with intervals. Does not know: how the bundle was trained.
Every ratio is a sum of scores over the sum of a baseline's on the same rows: below 1 the bundle is better.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.distribution import gaussian_cdf, gaussian_crps, student_t_cdf, student_t_crps
from models.features import select
from models.forecast import Forecast, Interpreter
from models.predictor import WindowedPredictor
from models.spec import Spec
from training.baselines import range_forecasts
from training.bootstrap import Blocks, Figure
from training.dataset import Dataset, Rows
from training.split import Span

Floats = NDArray[np.float64]

LEAST_BLOCK_MS = 7_200_000
"""Two hours: markets calm down and wake up together, and slowly."""
LEAST_BLOCK_HORIZONS = 4
"""Labels overlap for one horizon; blocks must be clearly longer."""


def evaluate(bundle: Bundle, dataset: Dataset, span: Span) -> dict[str, dict[str, Figure]]:
    """Score a bundle on the labelled rows of a span: sections `range`, `return`, `direction`."""
    rows = dataset.rows(span.first, span.stop)
    forecast = forecast_rows(bundle, dataset, rows)
    block = rows[1] // block_bars(dataset.timeframe_ms, dataset.horizon_bars)
    y_return, moved = dataset.y_return[rows], dataset.y_return[rows] != 0  # a return of exactly 0 has no direction
    up_rate = bundle.spec.baselines.up_rate
    return {
        "range": _range_figures(bundle.spec, dataset, rows, forecast, Blocks(block)),
        "return": _return_figures(bundle.spec, y_return, forecast, Blocks(block)),
        "direction": _direction_figures(
            forecast.probability_up[moved], y_return[moved] > 0, up_rate, Blocks(block[moved])
        ),
    }


def forecast_rows(bundle: Bundle, dataset: Dataset, rows: Rows) -> Forecast:
    """The forecasts that the serving predictor and interpreter give for rows."""
    predictor, columns = WindowedPredictor(bundle, "cpu"), select(bundle.spec.features)
    raw = [predictor.predict(np.ascontiguousarray(windows[..., columns])) for windows in dataset.windows(rows)]
    return Interpreter(bundle.spec).interpret(
        np.concatenate(raw), dataset.ohlcv[3][rows], dataset.volatility[rows], dataset.features[rows]
    )


def block_bars(timeframe_ms: int, horizon_bars: int) -> int:
    """Bars of a bootstrap block: two hours or four horizons, whichever is longer."""
    return max(math.ceil(LEAST_BLOCK_MS / timeframe_ms), LEAST_BLOCK_HORIZONS * horizon_bars)


def _range_figures(spec: Spec, dataset: Dataset, rows: Rows, forecast: Forecast, blocks: Blocks) -> dict[str, Figure]:
    y = dataset.y_range[rows]
    own = gaussian_crps(y, forecast.range_location, forecast.range_scale)
    others = {
        name: gaussian_crps(y, *normal) for name, normal in range_forecasts(dataset, rows, spec.baselines).items()
    }
    others["har"] = gaussian_crps(y, forecast.har_location, forecast.har_scale)
    level = gaussian_cdf(y, forecast.range_location, forecast.range_scale)
    return {
        **{f"crps_vs_{name}": blocks.ratio(own, other) for name, other in others.items()},
        **_coverage(level, blocks, (0.80, 0.95)),
    }


def _return_figures(spec: Spec, y: Floats, forecast: Forecast, blocks: Blocks) -> dict[str, Figure]:
    dof, baselines = spec.distribution.dof, spec.baselines
    own = student_t_crps(y, forecast.location, forecast.scale, dof)
    other = student_t_crps(y, 0.0, forecast.ewma_scale, baselines.return_dof)
    level = student_t_cdf(y, forecast.location, forecast.scale, dof)
    return {"crps_vs_baseline": blocks.ratio(own, other), **_coverage(level, blocks, (0.80,))}


def _direction_figures(
    probability_up: Floats, up: NDArray[np.bool_], up_rate: float, blocks: Blocks
) -> dict[str, Figure]:
    right = (probability_up > 0.5) == up
    return {
        "auc": blocks.auc(probability_up, up),
        "accuracy": blocks.mean(right.astype(np.float64)),
        "brier_vs_climatology": blocks.ratio((probability_up - up) ** 2, (up_rate - up.astype(np.float64)) ** 2),
    }


def _coverage(level: Floats, blocks: Blocks, nominal: tuple[float, ...]) -> dict[str, Figure]:
    """How often the truth lay inside central intervals, from the truth's place in its forecast (PIT)."""
    return {
        f"coverage{round(100 * share)}": blocks.mean((np.abs(level - 0.5) <= share / 2).astype(np.float64))
        for share in nominal
    }
