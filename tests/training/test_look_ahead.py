from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import training.dataset
from models.candle_table import CandleTable
from models.grid import grid_features
from models.label import labels
from tests.training.make_candles import make_table, with_gaps
from training import look_ahead as module
from training.dataset import Dataset, build_dataset
from training.look_ahead import look_ahead, rebuilt, repeated_share, same_features, spans_keep_apart
from training.split import Fractions, Span, Split, split_spread, split_time

LOOKBACK, HORIZON = 16, 3
GAPS = [(0, 1_600, 7), (1, 2_200, 30), (2, 2_390, 3)]


@pytest.fixture(scope="module")
def table() -> CandleTable:
    return with_gaps(make_table(bars=2_600), GAPS)


@pytest.fixture(scope="module")
def dataset(table: CandleTable) -> Dataset:
    return build_dataset(table, LOOKBACK, HORIZON)


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return cut(dataset)


def cut(dataset: Dataset) -> Split:
    return split_time(dataset.labelled.sum(axis=0), Fractions(0.5, 0.2, 0.3), dataset.horizon_bars)


def failing(table: CandleTable, dataset: Dataset, split: Split, seed: int = 0) -> list[str]:
    return [name for name, holds in look_ahead(table, dataset, split, seed).items() if not holds]


@pytest.mark.parametrize("seed", range(2))
def test_look_ahead_of_clean_rows_with_gaps_finds_nothing(
    table: CandleTable, dataset: Dataset, split: Split, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MANY_ROWS", 100 if seed == 0 else 10**9)  # a close of every span, or one
    assert failing(table, dataset, split, seed) == []


def test_look_ahead_of_spread_validation_finds_nothing(table: CandleTable, dataset: Dataset) -> None:
    spread = split_spread(dataset.labelled.sum(axis=0), Fractions(), HORIZON)
    assert failing(table, dataset, spread) == []


def test_look_ahead_finds_a_feature_that_holds_the_label_of_its_row(
    table: CandleTable, dataset: Dataset, split: Split
) -> None:
    features = dataset.features.copy()
    features[..., 4] += 0.001 * dataset.y_range
    assert failing(table, replace(dataset, features=features), split) == ["features_end_at_the_close"]


def test_look_ahead_finds_a_step_that_serves_the_future(
    table: CandleTable, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peeking(close_time_ms: Any, timeframe_ms: int, ohlcv: Any, features: Any) -> Any:
        features, volatility, warm = grid_features(close_time_ms, timeframe_ms, ohlcv, features)
        close = ohlcv[3]
        features[:, :-1, 0] += np.nan_to_num(np.log(close[:, 1:] / close[:, :-1]))
        return features, volatility, warm

    monkeypatch.setattr(training.dataset, "grid_features", peeking)
    assert failing(table, build_dataset(table, LOOKBACK, HORIZON), split) == ["features_end_at_the_close"]


def test_look_ahead_finds_a_feature_scaled_by_the_whole_history(
    table: CandleTable, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scaled(close_time_ms: Any, timeframe_ms: int, ohlcv: Any, features: Any) -> Any:
        features, volatility, warm = grid_features(close_time_ms, timeframe_ms, ohlcv, features)
        features /= features.std(axis=(0, 1))
        return features, volatility, warm

    monkeypatch.setattr(training.dataset, "grid_features", scaled)
    assert failing(table, build_dataset(table, LOOKBACK, HORIZON), split) == ["features_end_at_the_close"]


@pytest.mark.parametrize(("shift", "name"), [(1, "begins too early"), (-1, "ends too late")])
def test_look_ahead_finds_a_label_of_other_bars(
    table: CandleTable, split: Split, shift: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(*arguments: Any) -> Any:
        return tuple(np.roll(array, shift, axis=1) for array in labels(*arguments))

    monkeypatch.setattr(training.dataset, "labels", shifted)
    assert "labels_begin_at_the_close" in failing(table, build_dataset(table, LOOKBACK, HORIZON), split), name


def test_look_ahead_of_a_dataset_of_other_candles_raises(table: CandleTable, dataset: Dataset, split: Split) -> None:
    with pytest.raises(ValueError, match="built from another table"):
        look_ahead(table.until(int(table.close_time_ms[-2])), dataset, split, 0)


def test_same_features_hold_for_the_first_and_the_last_close(table: CandleTable, dataset: Dataset) -> None:
    closes = np.flatnonzero(dataset.labelled.any(axis=0))[[0, -1]].tolist()
    assert all(same_features(dataset, rebuilt(table, dataset, close, None), close) for close in closes)


def test_spans_keep_apart_asks_for_more_than_a_horizon(dataset: Dataset, split: Split) -> None:
    assert spans_keep_apart(dataset, split)
    for missing in range(1, HORIZON + 1):
        unpurged = split._replace(train=Span(split.train.first, split.train.stop + missing))
        assert not spans_keep_apart(dataset, unpurged)
    assert not spans_keep_apart(dataset, split._replace(train=Span(split.train.first, split.test.stop)))
    assert not spans_keep_apart(dataset, split._replace(validation=split.test))


def test_repeated_share_counts_candles_read_twice(table: CandleTable, dataset: Dataset, split: Split) -> None:
    assert repeated_share(dataset, split) == 0
    ohlcv = table.ohlcv.copy()
    ohlcv[:, 0, split.test.first :] = ohlcv[:, 1, split.train.first :][:, : ohlcv.shape[2] - split.test.first]
    doubled = replace(table, ohlcv=ohlcv)
    again = build_dataset(doubled, LOOKBACK, HORIZON)
    assert repeated_share(again, split) == pytest.approx(1 / 3, abs=0.05)
    assert failing(doubled, again, split) == ["test_candles_are_new"]


def test_repeated_share_leaves_out_candles_that_stand_still(dataset: Dataset, split: Split) -> None:
    still = np.ones_like(dataset.ohlcv)
    assert repeated_share(replace(dataset, ohlcv=still), split) == 0
