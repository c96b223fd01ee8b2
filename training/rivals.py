"""Models that a bundle has to be better than, fitted on the rows that trained it: the costly ones beside `baselines`.

Enters: a dataset, its split, the rows to speak of, a seed. Leaves: forecasts by name. Does not know: bundles, scores.
"""

from __future__ import annotations

from training.baselines import Rival
from training.dataset import Dataset, Rows
from training.logistic import fit_logistic
from training.split import Split
from training.trees import INSTALL, fit_trees, trees_available


def rivals(dataset: Dataset, split: Split, rows: Rows, seed: int) -> dict[str, Rival]:
    """Fit every rival on the split's training rows (validation rows stop and calibrate the trees); ask them of rows.

    `logistic` speaks of the direction; `lightgbm` of the range, and is not there where it is not installed
    (`rivals_left_out` says so).
    """
    train, validation = dataset.rows(*split.train), dataset.rows(*split.validation)
    found = {"logistic": Rival(probability_up=fit_logistic(dataset, train).probability_up(dataset, rows))}
    if trees_available():
        trees = fit_trees(dataset, train, validation, seed)
        found["lightgbm"] = Rival(range=trees.range_normal(dataset, rows))
    return found


def rivals_left_out() -> dict[str, str]:
    """Rivals that cannot speak here, and how to mend it."""
    return {} if trees_available() else {"lightgbm": INSTALL}
