"""Labels that nobody can foretell: what the leakage sentinel trains and judges on.

Enters: a dataset. Leaves: the same features with other labels. Does not know: networks, scores, verdicts.

Rolled labels: each symbol's labels move along its own labelled rows, as on a circle, by 2,000 rows or more, so that no
feature (their memory is finite) saw a bar of the label beside it. One roll a symbol would leave something to learn
without any leak: all its labels shift by the same hours, so the time of day still tells (of one symbol alone, much).
So each symbol is cut into pieces, and each piece is rolled by a distance of its own. For the same reason its labels are
standardised: a symbol is known by its candles, and so would be the level of its labels. A label may come to lie in two
spans; its neighbours there have nothing in common, so nothing is learned from that. Where the circle closes, the end of
history meets its beginning: they do not overlap.

Marked labels: a step, and a wave that follows the features, added to the labels of one span only. Who never saw a label
of that span cannot know of either.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.features import CATALOGUE, WARM_UP_BARS
from training.dataset import Dataset, Rows

Floats = NDArray[np.float64]

LEAST_ROLL_BARS = 2_000
"""Beyond what features and a lookback remember, 1,756 bars at most; a long horizon moves it further."""
ROOM = 2.25
"""A symbol with fewer labelled rows than so many least rolls has no room for different rolls of that length."""
SHORT_SHARE = 3 / 8
"""Of its rows it is then rolled by, at least: between three and five eighths of the circle lie enough distances."""
MOST_PIECE_ROWS, LEAST_PIECES = 1_009, 16
STEP, WAVE = 2.0, 3.0
"""Of the marks, in standard deviations of the label: so large that what a network makes of noise is nothing beside."""
WAVE_FEATURES = ("return", "range", "body", "upper_wick", "lower_wick", "log_volume")
"""What the wave follows changes from candle to candle: a slow wave would be a step of another height in every block."""
MOST_DEVIATIONS = 3.0
LEAST_SD = 1e-6


def roll_labels(dataset: Dataset, seed: int) -> tuple[Dataset, dict[str, int]]:
    """Roll the labels of every symbol piece by piece.

    Returns:
        the dataset with the rolled labels, standardised by symbol; and the symbols that are too short for a roll by
        2,000 rows, with the least roll of each, in rows.
    """
    rng = np.random.default_rng(seed)
    wanted = max(LEAST_ROLL_BARS, WARM_UP_BARS + dataset.lookback_bars + dataset.horizon_bars)
    y_return, y_range = dataset.y_return.copy(), dataset.y_range.copy()
    short: dict[str, int] = {}
    for symbol, name in enumerate(dataset.symbols):
        slots = np.flatnonzero(dataset.labelled[symbol])
        if not len(slots):
            continue
        least = least_roll(len(slots), wanted)
        if least < wanted:
            short[name] = least
        source = slots[rolled_places(len(slots), least, rng)]
        for labels in (y_return, y_range):
            labels[symbol, slots] = _standardised(labels[symbol, source])
    return replace(dataset, y_return=y_return, y_range=y_range), short


def least_roll(rows: int, wanted: int) -> int:
    """The least distance of a roll along so many rows: the wanted one, or what a short symbol has room for."""
    return wanted if rows >= ROOM * wanted else int(SHORT_SHARE * rows)


def rolled_places(rows: int, least: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """`(rows,)`: where each row takes its label from, `least` rows away or more, either way round the circle."""
    piece_rows = max(min(rows // LEAST_PIECES, MOST_PIECE_ROWS), 1)
    distances = rng.integers(least, rows - least + 1, size=-(-rows // piece_rows))
    place = np.arange(rows)
    return np.asarray((place + distances[place // piece_rows]) % rows)


def mark_labels(dataset: Dataset, rows: Rows, seed: int) -> Dataset:
    """Add a step, and a wave along a random direction of fast features, to the range labels of these rows."""
    columns = [CATALOGUE.index(name) for name in WAVE_FEATURES]
    x = dataset.features[rows][:, columns].astype(np.float64)  # (n, 6)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + LEAST_SD)
    wave = np.clip(x, -MOST_DEVIATIONS, MOST_DEVIATIONS) @ np.random.default_rng(seed).normal(size=x.shape[1])  # (n,)
    y_range = dataset.y_range.copy()
    y_range[rows] += y_range[rows].std() * (STEP + WAVE * wave / (wave.std() + LEAST_SD))
    return replace(dataset, y_range=y_range)


def thin(dataset: Dataset, rows: Rows, share: float, seed: int, run_bars: int = 1) -> Dataset:
    """Forget the labels of these rows but for about this share, kept in runs of so many slots; all others stay."""
    if share >= 1:
        return dataset
    series, slots = dataset.labelled.shape
    kept = np.random.default_rng(seed).random((series, -(-slots // run_bars))) < share
    labelled = dataset.labelled.copy()
    labelled[rows] = kept[rows[0], rows[1] // run_bars]
    return replace(dataset, labelled=labelled)


def _standardised(labels: Floats) -> Floats:
    return np.asarray((labels - labels.mean()) / max(float(labels.std()), LEAST_SD))
