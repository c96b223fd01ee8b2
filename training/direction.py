"""How good the probabilities of a rise are: ranking, decisions, proper scores and calibration.

Enters: probabilities and what happened, `(n,)`; returns of exactly 0 were left out before. Leaves: figures.
Does not know: models, symbols, time but by its blocks.

A model that knows nothing has an AUC of 1/2 and a PR-AUC of `up_rate`, the share of rises. F1 is that of the rises,
called where the probability is above 1/2: who always says "up" has a high one, so read it beside the accuracy.
Source: Davis & Goadrich 2006 (PR-AUC as average precision); Brier 1950; Naeini et al. 2015 (ECE), in bins of equal
counts, since all chances lie near 1/2; Kumar et al. 2019, Verified Uncertainty Calibration, for the pivotal interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.bootstrap import Blocks, Figure

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

RELIABILITY_BINS = 10
LEAST_CHANCE = float(np.finfo(np.float64).eps)
"""A log loss must stay finite where a probability was 0 and it happened; scikit-learn clips likewise."""
NOTHING = Figure(value=None, low=None, high=None)


def direction_figures(
    probability_up: Floats, up: Mask, up_rate: float, blocks: Blocks, others: Mapping[str, Floats] | None = None
) -> dict[str, Figure]:
    """Every figure of the direction; `up_rate` is climatology, `others` are probabilities of rivals by name."""
    climatology = np.full(len(up), up_rate)
    brier = _brier(probability_up, up)
    return {
        "auc": blocks.auc(probability_up, up),
        "pr_auc": pr_auc(probability_up, up, blocks),
        "accuracy": blocks.mean(((probability_up > 0.5) == up).astype(np.float64)),
        "f1": f1(probability_up > 0.5, up, blocks),
        "brier_vs_climatology": blocks.ratio(brier, _brier(climatology, up)),
        **{f"brier_vs_{name}": blocks.ratio(brier, _brier(chance, up)) for name, chance in (others or {}).items()},
        "log_loss_vs_climatology": blocks.ratio(log_losses(probability_up, up), log_losses(climatology, up)),
        "ece": ece(probability_up, up, blocks),
        "up_rate": blocks.mean(up.astype(np.float64)),
    }


def pr_auc(score: Floats, positive: Mask, blocks: Blocks) -> Figure:
    """Average precision; the scores are first cut into 400 bins."""
    if not positive.any():
        return NOTHING
    counts = np.concatenate(blocks.score_histograms(score, positive), axis=1)
    return blocks.figure(lambda sums: _average_precision(*np.split(sums, 2, axis=-1)), counts)


def f1(called: Mask, positive: Mask, blocks: Blocks) -> Figure:
    """Twice the true positives over all that were called or were positive."""
    columns = [called & positive, called, positive]
    return blocks.figure(
        lambda sums: np.asarray(2 * sums[..., 0] / (sums[..., 1] + sums[..., 2])),
        blocks.sums(*(column.astype(np.float64) for column in columns)),
    )


def log_losses(probability_up: Floats, up: Mask) -> Floats:
    """Negative log of the probability of what happened, in nats, `(n,)`."""
    chance = np.clip(np.where(up, probability_up, 1.0 - probability_up), LEAST_CHANCE, 1.0)
    return np.asarray(-np.log(chance))


def ece(probability_up: Floats, up: Mask, blocks: Blocks) -> Figure:
    """Mean distance of predicted chance and observed share over ten bins of equal counts.

    By noise alone it is above 0, and that of every draw more so. Its interval is therefore turned around (twice the
    value less the draws') and begins at 0 where a calibrated model may have done as badly.
    """
    if not len(up):
        return NOTHING
    bins, width = equal_count_bins(probability_up)
    sums = np.concatenate(
        [blocks.histogram(bins, width, probability_up - up), blocks.sums(np.ones(len(up)))],
        axis=1,
    )
    figure = blocks.figure(lambda total: np.asarray(np.abs(total[..., :-1]).sum(axis=-1) / total[..., -1]), sums)
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None:
        return figure
    return Figure(value=value, low=max(min(2 * value - high, value), 0.0), high=max(2 * value - low, value))


def reliability(probability_up: Floats, up: Mask, blocks: Blocks) -> list[dict[str, Any]]:
    """Ten bins of equal counts in order of chance: what was predicted, what was observed with its interval, rows."""
    if not len(up):
        return []
    bins, width = equal_count_bins(probability_up)
    rows = np.bincount(bins, minlength=width)
    predicted = np.bincount(bins, probability_up, minlength=width) / rows
    counts = np.concatenate(
        [blocks.histogram(bins, width, up.astype(np.float64)), blocks.histogram(bins, width)], axis=1
    )
    observed = blocks.figures(_shares, counts)
    return [
        {"predicted": chance, "observed": share["value"], "low": share["low"], "high": share["high"], "rows": count}
        for chance, share, count in zip(predicted.tolist(), observed, rows.tolist(), strict=True)
    ]


def equal_count_bins(score: Floats, bins: int = RELIABILITY_BINS) -> tuple[NDArray[np.intp], int]:
    """The bin of each row and how many bins there are, fewer where many scores are the same; none is empty."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1]))
    known, of = np.unique(np.searchsorted(edges, score), return_inverse=True)
    return of.astype(np.intp), len(known)


def _brier(chance: Floats, up: Mask) -> Floats:
    return np.asarray((chance - up) ** 2)


def _shares(counts: Floats) -> Floats:
    ups, rows = np.split(counts, 2, axis=-1)
    return np.asarray(ups / rows)


def _average_precision(ups: Floats, downs: Floats) -> Floats:
    """Precision at each threshold from the highest score down, weighted by the recall it adds, `(..., bins)`."""
    found = np.cumsum(ups[..., ::-1], axis=-1)
    called = found + np.cumsum(downs[..., ::-1], axis=-1)
    added = ups[..., ::-1] * found / np.maximum(called, 1.0)
    return np.asarray(added.sum(axis=-1) / found[..., -1])
