from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.features import CATALOGUE
from tests.training.make_candles import make_table, with_gaps
from training.baselines import HAR_FEATURES, RANGE_SPANS, fit_baselines, range_forecasts, range_levels
from training.dataset import Dataset, build_dataset


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(make_table(bars=5_000), 16, 3)


def test_fit_baselines_har_finds_a_planted_line_in_mean_and_log_sd(dataset: Dataset) -> None:
    rows = dataset.rows(0, 5_000)
    x = dataset.features[..., [CATALOGUE.index(name) for name in HAR_FEATURES]].astype(float)
    rng = np.random.default_rng(0)
    mean, log_sd = rng.normal(size=len(HAR_FEATURES)), 0.1 * rng.normal(size=len(HAR_FEATURES))
    y = 0.3 + x @ mean + np.exp(-1 + x @ log_sd) * rng.normal(size=x.shape[:2])
    har = fit_baselines(replace(dataset, y_range=y), rows).har
    planted = x[rows] @ mean + 0.3
    fitted = har.mean[0] + x[rows] @ np.array(har.mean[1:])
    assert np.sqrt(((fitted - planted) ** 2).mean()) < 0.03
    spread = har.log_sd[0] + x[rows] @ np.array(har.log_sd[1:])
    assert np.sqrt(((spread - (x[rows] @ log_sd - 1)) ** 2).mean()) < 0.05


def test_fit_baselines_range_ewma_finds_the_span_that_made_the_label(dataset: Dataset) -> None:
    rows = dataset.rows(0, 5_000)
    level = range_levels(dataset, (20,))[0]
    y = 0.1 + 0.8 * level + 0.01 * np.random.default_rng(1).normal(size=level.shape)
    found = fit_baselines(replace(dataset, y_range=y), rows).range_ewma
    assert found.span_bars == 20
    assert (found.intercept, found.slope, found.sd) == pytest.approx((0.1, 0.8, 0.01), rel=0.05)


def test_fit_baselines_others_are_moments_of_the_labels(dataset: Dataset) -> None:
    rows = dataset.rows(0, 5_000)
    found = fit_baselines(dataset, rows)
    assert found.vol60_mean == pytest.approx(dataset.y_range[rows].mean())
    assert found.vol60_sd == pytest.approx(dataset.y_range[rows].std())
    moved = dataset.y_return[rows][dataset.y_return[rows] != 0]
    assert found.up_rate == pytest.approx((moved > 0).mean())
    spread = found.return_scale * np.sqrt(found.return_dof / (found.return_dof - 2))
    assert spread == pytest.approx(dataset.y_return[rows].std(), rel=0.1)


def test_fit_baselines_sees_only_its_rows(dataset: Dataset) -> None:
    rows = dataset.rows(0, 3_000)
    y_range, y_return = dataset.y_range.copy(), dataset.y_return.copy()
    y_range[:, 3_000:] = 9.0
    y_return[:, 3_000:] = 9.0
    assert fit_baselines(dataset, rows) == fit_baselines(replace(dataset, y_range=y_range, y_return=y_return), rows)


def test_fit_baselines_with_a_constant_feature_still_fits(dataset: Dataset) -> None:
    features = dataset.features.copy()
    features[..., CATALOGUE.index("hour_sin")] = 1.0  # of hourly bars
    found = fit_baselines(replace(dataset, features=features), dataset.rows(0, 5_000)).har
    assert np.isfinite([*found.mean, *found.log_sd]).all()
    assert max(map(abs, found.mean)) < 10


def test_range_levels_follow_the_definition_and_hold_over_absent_bars() -> None:
    table = with_gaps(make_table(), [(0, 2_000, 10)])
    dataset = build_dataset(table, 16, 3)
    _, high, low, close, _ = table.ohlcv[:, 0]
    average, expected = None, []
    for now in (high - low) / close:
        if np.isfinite(now):
            average = now if average is None else average + 2 / 11 * (now - average)
        expected.append(average)
    slots = np.flatnonzero(dataset.usable[0])
    wanted = np.log(np.array(expected)[slots] / dataset.volatility[0, slots])
    np.testing.assert_allclose(range_levels(dataset, (10,))[0, 0, slots], wanted, rtol=1e-12)
    assert slots.max() > 2_100


def test_range_forecasts_are_ordered_by_skill_where_volatility_clusters(dataset: Dataset) -> None:
    rows = dataset.rows(0, 5_000)
    baselines = fit_baselines(dataset, rows)
    forecasts = range_forecasts(dataset, rows, baselines)
    error = {name: float(((dataset.y_range[rows] - f.location) ** 2).mean()) for name, f in forecasts.items()}
    assert error["range_ewma"] < 0.95 * error["vol60"]
    assert baselines.range_ewma.span_bars in RANGE_SPANS
