from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from models.features import CATALOGUE
from tests.training.make_candles import make_table
from training.dataset import Dataset, Rows, build_dataset
from training.logistic import Logistic, fit_logistic


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Features drawn independently, so that each coefficient is a matter of its own."""
    made = build_dataset(make_table(bars=5_000), 16, 3)
    drawn = np.random.default_rng(0).normal(1.0, 2.0, made.features.shape)
    return replace(made, features=drawn.astype(np.float32))


@pytest.fixture(scope="module")
def rows(dataset: Dataset) -> Rows:
    return dataset.rows(0, 5_000)


def planted(dataset: Dataset, slopes: dict[str, float], intercept: float) -> Dataset:
    """The dataset, but up and down follow a line of log odds; each tenth return is a tie."""
    rng = np.random.default_rng(1)
    odds = np.full(dataset.y_return.shape, intercept)
    for name, slope in slopes.items():
        odds += slope * dataset.features[..., CATALOGUE.index(name)]
    y = np.where(rng.random(odds.shape) < expit(odds), 1.0, -1.0)
    return replace(dataset, y_return=np.where(rng.random(odds.shape) < 0.1, 0.0, y))


def test_fit_logistic_finds_planted_coefficients(dataset: Dataset, rows: Rows) -> None:
    dataset = planted(dataset, {"rsi_14": 0.4, "body": -0.25}, -0.3)
    found = fit_logistic(dataset, rows)
    slopes = dict(zip(CATALOGUE, found.slopes / found.sd, strict=True))
    assert slopes.pop("rsi_14") == pytest.approx(0.4, abs=0.05)
    assert slopes.pop("body") == pytest.approx(-0.25, abs=0.05)
    assert max(map(abs, slopes.values())) < 0.05
    x = dataset.features[rows].astype(float)
    truth = expit(-0.3 + 0.4 * x[:, CATALOGUE.index("rsi_14")] - 0.25 * x[:, CATALOGUE.index("body")])
    assert np.abs(found.probability_up(dataset, rows) - truth).mean() < 0.02


def test_fit_logistic_equals_a_plain_search_for_the_penalised_likelihood(dataset: Dataset, rows: Rows) -> None:
    dataset = planted(dataset, {"range": 0.3}, 0.1)
    moved = dataset.y_return[rows] != 0
    x, up = dataset.features[rows][moved].astype(float), dataset.y_return[rows][moved] > 0
    x = (x - x.mean(axis=0)) / x.std(axis=0)

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        odds = line[0] + x @ line[1:]
        wrong = expit(odds) - up
        total = np.logaddexp(0, np.where(up, -odds, odds)).sum() + 0.5 * (line[1:] ** 2).sum()
        return float(total), np.concatenate([[wrong.sum()], wrong @ x + line[1:]])

    searched = minimize(loss, np.zeros(1 + x.shape[1]), jac=True, method="BFGS")
    expected = expit(searched.x[0] + x @ searched.x[1:])
    found = fit_logistic(dataset, rows).probability_up(dataset, rows)[moved]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_fit_logistic_ignores_ties_and_later_rows(dataset: Dataset, rows: Rows) -> None:
    early = dataset.rows(0, 3_000)
    dataset = planted(dataset, {"range": 0.3}, 0.1)
    later = dataset.y_return.copy()
    later[:, 3_000:] *= -1
    features = dataset.features.copy()
    features[dataset.y_return == 0] = 1e6
    same(fit_logistic(dataset, early), fit_logistic(replace(dataset, y_return=later, features=features), early))


def same(one: Logistic, other: Logistic) -> None:
    for mine, its in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_fit_logistic_twice_gives_the_same_numbers(dataset: Dataset, rows: Rows) -> None:
    dataset = planted(dataset, {"range": 0.3}, 0.1)
    same(fit_logistic(dataset, rows), fit_logistic(dataset, rows))


@pytest.mark.parametrize(("sign", "low", "high"), [(1.0, 0.99, 1.0), (-1.0, 0.0, 0.01), (0.0, 0.5, 0.5)])
def test_fit_logistic_of_a_market_with_one_direction_says_so_but_is_not_certain(
    dataset: Dataset, rows: Rows, sign: float, low: float, high: float
) -> None:
    dataset = replace(dataset, y_return=np.full_like(dataset.y_return, sign))
    probability = fit_logistic(dataset, rows).probability_up(dataset, rows)
    assert ((probability > 0) & (probability < 1)).all()
    assert ((probability >= low) & (probability <= high)).all()
