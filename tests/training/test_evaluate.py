from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scoringrules

from models.bundle import Bundle, unpack
from models.distribution import gaussian_crps, student_t_crps
from tests.models.make_bundle import make_bundle
from tests.training.make_candles import SYMBOLS, make_table
from training.baselines import Normal
from training.dataset import Dataset, build_dataset
from training.evaluate import PARTS, POOLED, Rival, block_bars, evaluate, forecast_rows
from training.split import Span

SPAN = Span(1_600, 2_390)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(make_table(), 16, 3)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return unpack(make_bundle(lookback=16, hidden=8, symbols=SYMBOLS))


@pytest.fixture(scope="module")
def found(dataset: Dataset, bundle: Bundle) -> dict[str, Any]:
    return evaluate(bundle, dataset, SPAN)


def test_evaluate_ratios_are_sums_of_the_bundles_own_forecasts(
    dataset: Dataset, bundle: Bundle, found: dict[str, Any]
) -> None:
    rows = dataset.rows(*SPAN)
    forecast, baselines = forecast_rows(bundle, dataset, rows), bundle.spec.baselines
    y_range, y_return = dataset.y_range[rows], dataset.y_return[rows]
    own = gaussian_crps(y_range, forecast.range_location, forecast.range_scale).sum()
    vol60 = gaussian_crps(y_range, baselines.vol60_mean, baselines.vol60_sd).sum()
    assert found["range"]["crps_vs_vol60"]["value"] == pytest.approx(own / vol60)
    own = student_t_crps(y_return, forecast.location, forecast.scale, bundle.spec.distribution.dof).sum()
    zero = student_t_crps(y_return, 0.0, baselines.return_scale, baselines.return_dof).sum()
    assert found["return"]["crps_vs_baseline"]["value"] == pytest.approx(own / zero)
    inside = np.abs(y_range - forecast.range_location) <= 1.2815516 * forecast.range_scale
    assert found["range"]["coverage80"]["value"] == pytest.approx(inside.mean())
    right = (forecast.probability_up > 0.5) == (y_return > 0)
    assert found["direction"]["accuracy"]["value"] == pytest.approx(right[y_return != 0].mean())


def test_evaluate_scores_are_those_of_scoringrules(dataset: Dataset, bundle: Bundle, found: dict[str, Any]) -> None:
    rows, spec = dataset.rows(*SPAN), bundle.spec
    forecast, y_range, y_return = forecast_rows(bundle, dataset, rows), dataset.y_range[rows], dataset.y_return[rows]
    own, har = (forecast.range_location, forecast.range_scale), (forecast.har_location, forecast.har_scale)
    crps = [scoringrules.crps_normal(y_range, *normal).sum() for normal in (own, har)]
    assert found["range"]["crps_vs_har"]["value"] == pytest.approx(crps[0] / crps[1])
    nats = [scoringrules.logs_normal(y_range, *normal).mean() for normal in (own, har)]
    assert found["range"]["log_score_vs_har"]["value"] == pytest.approx(nats[0] - nats[1])
    own_t = spec.distribution.dof, forecast.location, forecast.scale
    zero_t = spec.baselines.return_dof, 0.0, forecast.ewma_scale
    crps = [scoringrules.crps_t(y_return, *t).sum() for t in (own_t, zero_t)]
    assert found["return"]["crps_vs_baseline"]["value"] == pytest.approx(crps[0] / crps[1])
    nats = [scoringrules.logs_t(y_return, *t).mean() for t in (own_t, zero_t)]
    assert found["return"]["log_score_vs_baseline"]["value"] == pytest.approx(nats[0] - nats[1])


def test_evaluate_errors_are_of_the_middle_of_forecasts_and_of_prices(
    dataset: Dataset, bundle: Bundle, found: dict[str, Any]
) -> None:
    symbol, slot = rows = dataset.rows(*SPAN)
    forecast, y_range, y_return = forecast_rows(bundle, dataset, rows), dataset.y_range[rows], dataset.y_return[rows]
    own, har = np.abs(y_range - forecast.range_location), np.abs(y_range - forecast.har_location)
    assert found["range"]["mae_vs_har"]["value"] == pytest.approx(own.sum() / har.sum())
    assert found["range"]["rmse_vs_har"]["value"] == pytest.approx(np.linalg.norm(own) / np.linalg.norm(har))
    own = y_return - forecast.location
    assert found["return"]["rmse_vs_zero"]["value"] == pytest.approx(np.linalg.norm(own) / np.linalg.norm(y_return))
    close, target = dataset.ohlcv[3, symbol, slot], dataset.ohlcv[3, symbol, slot + 3]
    expected = close * np.exp(forecast.expected_return_bps / 1e4)
    ratio = np.abs((target - expected) / close).sum() / np.abs((target - close) / close).sum()
    assert found["price"]["mae_vs_last"]["value"] == pytest.approx(ratio)


def test_evaluate_of_dearer_coins_gives_the_same_figures(bundle: Bundle, found: dict[str, Any]) -> None:
    table = make_table()
    ohlcv = table.ohlcv.copy()
    ohlcv[:4, 0] *= 1_000
    dear = evaluate(bundle, build_dataset(replace(table, ohlcv=ohlcv), 16, 3), SPAN, parts=POOLED)
    for section in POOLED:
        for name, figure in dear[section].items():
            assert figure["value"] == pytest.approx(found[section][name]["value"], abs=1e-3), name


