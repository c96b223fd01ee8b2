from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.bundle import Bundle, unpack
from models.distribution import gaussian_crps, student_t_crps
from models.spec import Network
from tests.models.make_bundle import make_bundle
from tests.training.make_candles import SYMBOLS, make_table
from training.assemble import assemble
from training.dataset import Dataset, build_dataset
from training.evaluate import block_bars, evaluate, forecast_rows
from training.split import Fractions, Span, split_time
from training.train import Recipe, fit_network

SPAN = Span(1_600, 2_390)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(make_table(), 16, 3)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return unpack(make_bundle(lookback=16, symbols=SYMBOLS))


def test_evaluate_ratios_are_sums_of_the_bundles_own_forecasts(dataset: Dataset, bundle: Bundle) -> None:
    figures = evaluate(bundle, dataset, SPAN)
    rows = dataset.rows(*SPAN)
    forecast, baselines = forecast_rows(bundle, dataset, rows), bundle.spec.baselines
    y_range, y_return = dataset.y_range[rows], dataset.y_return[rows]
    own = gaussian_crps(y_range, forecast.range_location, forecast.range_scale).sum()
    vol60 = gaussian_crps(y_range, baselines.vol60_mean, baselines.vol60_sd).sum()
    assert figures["range"]["crps_vs_vol60"]["value"] == pytest.approx(own / vol60)
    own = student_t_crps(y_return, forecast.location, forecast.scale, bundle.spec.distribution.dof).sum()
    zero = student_t_crps(y_return, 0.0, baselines.return_scale, baselines.return_dof).sum()
    assert figures["return"]["crps_vs_baseline"]["value"] == pytest.approx(own / zero)
    inside = np.abs(y_range - forecast.range_location) <= 1.2815516 * forecast.range_scale
    assert figures["range"]["coverage80"]["value"] == pytest.approx(inside.mean())
    right = (forecast.probability_up > 0.5) == (y_return > 0)
    assert figures["direction"]["accuracy"]["value"] == pytest.approx(right[y_return != 0].mean())


def test_evaluate_every_figure_has_an_interval_around_it(dataset: Dataset, bundle: Bundle) -> None:
    for section in evaluate(bundle, dataset, SPAN).values():
        for figure in section.values():
            assert figure["value"] is not None
            assert figure["low"] is not None
            assert figure["high"] is not None
            assert figure["low"] <= figure["value"] <= figure["high"]


def test_evaluate_returns_of_exactly_zero_do_not_count_for_the_direction(dataset: Dataset, bundle: Bundle) -> None:
    moved = np.random.default_rng(0).random(dataset.y_return.shape) < 0.5
    ties = replace(dataset, y_return=np.where(moved, dataset.y_return, 0.0))
    rows = dataset.rows(*SPAN)
    right = (forecast_rows(bundle, dataset, rows).probability_up > 0.5) == (dataset.y_return[rows] > 0)
    found = evaluate(bundle, ties, SPAN)["direction"]["accuracy"]["value"]
    assert found == pytest.approx(right[moved[rows]].mean())


def test_evaluate_of_labels_moved_by_a_day_finds_no_skill() -> None:
    # Each symbol's labels are rolled by another 2,000 bars or more, so that features cannot know them: a skill that is
    # found all the same would be a leak. On the labels as they are, the same training finds some.
    dataset = build_dataset(make_table(bars=9_000), 16, 3)
    y_range, y_return = dataset.y_range.copy(), dataset.y_return.copy()
    for symbol in range(3):
        live = slice(1_600, 8_990)
        y_range[symbol, live] = np.roll(y_range[symbol, live], 2_000 + 700 * symbol)
        y_return[symbol, live] = np.roll(y_return[symbol, live], 2_000 + 700 * symbol)
    rolled = replace(dataset, y_range=y_range, y_return=y_return)
    ratios: list[float] = []
    for data in (dataset, rolled):
        split = split_time(data.labelled.sum(axis=0), Fractions(), 3)
        recipe = Recipe(Network(kind="lstm", hidden=16, layers=1), 12, 0)
        bundle = unpack(assemble(data, split, recipe, fit_network(data, split, recipe), "test"))
        ratios.append(evaluate(bundle, data, split.test)["range"]["crps_vs_vol60"]["value"] or 0.0)
    assert 0 < ratios[0] < 0.9
    assert ratios[1] > 0.98


@pytest.mark.parametrize(
    ("timeframe_ms", "horizon", "bars"), [(60_000, 3, 120), (300_000, 3, 24), (60_000, 60, 240), (86_400_000, 1, 4)]
)
def test_block_bars_are_two_hours_or_four_horizons(timeframe_ms: int, horizon: int, bars: int) -> None:
    assert block_bars(timeframe_ms, horizon) == bars
