"""What a bundle can and cannot do: proper scores on a span of time, through the code that serves.

Enters: a bundle and a dataset. Leaves: figures with intervals. Does not know: how the bundle was trained.

Every `<score>_vs_<baseline>` is a sum of scores over the sum of the baseline's on the same rows: below 1 the bundle is
better. Log scores alone are differences, in nats a row: below 0 the bundle is better.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.features import select
from models.forecast import Forecast, Interpreter
from models.predictor import WindowedPredictor
from training import breakdown
from training.baselines import Rival
from training.bootstrap import Blocks, Figure
from training.breakdown import coverage
from training.dataset import Dataset, Rows
from training.direction import direction_figures, reliability
from training.point import error_figures
from training.row_scores import LEAST_BLOCK_HORIZONS, HeadScores, RowScores, block_bars, score_rows
from training.split import Span

__all__ = ["LEAST_BLOCK_HORIZONS", "PARTS", "POOLED", "Rival", "block_bars", "evaluate", "forecast_rows"]

Floats = NDArray[np.float64]

POOLED = ("range", "return", "price", "direction")
"""Sections of figures over all rows of the span."""
PARTS = (*POOLED, "by_symbol", "by_hour", "by_volatility", "reliability", "pit")
"""All but `by_sample`, which is asked for where a bundle may have seen some of the rows."""


def evaluate(
    bundle: Bundle,
    dataset: Dataset,
    span: Span,
    *,
    parts: Collection[str] = PARTS,
    rivals: Mapping[str, Rival] | None = None,
) -> dict[str, Any]:
    """Score a bundle on the labelled rows of a span.

    Args:
        bundle: what is scored.
        dataset: of the bundle's timeframe, lookback and horizon.
        span: its rows are `dataset.rows(*span)`.
        parts: which sections to make; those of `POOLED` are maps of figures, the others break them down.
        rivals: forecasts of other models for these rows, by the name after `crps_vs_` and `brier_vs_`.
    """
    rows = dataset.rows(*span)
    forecast = forecast_rows(bundle, dataset, rows)
    scores = score_rows(bundle, dataset, rows, forecast, rivals)
    blocks, moved = Blocks(scores.block), scores.take(scores.moved)
    close_time_ms = dataset.close_time_ms[rows[1]]
    sections: dict[str, Callable[[], Any]] = {
        "range": partial(_range_figures, scores.range, blocks),
        "return": partial(_return_figures, scores.return_, blocks),
        "price": partial(error_figures, scores.price_error, scores.price_error_of_last, "last", blocks),
        "direction": partial(_direction_figures, moved),
        "by_symbol": partial(breakdown.by_symbol, scores, rows, dataset.symbols),
        "by_hour": partial(breakdown.by_hour, scores, close_time_ms),
        "by_volatility": lambda: breakdown.by_volatility(
            scores, breakdown.relative_volatility(dataset, rows, span.first)
        ),
        "by_sample": partial(breakdown.by_sample, scores, close_time_ms <= bundle.spec.trained_until_ms),
        "reliability": lambda: reliability(moved.probability_up, moved.up, Blocks(moved.block)),
        "pit": lambda: {
            "range": breakdown.pit(scores.range, blocks),
            "return": breakdown.pit(scores.return_, blocks),
        },
    }
    return {name: make() for name, make in sections.items() if name in parts}


def forecast_rows(bundle: Bundle, dataset: Dataset, rows: Rows) -> Forecast:
    """The forecasts that the serving predictor and interpreter give for rows."""
    predictor, columns = WindowedPredictor(bundle, "cpu"), select(bundle.spec.features)
    raw = [predictor.predict(np.ascontiguousarray(windows[..., columns])) for windows in dataset.windows(rows)]
    return Interpreter(bundle.spec).interpret(
        np.concatenate(raw), dataset.ohlcv[3][rows], dataset.volatility[rows], dataset.features[rows]
    )


def _range_figures(head: HeadScores, blocks: Blocks) -> dict[str, Figure]:
    return {
        **_distribution_figures(head, blocks),
        **error_figures(head.error, head.error_of["har"], "har", blocks),
    }


def _return_figures(head: HeadScores, blocks: Blocks) -> dict[str, Figure]:
    return {
        **_distribution_figures(head, blocks),
        **error_figures(head.error, head.error_of["zero"], "zero", blocks),
    }


def _distribution_figures(head: HeadScores, blocks: Blocks) -> dict[str, Figure]:
    return {
        **{f"crps_vs_{name}": blocks.ratio(head.crps, crps) for name, crps in head.crps_of.items()},
        **{f"log_score_vs_{name}": blocks.mean(head.log_score - nats) for name, nats in head.log_score_of.items()},
        "coverage80": coverage(head, blocks, 0.80),
        "coverage95": coverage(head, blocks, 0.95),
    }


def _direction_figures(moved: RowScores) -> dict[str, Figure]:
    return direction_figures(
        moved.probability_up, moved.up, moved.up_rate, Blocks(moved.block), moved.probability_up_of
    )
