"""Made-up pooled scores: so many symbols a close, each covered with a chance that the story tells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.events import Scores

MINUTE_MS = 60_000
BEGIN_MS = 1_700_000_040_000
HORIZON = 3


def make_scores(close: int, covered: tuple[int, int] = (8, 8), outcomes: int = 10, **other: object) -> Scores:
    """The close with this number; `covered` is of the return and of the range."""
    known: dict[str, object] = {
        "model": "default-1m", "bundle": "a" * 64, "epoch": 1, "timeframe": "1m", "horizon_bars": HORIZON,
        "target_time_ms": BEGIN_MS + close * MINUTE_MS, "partition": None, "outcomes": outcomes,
        "return_crps": 0.5 * outcomes, "return_crps_ewma": 0.5 * outcomes, "range_crps": 0.2 * outcomes,
        "range_crps_har": 0.21 * outcomes, "return_pit": 0.5 * outcomes, "range_pit": 0.5 * outcomes,
        "return_covered": covered[0], "range_covered": covered[1],
    }  # fmt: skip
    return Scores(**(known | other))  # type: ignore[arg-type]


def told(
    rng: np.random.Generator, first: int, closes: int, chances: tuple[float, float], outcomes: int = 10, **other: object
) -> Iterator[Scores]:
    """Closes in a row whose symbols are covered with these chances."""
    draws = rng.binomial(outcomes, chances, (closes, 2)).tolist()
    for close, (on_return, on_range) in enumerate(draws, first):
        yield make_scores(close, (on_return, on_range), outcomes, **other)