def test_evaluate_every_figure_has_an_interval_around_it(found: dict[str, Any]) -> None:
    for section in POOLED:
        for figure in found[section].values():
            assert figure["low"] <= figure["value"] <= figure["high"]


def test_evaluate_makes_only_the_parts_asked_for(dataset: Dataset, bundle: Bundle, found: dict[str, Any]) -> None:
    assert set(found) == set(PARTS)
    assert evaluate(bundle, dataset, SPAN, parts=("direction",)) == {"direction": found["direction"]}
    json.dumps(found, allow_nan=False)


def test_evaluate_returns_of_exactly_zero_do_not_count_for_the_direction(dataset: Dataset, bundle: Bundle) -> None:
    moved = np.random.default_rng(0).random(dataset.y_return.shape) < 0.5
    ties = replace(dataset, y_return=np.where(moved, dataset.y_return, 0.0))
    rows = dataset.rows(*SPAN)
    right = (forecast_rows(bundle, dataset, rows).probability_up > 0.5) == (dataset.y_return[rows] > 0)
    report = evaluate(bundle, ties, SPAN, parts=("direction", "reliability"))
    assert report["direction"]["accuracy"]["value"] == pytest.approx(right[moved[rows]].mean())
    assert sum(each["rows"] for each in report["reliability"]) == moved[rows].sum()


def test_evaluate_against_rivals_adds_their_ratios(dataset: Dataset, bundle: Bundle, found: dict[str, Any]) -> None:
    rows = dataset.rows(*SPAN)
    forecast = forecast_rows(bundle, dataset, rows)
    n = len(rows[0])
    rivals = {
        "twin": Rival(Normal(forecast.range_location, forecast.range_scale), forecast.probability_up),
        "climate": Rival(probability_up=np.full(n, bundle.spec.baselines.up_rate)),
    }
    report = evaluate(bundle, dataset, SPAN, parts=("range", "direction"), rivals=rivals)
    assert report["range"]["crps_vs_twin"] == report["direction"]["brier_vs_twin"]
    assert report["range"]["crps_vs_twin"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert report["direction"]["brier_vs_climate"] == found["direction"]["brier_vs_climatology"]
    assert "crps_vs_climate" not in report["range"]


def test_evaluate_of_a_span_with_holes_leaves_them_out(dataset: Dataset, bundle: Bundle) -> None:
    parts = evaluate(bundle, dataset, Span(1_600, 2_390, every=100, begin=0, width=40), parts=("by_symbol",))
    assert {cell["rows"] for cell in parts["by_symbol"].values()} == {40 * 8}  # whole blocks, the newest first


def test_evaluate_by_symbol_and_by_hour_share_out_all_rows(
    dataset: Dataset, bundle: Bundle, found: dict[str, Any]
) -> None:
    rows = dataset.rows(*SPAN)
    assert list(found["by_symbol"]) == list(SYMBOLS)
    assert sum(cell["rows"] for cell in found["by_symbol"].values()) == len(rows[0])
    alone = replace(dataset, labelled=dataset.labelled & (np.arange(3) == 1)[:, None])
    single, cell = evaluate(bundle, alone, SPAN, parts=POOLED), found["by_symbol"][SYMBOLS[1]]
    for section, names in {
        "range": ("crps_vs_har", "crps_vs_range_ewma", "coverage80"),
        "return": ("crps_vs_baseline", "coverage80"),
        "direction": ("auc",),
    }.items():
        assert cell[section] == {name: single[section][name] for name in names}
    hours = np.bincount(dataset.close_time_ms[rows[1]] // 3_600_000 % 24, minlength=24)
    assert [cell["hour"] for cell in found["by_hour"]] == list(range(24))
    assert [cell["rows"] for cell in found["by_hour"]] == hours.tolist()
    empty = found["by_hour"][int(np.argmin(hours))]
    assert empty["rows"] == 0
    assert empty["range"]["crps_vs_har"]["value"] is None


def test_evaluate_by_volatility_makes_equal_thirds(found: dict[str, Any]) -> None:
    regimes = found["by_volatility"]
    assert [cell["regime"] for cell in regimes] == ["low", "middle", "high"]
    assert all(abs(cell["rows"] - 790) <= 1 for cell in regimes)
    assert all(set(cell) == {"regime", "rows", "range", "return"} for cell in regimes)


def test_evaluate_by_sample_parts_rows_at_the_end_of_training(dataset: Dataset) -> None:
    until_ms = int(dataset.close_time_ms[2_000])
    bundle = unpack(make_bundle(lookback=16, hidden=8, symbols=SYMBOLS, trained_until_ms=until_ms))
    samples = evaluate(bundle, dataset, SPAN, parts=("by_sample",))["by_sample"]
    assert [(cell["sample"], cell["rows"]) for cell in samples] == [("in-sample", 1_203), ("after training", 1_167)]


@pytest.mark.parametrize(
    ("timeframe_ms", "horizon", "bars"), [(60_000, 3, 120), (300_000, 3, 24), (60_000, 60, 240), (86_400_000, 1, 4)]
)
def test_block_bars_are_two_hours_or_four_horizons(timeframe_ms: int, horizon: int, bars: int) -> None:
    assert block_bars(timeframe_ms, horizon) == bars
