from __future__ import annotations

import numpy as np
import pytest

from training.bootstrap import Blocks


def test_ratio_of_the_same_sums_is_one_without_width() -> None:
    values = np.random.default_rng(0).uniform(1, 2, 500)
    assert Blocks(np.arange(500) // 50).ratio(values, values) == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_mean_interval_covers_the_true_mean_in_about_95_of_100_worlds() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        level = np.repeat(rng.normal(size=40), 25)  # rows of a block move together
        figure = Blocks(np.arange(1_000) // 25, draws=300).mean(level + rng.normal(size=1_000))
        assert figure["low"] is not None
        assert figure["high"] is not None
        hits += figure["low"] <= 0 <= figure["high"]
    assert 180 <= hits <= 198


def test_mean_of_rows_taken_one_by_one_would_be_far_too_sure() -> None:
    level = np.repeat(np.random.default_rng(2).normal(size=40), 25)
    by_block, by_row = Blocks(np.arange(1_000) // 25).mean(level), Blocks(np.arange(1_000)).mean(level)
    width = [figure["high"] - figure["low"] for figure in (by_block, by_row)]  # type: ignore[operator]
    assert width[0] > 3 * width[1]


def test_auc_agrees_with_counting_all_pairs() -> None:
    rng = np.random.default_rng(3)
    positive = rng.random(400) < 0.4
    score = rng.normal(size=400) + positive
    pairs = (score[positive][:, None] > score[~positive]).mean()
    assert Blocks(np.arange(400) // 20).auc(score, positive)["value"] == pytest.approx(pairs, abs=0.005)


def test_auc_of_equal_scores_is_one_half() -> None:
    positive = np.arange(100) % 2 == 0
    assert Blocks(np.arange(100) // 10).auc(np.ones(100), positive)["value"] == 0.5


def test_figure_of_few_blocks_has_no_interval() -> None:
    figure = Blocks(np.arange(50) // 10).mean(np.arange(50.0))
    assert figure == {"value": 24.5, "low": None, "high": None}


def test_figure_of_the_same_rows_is_the_same_twice() -> None:
    values = np.random.default_rng(4).normal(size=300)
    assert Blocks(np.arange(300) // 20).mean(values) == Blocks(np.arange(300) // 20).mean(values)


NOTHING = {"value": None, "low": None, "high": None}


def test_figures_without_a_row_are_nothing() -> None:
    blocks, none = Blocks(np.array([], int)), np.array([])
    assert blocks.mean(none) == blocks.ratio(none, none) == blocks.auc(none, none.astype(bool)) == NOTHING


def test_figures_that_the_rows_do_not_give_are_nothing() -> None:
    blocks, zeros = Blocks(np.arange(100) // 10), np.zeros(100)
    assert blocks.ratio(zeros, zeros) == NOTHING
    assert blocks.auc(np.arange(100.0), np.ones(100, bool)) == NOTHING
