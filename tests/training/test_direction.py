from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from training.bootstrap import Blocks
from training.direction import direction_figures, ece, equal_count_bins, f1, log_losses, pr_auc, reliability

N = 8_000
NOTHING = {"value": None, "low": None, "high": None}
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def market(seed: int = 0, sharpness: float = 1.0) -> tuple[Floats, Mask]:
    """Chances that are true, and what came of them; said `sharpness` times as far from one half."""
    rng = np.random.default_rng(seed)
    chance = rng.uniform(0.3, 0.7, N)
    return 0.5 + sharpness * (chance - 0.5), rng.random(N) < chance


BLOCKS = Blocks(np.arange(N) // 100)


@pytest.mark.parametrize("sharpness", [1.0, 1.4, -0.5])
def test_direction_figures_are_those_of_scikit_learn(sharpness: float) -> None:
    chance, up = market(1, sharpness)
    found = {name: figure["value"] for name, figure in direction_figures(chance, up, 0.47, BLOCKS).items()}
    climate = np.full(N, 0.47)
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(up, chance), abs=1e-3)
    assert found["pr_auc"] == pytest.approx(metrics.average_precision_score(up, chance), abs=5e-3)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(up, chance > 0.5))
    assert found["f1"] == pytest.approx(metrics.f1_score(up, chance > 0.5))
    brier = metrics.brier_score_loss(up, chance) / metrics.brier_score_loss(up, climate)
    assert found["brier_vs_climatology"] == pytest.approx(brier)
    nats = metrics.log_loss(up, chance) / metrics.log_loss(up, climate)
    assert found["log_loss_vs_climatology"] == pytest.approx(nats)
    assert found["up_rate"] == pytest.approx(up.mean())


def test_direction_figures_of_few_distinct_chances_equal_scikit_learn_exactly() -> None:
    chance, up = market(2)
    chance = chance.round(1)
    assert pr_auc(chance, up, BLOCKS)["value"] == pytest.approx(metrics.average_precision_score(up, chance))
    assert BLOCKS.auc(chance, up)["value"] == pytest.approx(metrics.roc_auc_score(up, chance))


def test_direction_figures_of_rivals_are_brier_ratios() -> None:
    chance, up = market()
    other = 1 - chance
    found = direction_figures(chance, up, 0.5, BLOCKS, {"mirror": other})
    ratio = metrics.brier_score_loss(up, chance) / metrics.brier_score_loss(up, other)
    assert found["brier_vs_mirror"]["value"] == pytest.approx(ratio)


def test_f1_and_pr_auc_without_a_rise_are_nothing() -> None:
    none = np.zeros(N, bool)
    assert f1(none, none, BLOCKS) == NOTHING
    assert pr_auc(np.linspace(0, 1, N), none, BLOCKS) == NOTHING


def test_direction_figures_without_rows_are_nothing() -> None:
    nobody = Blocks(np.array([], int))
    found = direction_figures(np.array([]), np.array([], bool), 0.5, nobody)
    assert all(figure == NOTHING for figure in found.values())
    assert reliability(np.array([]), np.array([], bool), nobody) == []


def test_log_losses_of_a_chance_of_nil_that_came_true_stay_finite() -> None:
    chance, up = np.array([0.0, 1.0, 0.25]), np.array([True, True, False])
    assert metrics.log_loss(up, chance) == pytest.approx(log_losses(chance, up).mean())


def naive_ece(chance: Floats, up: Mask) -> float:
    rank, total = np.argsort(np.argsort(chance)), 0.0
    for part in range(10):
        own = rank * 10 // len(chance) == part
        total += own.sum() * abs(chance[own].mean() - up[own].mean())
    return total / len(chance)


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_ece_equals_a_loop_over_ten_bins(sharpness: float) -> None:
    chance, up = market(3, sharpness)
    assert ece(chance, up, BLOCKS)["value"] == pytest.approx(naive_ece(chance, up), abs=2e-4)


def test_ece_interval_of_true_chances_reaches_nil_and_of_wrong_ones_does_not() -> None:
    reach = [ece(*market(seed), BLOCKS)["low"] or 0.0 for seed in range(20)]
    assert sum(low < 0.003 for low in reach) >= 17
    wrong = ece(*market(0, 2.0), BLOCKS)
    assert (wrong["low"] or 0.0) > 0.05
    assert (wrong["low"] or 0.0) <= (wrong["value"] or 0.0) <= (wrong["high"] or 0.0)


def test_reliability_of_true_chances_has_the_diagonal_in_its_intervals() -> None:
    curve = reliability(*market(4), BLOCKS)
    assert [each["rows"] for each in curve] == [N // 10] * 10
    predicted = [each["predicted"] for each in curve]
    assert predicted == sorted(predicted)
    assert sum(each["low"] <= each["predicted"] <= each["high"] for each in curve) >= 8
    assert np.mean([each["observed"] for each in curve]) == pytest.approx(market(4)[1].mean())


def test_reliability_of_one_chance_only_is_one_bin() -> None:
    up = market()[1]
    (only,) = reliability(np.full(N, 0.5), up, BLOCKS)
    assert only["rows"] == N
    assert only["observed"] == pytest.approx(up.mean())


def test_equal_count_bins_have_no_empty_one() -> None:
    score = np.repeat([0.1, 0.5, 0.9], [2, 95, 3])
    bins, width = equal_count_bins(score)
    assert (np.bincount(bins, minlength=width) > 0).all()
    assert bins.tolist() == sorted(bins.tolist())
