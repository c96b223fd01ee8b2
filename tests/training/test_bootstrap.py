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


def test_ratio_bound_of_the_same_sums_is_one() -> None:
    values = np.random.default_rng(0).uniform(1, 2, 500)
    assert Blocks(np.arange(500) // 50).ratio_bound(values, values) == 1.0


@pytest.mark.parametrize("blocks", [5, 8, 12, 13, 40])
def test_ratio_bound_lies_below_one_exactly_when_few_sign_flips_do_as_well(blocks: int) -> None:
    rng, found = np.random.default_rng(blocks), []
    for _ in range(60):
        above, below = rng.uniform(1, 2, blocks), rng.uniform(1, 2.3, blocks)
        signs = rng.choice([-1.0, 1.0], (20_000, blocks))
        chance = np.mean(signs @ (below - above) >= (below - above).sum())
        if abs(chance - 0.05) > 0.01:  # else the draws may differ
            found.append(((Blocks(np.arange(blocks)).ratio_bound(above, below) < 1), chance < 0.05))
    assert {first for first, _ in found} == {True, False}
    assert all(first == second for first, second in found)


def test_ratio_bound_covers_the_true_ratio_of_few_blocks_in_about_95_of_100_worlds() -> None:
    rng, over, drawn = np.random.default_rng(5), 0, 0
    for _ in range(1_000):
        below = rng.gamma(3.0, size=8)
        above = below * 0.9 + 0.3 * rng.standard_t(3, size=8)  # heavy tails, eight blocks
        blocks = Blocks(np.arange(8), draws=200)
        over += blocks.ratio_bound(above, below) >= 0.9
        drawn += (blocks.ratio(above, below)["high"] or 0.0) >= 0.9  # of a two-sided interval: 97.5 % are meant
    assert 0.935 <= over / 1_000 <= 0.985
    assert drawn < over + 25  # though meant to be further out, it is hardly: too sure of itself


def test_ratio_bound_of_too_few_blocks_for_its_confidence_is_infinite() -> None:
    values, four, seven = np.ones(28), Blocks(np.arange(28) % 4), Blocks(np.arange(28) % 7)
    assert four.ratio_bound(values, 2 * values) == np.inf
    assert seven.ratio_bound(values, 2 * values) == 0.5
    assert Blocks(np.arange(28) % 6).ratio_bound(values, 2 * values, confidence=0.99) == np.inf


def test_auc_bound_lies_a_little_below_the_auc_and_falls_with_confidence() -> None:
    rng = np.random.default_rng(3)
    positive = rng.random(400) < 0.4
    score = rng.normal(size=400) + positive
    blocks = Blocks(np.arange(400) // 20)
    auc = blocks.auc(score, positive)["value"]
    assert auc is not None
    assert auc - 0.1 < blocks.auc_bound(score, positive, 0.99) < blocks.auc_bound(score, positive) < auc


def test_auc_bound_of_rows_all_alike_is_minus_infinity() -> None:
    assert Blocks(np.arange(100) // 10).auc_bound(np.arange(100.0), np.ones(100, bool)) == -np.inf


def test_figure_of_a_statistic_of_sums_equals_drawing_the_rows_themselves() -> None:
    rng, block = np.random.default_rng(6), np.arange(600) // 30
    own, other = rng.normal(size=600), rng.normal(size=600)
    blocks = Blocks(block, draws=400)
    figure = blocks.figure(lambda sums: np.sqrt(sums[..., 0] / sums[..., 1]), blocks.sums(own**2, other**2))
    drawn = np.random.default_rng(20_250_601).integers(20, size=(400, 20))
    rows = [np.concatenate([np.arange(600)[block == number] for number in draw]) for draw in drawn]
    ratios = [np.linalg.norm(own[taken]) / np.linalg.norm(other[taken]) for taken in rows]
    assert figure["value"] == pytest.approx(np.linalg.norm(own) / np.linalg.norm(other))
    assert (figure["low"], figure["high"]) == pytest.approx(tuple(np.percentile(ratios, [2.5, 97.5])))


def test_figures_of_several_shares_are_those_of_each() -> None:
    rng = np.random.default_rng(7)
    blocks, bins, up = Blocks(np.arange(400) // 20), rng.integers(3, size=400), rng.random(400)
    counts = np.concatenate([blocks.histogram(bins, 3, up), blocks.histogram(bins, 3)], axis=1)
    several = blocks.figures(lambda sums: sums[..., :3] / sums[..., 3:], counts)
    for number, figure in enumerate(several):
        own = (bins == number).astype(float)
        alone = blocks.ratio(up * own, own)
        assert all(figure[key] == pytest.approx(alone[key]) for key in ("value", "low", "high"))
