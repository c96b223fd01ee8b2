"""Which features a bundle leans on: how much worse its range forecasts are when one feature is shuffled.

Enters: a bundle, a dataset, a span. Leaves: a ratio of CRPS a feature, the most important first.
Does not know: what the network would have learned without that feature. Where two say the same, each looks like nothing
as long as the other is there.
Source: Breiman 2001, Random Forests, sec. 10.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.distribution import gaussian_crps
from models.features import select
from models.forecast import Interpreter
from models.predictor import WindowedPredictor
from training.bootstrap import Blocks
from training.dataset import Dataset, Rows
from training.row_scores import block_bars
from training.split import Span

MOST_ROWS = 4_000
"""Each is forecast once a feature: 23 features cost as much as 92,000 rows."""
SEED = 20_250_601


def permutation_importance(
    bundle: Bundle, dataset: Dataset, span: Span, most_rows: int = MOST_ROWS, seed: int = SEED
) -> list[dict[str, Any]]:
    """Rate every feature of the bundle on rows of a span, at most `most_rows` drawn at random.

    A feature's whole windows change places among the rows of one symbol, so that its values stay real ones.

    Returns:
        `{"feature", "ratio": {value, low, high}}`: CRPS of the range shuffled over unshuffled; 1 is of no use. Empty
        where the span has no row.
    """
    rows = _drawn(dataset.rows(*span), most_rows, seed)
    if not len(rows[0]):
        return []
    predictor = WindowedPredictor(bundle, "cpu")
    windows = np.concatenate(list(dataset.windows(rows)))[..., select(bundle.spec.features)]
    blocks = Blocks(rows[1] // block_bars(dataset.timeframe_ms, dataset.horizon_bars))
    order = _shuffled_within(rows[0], seed)

    def score(changed: NDArray[np.float32]) -> NDArray[np.float64]:
        interpreted = Interpreter(bundle.spec).interpret(
            predictor.predict(changed), dataset.ohlcv[3][rows], dataset.volatility[rows], dataset.features[rows]
        )
        return gaussian_crps(dataset.y_range[rows], interpreted.range_location, interpreted.range_scale)

    unshuffled, found = score(np.ascontiguousarray(windows)), []
    for number, feature in enumerate(bundle.spec.features):
        changed = windows.copy(order="C")
        changed[..., number] = windows[order, :, number]
        found.append({"feature": feature, "ratio": blocks.ratio(score(changed), unshuffled)})
    return sorted(found, key=lambda entry: -(entry["ratio"]["value"] or 0.0))


def _drawn(rows: Rows, most: int, seed: int) -> Rows:
    """Some of the rows, in their order."""
    symbol, slot = rows
    if len(symbol) <= most:
        return rows
    kept = np.sort(np.random.default_rng(seed).choice(len(symbol), most, replace=False))
    return symbol[kept], slot[kept]


def _shuffled_within(symbol: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """For each row another one of the same symbol, each taken once: `(n,)`."""
    rng, order = np.random.default_rng(seed), np.arange(len(symbol))
    for number in np.unique(symbol):
        own = np.flatnonzero(symbol == number)
        order[own] = rng.permutation(own)
    return order
