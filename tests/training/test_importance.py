from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.bundle import Bundle, pack, unpack, with_golden
from models.distribution import gaussian_crps
from models.features import CATALOGUE
from models.forecast import Interpreter
from models.predictor import WindowedPredictor
from tests.models.make_bundle import make_bundle
from tests.training.make_candles import SYMBOLS, make_table
from training.dataset import Dataset, build_dataset
from training.evaluate import forecast_rows
from training.importance import permutation_importance
from training.split import Span

FEATURES = ("range", "body", "volatility_10", "hour_sin")
SPAN = Span(1_510, 2_290)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Random weights that hear nothing of `body`, and are very sure of the range: what they lean on is known."""
    made = unpack(make_bundle(lookback=8, hidden=4, symbols=SYMBOLS, features=FEATURES))
    weights = {name: array.copy() for name, array in made.tensors.items() if not name.startswith("golden.")}
    weights["lstm.weight_ih_l0"][:, FEATURES.index("body")] = 0
    weights["head.bias"][3] = -4  # log scale of the range
    return unpack(pack(made.spec, with_golden(made.spec, weights)))


@pytest.fixture(scope="module")
def dataset(bundle: Bundle) -> Dataset:
    """A market whose range comes true as this very bundle foretells it, so that any shuffling can only harm."""
    dataset = build_dataset(make_table(2_300), 8, 3)
    rows = dataset.rows(*SPAN)
    forecast, y_range = forecast_rows(bundle, dataset, rows), dataset.y_range.copy()
    noise = np.random.default_rng(0).standard_normal(len(rows[0]))
    y_range[rows] = forecast.range_location + forecast.range_scale * noise
    return replace(dataset, y_range=y_range)


def test_permutation_importance_of_a_feature_nobody_hears_is_exactly_one(bundle: Bundle, dataset: Dataset) -> None:
    found = {entry["feature"]: entry["ratio"] for entry in permutation_importance(bundle, dataset, SPAN)}
    assert set(found) == set(FEATURES)
    assert found["body"] == pytest.approx({"value": 1.0, "low": 1.0, "high": 1.0}, abs=1e-6)
    assert all(found[name]["low"] > 1.01 for name in ("range", "volatility_10"))


def test_permutation_importance_names_the_most_important_first(bundle: Bundle, dataset: Dataset) -> None:
    values = [entry["ratio"]["value"] for entry in permutation_importance(bundle, dataset, SPAN, most_rows=300)]
    assert values == sorted(values, reverse=True)


def test_permutation_importance_of_few_rows_repeats_itself(bundle: Bundle, dataset: Dataset) -> None:
    first, again = (permutation_importance(bundle, dataset, SPAN, most_rows=200) for _ in range(2))
    assert first == again
    assert first != permutation_importance(bundle, dataset, SPAN, most_rows=200, seed=1)


def test_permutation_importance_shuffles_whole_windows_within_a_symbol(bundle: Bundle, dataset: Dataset) -> None:
    # By hand, on all rows of the span and one feature.
    rows = dataset.rows(*SPAN)
    symbol = rows[0]
    rng, other = np.random.default_rng(5), np.arange(len(symbol))
    for number in range(3):
        own = np.flatnonzero(symbol == number)
        other[own] = rng.permutation(own)
    feature = FEATURES.index("range")
    columns = [CATALOGUE.index(name) for name in FEATURES]
    windows = np.concatenate(list(dataset.windows(rows)))[..., columns].copy()
    windows[..., feature] = windows[other][..., feature]
    raw = WindowedPredictor(bundle, "cpu").predict(windows)
    shuffled = Interpreter(bundle.spec).interpret(
        raw, dataset.ohlcv[3][rows], dataset.volatility[rows], dataset.features[rows]
    )
    plain, y = forecast_rows(bundle, dataset, rows), dataset.y_range[rows]
    ratio = (
        gaussian_crps(y, shuffled.range_location, shuffled.range_scale).sum()
        / gaussian_crps(y, plain.range_location, plain.range_scale).sum()
    )
    found = {entry["feature"]: entry for entry in permutation_importance(bundle, dataset, SPAN, seed=5)}
    assert found["range"]["ratio"]["value"] == pytest.approx(ratio, rel=1e-4)


def test_permutation_importance_without_rows_is_empty(bundle: Bundle, dataset: Dataset) -> None:
    assert permutation_importance(bundle, dataset, Span(0, 100)) == []
