"""The trees and the columns they see. Without LightGBM (extra `trees`) those that fit are skipped, by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.distribution import gaussian_crps
from models.errors import CandlewickError
from models.features import CATALOGUE
from tests.training.make_candles import make_table, with_gaps
from training import rivals as rivals_module
from training import trees as trees_module
from training.baselines import Normal, fit_baselines, range_forecasts
from training.dataset import Dataset, build_dataset
from training.rivals import rivals, rivals_left_out
from training.split import Fractions, Split, split_time
from training.tree_features import EMA_SPANS, RANGE_LAGS, tree_features
from training.trees import fit_trees, thinned, trees_available

needs_lightgbm = pytest.mark.skipif(not trees_available(), reason="needs LightGBM: pip install 'candlewick[trees]'")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(make_table(bars=4_800), 16, 3)


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return split_time(dataset.labelled.sum(axis=0), Fractions(0.6, 0.15, 0.25), 3)


def test_tree_features_see_nothing_after_the_close(dataset: Dataset) -> None:
    slot = 3_000
    rows = dataset.rows(2_900, slot + 1)
    ohlcv, features, volatility = dataset.ohlcv.copy(), dataset.features.copy(), dataset.volatility.copy()
    ohlcv[:, :, slot + 1 :] *= 3.0
    features[:, slot + 1 :] = 9.0
    volatility[:, slot + 1 :] *= 5.0
    changed = replace(dataset, ohlcv=ohlcv, features=features, volatility=volatility)
    np.testing.assert_array_equal(tree_features(changed, rows), tree_features(dataset, rows))


def test_tree_features_follow_their_definitions(dataset: Dataset) -> None:
    rows = np.array([1, 2]), np.array([2_500, 4_000])
    table = tree_features(dataset, rows)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[:, : len(CATALOGUE)], dataset.features[rows])
    _, high, low, close, _ = dataset.ohlcv
    for k, (symbol, slot) in enumerate(zip(*rows, strict=True)):
        relative = ((high - low) / close)[symbol, : slot + 1]
        lagged = [np.log(max(relative[-1 - bars] / dataset.volatility[symbol, slot], 0.1)) for bars in RANGE_LAGS]
        first = len(CATALOGUE) + len(EMA_SPANS)
        np.testing.assert_allclose(table[k, first : first + len(RANGE_LAGS)], lagged, rtol=1e-5, atol=1e-6)
        highest = np.log(max(relative[-20:].max() / dataset.volatility[symbol, slot], 0.1))
        assert table[k, -1] == pytest.approx(highest, rel=1e-5)
        own = np.log(np.maximum(relative / dataset.volatility[symbol, : slot + 1], 0.1))[-64:]
        assert table[k, -3:-1] == pytest.approx([own.mean(), own.std()], rel=1e-4)


def test_tree_features_beside_absent_bars_are_never_infinite() -> None:
    dataset = build_dataset(with_gaps(make_table(), [(0, 2_000, 10)]), 16, 3)
    rows = dataset.rows(1_990, 2_060)
    table = tree_features(dataset, rows)
    assert not np.isinf(table).any()
    assert np.isnan(table).mean() < 0.01


def test_thinned_rows_are_spread_evenly() -> None:
    rows = np.arange(1_000), np.arange(1_000)
    few = thinned(rows, 10)[1]
    assert few.tolist() == list(range(0, 1_000, 100))
    assert thinned(rows, 2_000)[1].tolist() == rows[1].tolist()


@needs_lightgbm
def test_fit_trees_finds_a_planted_mean_and_a_planted_sd(dataset: Dataset, split: Split) -> None:
    rng = np.random.default_rng(0)
    wide = dataset.features[..., CATALOGUE.index("day_sin")] > 0
    step = dataset.features[..., CATALOGUE.index("range")] > 1.5
    y = np.where(step, 1.0, -0.5) + np.where(wide, 0.6, 0.2) * rng.normal(size=step.shape)
    planted = replace(dataset, y_range=y)
    trees = fit_trees(planted, planted.rows(*split.train), planted.rows(*split.validation), seed=0)
    test = planted.rows(*split.test)
    found = trees.range_normal(planted, test)
    assert np.abs(found.location - np.where(step, 1.0, -0.5)[test]).mean() < 0.1
    assert np.median(found.scale[wide[test]]) == pytest.approx(0.6, rel=0.15)
    assert np.median(found.scale[~wide[test]]) == pytest.approx(0.2, rel=0.25)


@needs_lightgbm
def test_fit_trees_beat_the_range_alone_and_hold_their_coverage(dataset: Dataset, split: Split) -> None:
    train, validation, test = (dataset.rows(*span) for span in split)
    found = fit_trees(dataset, train, validation, seed=0).range_normal(dataset, test)
    y = dataset.y_range[test]
    other = range_forecasts(dataset, test, fit_baselines(dataset, train))["vol60"]
    assert gaussian_crps(y, *found).mean() < gaussian_crps(y, *other).mean()
    assert (np.abs(y - found.location) < 1.2816 * found.scale).mean() == pytest.approx(0.8, abs=0.06)


@needs_lightgbm
def test_rivals_of_the_same_seed_are_the_same_and_see_no_test_label(dataset: Dataset, split: Split) -> None:
    test = dataset.rows(*split.test)
    y_range, y_return = dataset.y_range.copy(), dataset.y_return.copy()
    y_range[:, split.test.first :] = y_return[:, split.test.first :] = 9.0
    blinded = replace(dataset, y_range=y_range, y_return=y_return)
    one, other = rivals(dataset, split, test, 3), rivals(blinded, split, test, 3)
    assert set(one) == {"logistic", "lightgbm"}
    assert one["logistic"].range is None
    assert isinstance(one["lightgbm"].range, Normal)
    for name, found in one.items():
        mine, its = (found.range, other[name].range) if name == "lightgbm" else (found[1], other[name][1])
        np.testing.assert_array_equal(mine, its)


def test_rivals_without_lightgbm_leave_it_out_and_say_how_to_mend(
    dataset: Dataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees_module, "find_spec", lambda _: None)
    test = dataset.rows(*split.test)
    assert set(rivals_module.rivals(dataset, split, test, 0)) == {"logistic"}
    assert "candlewick[trees]" in rivals_left_out()["lightgbm"]
    with pytest.raises(CandlewickError, match="candlewick\\[trees\\]"):
        fit_trees(dataset, dataset.rows(*split.train), dataset.rows(*split.validation), 0)
