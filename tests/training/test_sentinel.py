from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

import training.chunks
import training.evaluate
from models.candle_table import CandleTable
from models.spec import Network
from tests.training.make_candles import make_table
from training import sentinel as module
from training.assemble import assemble
from training.bootstrap import Figure
from training.dataset import Dataset, build_dataset
from training.evaluate import forecast_rows
from training.sentinel import (
    LEAKS,
    LEAST_STEP_RATIO,
    Sentinel,
    least_ratio,
    quick_recipe,
    quick_share,
    run_sentinel,
    shows_skill,
)
from training.split import Fractions, Span, Split, split_time
from training.train import Recipe, fit_network

LOOKBACK, HORIZON = 8, 3
RECIPE = Recipe(Network(kind="lstm", hidden=8, layers=1), 2, 0)


@pytest.fixture(scope="module", autouse=True)
def few_batches() -> Iterator[None]:
    """An epoch of a few seconds less; only what must learn something has more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.chunks, "LEAST_BATCHES", 4)
        yield


@pytest.fixture(scope="module")
def table() -> CandleTable:
    return make_table(bars=7_000)


@pytest.fixture(scope="module")
def dataset(table: CandleTable) -> Dataset:
    return build_dataset(table, LOOKBACK, HORIZON)


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return split_time(dataset.labelled.sum(axis=0), Fractions(0.7, 0.1, 0.2), HORIZON)


@pytest.fixture(scope="module")
def clean(table: CandleTable, dataset: Dataset, split: Split) -> Sentinel:
    return run_sentinel(table, dataset, split, RECIPE)


def failing(found: Sentinel) -> list[str]:
    assert found.passed == all(found.checks.values())
    return [name for name, holds in found.checks.items() if not holds]


def test_sentinel_of_clean_candles_passes_and_says_so(clean: Sentinel) -> None:
    assert failing(clean) == []
    assert set(clean.checks) == set(LEAKS)
    for figure in (clean.ratio, clean.return_ratio, clean.wave_ratio, clean.step_ratio):
        assert figure["value"] == pytest.approx(1.0, abs=0.03)
    assert "show no skill, and no row knows its future" in clean.sentence
    assert msgspec.json.decode(msgspec.json.encode(clean.plain()))["passed"] is True


def test_sentinel_of_other_clean_candles_passes_too() -> None:
    table = make_table(bars=6_000, seed=1)
    dataset = build_dataset(table, LOOKBACK, HORIZON)
    split = split_time(dataset.labelled.sum(axis=0), Fractions(0.6, 0.15, 0.25), HORIZON)
    assert failing(run_sentinel(table, dataset, split, replace(RECIPE, seed=1))) == []


def test_sentinel_twice_finds_the_same(table: CandleTable, dataset: Dataset, split: Split, clean: Sentinel) -> None:
    again = run_sentinel(table, dataset, split, RECIPE)
    assert replace(again, seconds=clean.seconds) == clean


def test_sentinel_finds_a_training_that_includes_test_rows(
    table: CandleTable, dataset: Dataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaking(dataset: Dataset, split: Split, recipe: Recipe) -> Any:
        return fit_network(dataset, split._replace(train=Span(split.train.first, split.test.stop)), recipe)

    monkeypatch.setattr(module, "fit_network", leaking)
    monkeypatch.setattr(training.chunks, "LEAST_BATCHES", 96)  # as many as a longer history has
    found = run_sentinel(table, dataset, split, RECIPE)
    assert "marks_are_unknown" in failing(found)
    assert "features_are_scaled_by_training_rows" in failing(found)
    assert found.sentence.startswith("Leakage: ")
    assert "look for test rows in training or calibration" in found.sentence


def test_sentinel_finds_a_calibration_on_test_rows(
    table: CandleTable, dataset: Dataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaking(dataset: Dataset, split: Split, *rest: Any) -> bytes:
        return assemble(dataset, split._replace(validation=split.test), *rest)

    monkeypatch.setattr(module, "assemble", leaking)
    assert failing(run_sentinel(table, dataset, split, RECIPE)) == ["marks_are_unknown"]


def test_sentinel_finds_labels_that_reach_a_forecast(
    table: CandleTable, dataset: Dataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaking(bundle: Any, dataset: Dataset, rows: Any) -> Any:
        forecast = forecast_rows(bundle, dataset, rows)
        return forecast._replace(
            location=forecast.location + 0.2 * dataset.y_return[rows],
            range_location=forecast.range_location + 0.2 * dataset.y_range[rows],
        )

    monkeypatch.setattr(training.evaluate, "forecast_rows", leaking)
    found = failing(run_sentinel(table, dataset, split, RECIPE))
    assert found == ["rolled_range_has_no_skill", "rolled_return_has_no_skill"]


def test_sentinel_of_a_short_history_says_what_it_could_not_judge() -> None:
    table = make_table(bars=2_400)
    dataset = build_dataset(table, LOOKBACK, HORIZON)
    found = run_sentinel(table, dataset, split_time(dataset.labelled.sum(axis=0), Fractions(), HORIZON), RECIPE)
    assert found.passed
    assert "too short to judge by these ratios" in found.sentence
    assert "Too short for that roll: AAA/USDT, BBB/USDT, CCC/USDT" in found.sentence
    assert set(found.short) == set(table.symbols)


@pytest.mark.parametrize(
    ("value", "high", "skill"), [(0.98, 0.995, True), (0.98, 1.0, False), (0.995, 0.997, False), (0.9, None, False)]
)
def test_shows_skill_asks_for_the_ratio_and_its_bound(value: float, high: float | None, skill: bool) -> None:
    assert shows_skill(Figure(value=value, low=None, high=high), 0.99) is skill


@pytest.mark.parametrize(
    ("rows", "value", "skill"),
    [(2_100, 0.976, False), (3_000, 0.986, False), (3_000, 0.95, True), (22_500, 0.991, False), (22_500, 0.989, True)],
)
def test_least_ratio_of_few_rows_leaves_room_for_chance(rows: int, value: float, skill: bool) -> None:
    """The first two are of clean real candles, and were called leaks."""
    figure = Figure(value=value, low=value - 0.011, high=value + 0.0105)
    assert shows_skill(figure, least_ratio(rows)) is skill


@pytest.mark.parametrize(("value", "leak"), [(0.957, False), (0.968, False), (0.878, True), (0.836, True)])
def test_step_of_a_calibration_by_chance_is_no_leak_and_half_a_leak_is_one(value: float, leak: bool) -> None:
    assert shows_skill(Figure(value=value, low=value - 0.014, high=value + 0.013), LEAST_STEP_RATIO) is leak


def test_quick_training_passes_over_a_tenth_of_the_labels_of_the_shortest() -> None:
    large = Recipe(Network(kind="gru", hidden=64, layers=3, members=4), 30, 7)
    quick = quick_recipe(large)
    assert quick == Recipe(Network(kind="gru", hidden=16, layers=1), 1, 7)
    assert quick_share(1_000_000, 30) * quick.epochs == pytest.approx(0.1 * 9)
    assert quick_share(1_000_000, 1) == pytest.approx(0.1)
    assert quick_share(10_000, 30) == 1.0
