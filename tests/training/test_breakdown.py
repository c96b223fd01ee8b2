from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.make_candles import make_table
from training.bootstrap import Blocks
from training.breakdown import by_volatility, coverage, pit, relative_volatility
from training.dataset import Dataset, build_dataset
from training.row_scores import HeadScores, RowScores

Floats = NDArray[np.float64]
N = 6_000
BLOCK = np.arange(N) // 100


def head(level: Floats, crps: Floats | None = None) -> HeadScores:
    own, ones = np.ones(len(level)) if crps is None else crps, np.ones(len(level))
    others = dict.fromkeys(("har", "range_ewma", "baseline"), ones)
    return HeadScores(own, others, own, others, own, others, level)


def scores(crps: Floats) -> RowScores:
    zeros, none = np.zeros(N), np.zeros(N, bool)
    heads = head(np.full(N, 0.5), crps)
    return RowScores(BLOCK, heads, heads, zeros, zeros, zeros, {}, none, none, 0.5)


def test_pit_of_true_forecasts_lies_in_the_band() -> None:
    content = pit(head(np.random.default_rng(0).random(N)), Blocks(BLOCK))
    assert len(content["shares"]) == 20
    assert sum(content["shares"]) == pytest.approx(1)
    assert 0.04 < content["low"] < 0.05 < content["high"] < 0.06
    assert sum(content["low"] <= share <= content["high"] for share in content["shares"]) >= 17


def test_pit_of_too_wide_forecasts_gathers_in_the_middle() -> None:
    content = pit(head(0.5 + 0.3 * (np.random.default_rng(0).random(N) - 0.5)), Blocks(BLOCK))
    assert content["shares"][0] == 0 < content["low"]
    assert content["shares"][9] > content["high"]


def test_pit_band_is_wider_where_blocks_move_together() -> None:
    rng = np.random.default_rng(1)
    apart = pit(head(rng.random(N)), Blocks(BLOCK))
    together = pit(head(np.repeat(rng.random(N // 100), 100)), Blocks(BLOCK))
    assert together["high"] - together["low"] > 3 * (apart["high"] - apart["low"])


def test_pit_of_levels_at_the_ends_counts_them_in_the_outer_bins() -> None:
    shares = pit(head(np.array([0.0, 1.0, 1.0, 0.05])), Blocks(np.zeros(4, int)))["shares"]
    assert (shares[0], shares[1], shares[19]) == (0.25, 0.25, 0.5)


def test_pit_without_rows_or_blocks_has_no_band() -> None:
    assert pit(head(np.array([])), Blocks(np.array([], int))) == {"shares": [], "low": None, "high": None}
    assert pit(head(np.full(10, 0.5)), Blocks(np.arange(10) // 2))["low"] is None


def test_coverage_counts_levels_of_the_central_interval() -> None:
    level = np.repeat([0.05, 0.2, 0.5, 0.89, 0.99], N // 5)
    assert coverage(head(level), Blocks(BLOCK), 0.8)["value"] == pytest.approx(0.6)
    assert coverage(head(level), Blocks(BLOCK), 0.95)["value"] == pytest.approx(0.8)


def test_by_volatility_cuts_rows_into_thirds_by_what_is_usual() -> None:
    relative = np.random.default_rng(2).permutation(N).astype(float)
    cells = by_volatility(scores(1 + relative // (N // 3)), relative)
    assert [cell["regime"] for cell in cells] == ["low", "middle", "high"]
    assert [cell["rows"] for cell in cells] == [N // 3] * 3
    assert [cell["range"]["crps_vs_har"]["value"] for cell in cells] == [1.0, 2.0, 3.0]


def test_by_volatility_of_one_level_still_counts_every_row() -> None:
    cells = by_volatility(scores(np.ones(N)), np.ones(N))
    assert sum(cell["rows"] for cell in cells) == N
    assert by_volatility(scores(np.ones(N)), np.array([])) == []


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(make_table(1_800), 16, 3)


def test_relative_volatility_is_one_at_the_median_of_the_past(dataset: Dataset) -> None:
    past = dataset.rows(0, 1_700)
    assert np.median(relative_volatility(dataset, past, 1_700)[past[0] == 1]) == pytest.approx(1)


def test_relative_volatility_is_blind_to_a_symbols_usual_level(dataset: Dataset) -> None:
    wild, rows = replace(dataset, volatility=dataset.volatility * [[10.0], [1.0], [1.0]]), dataset.rows(1_700, 1_800)
    np.testing.assert_allclose(relative_volatility(wild, rows, 1_700), relative_volatility(dataset, rows, 1_700))


def test_relative_volatility_of_a_symbol_without_a_past_is_to_its_own_rows(dataset: Dataset) -> None:
    rows = dataset.rows(1_700, 1_790)
    relative = relative_volatility(dataset, rows, 0)
    assert [np.median(relative[rows[0] == symbol]) for symbol in range(3)] == pytest.approx([1, 1, 1])
