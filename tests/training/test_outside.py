from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.bundle import Bundle, pack, unpack, with_golden
from models.errors import CandlewickError
from models.features import CATALOGUE
from tests.models.make_bundle import make_bundle
from tests.training.make_candles import SYMBOLS, make_table
from training.dataset import Dataset, build_dataset
from training.outside import check_timeframe, feature_shifts, first_unseen_slot, in_words

FEATURES = ("range", "log_volume", "volatility_10")
COLUMNS = [CATALOGUE.index(name) for name in FEATURES]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(make_table(1_800), 8, 3)


def bundle_of(dataset: Dataset, symbols: tuple[str, ...] = SYMBOLS, until_ms: int = 0) -> Bundle:
    """A bundle that holds the mean and deviation of this dataset's features."""
    blob = make_bundle(
        lookback=8, hidden=4, symbols=symbols, features=FEATURES, trained_until_ms=until_ms, timeframe_ms=60_000
    )
    made, seen = unpack(blob), dataset.features[dataset.rows(0, 1_800)][:, COLUMNS]
    weights = {name: array.copy() for name, array in made.tensors.items() if not name.startswith("golden.")}
    weights |= {"feature_mean": seen.mean(axis=0), "feature_sd": seen.std(axis=0)}
    return unpack(pack(made.spec, with_golden(made.spec, weights)))


def test_check_timeframe_of_other_candles_names_both_and_the_mend(dataset: Dataset) -> None:
    spec = bundle_of(dataset).spec
    check_timeframe(spec, 60_000)
    with pytest.raises(CandlewickError, match=r"candles are 5m, the bundle forecasts 1m: give it candles of 1m, or"):
        check_timeframe(spec, 300_000)


def test_in_words_of_familiar_candles_says_nothing(dataset: Dataset) -> None:
    assert in_words(bundle_of(dataset), dataset, dataset.rows(0, 1_800)) == []
    assert in_words(bundle_of(dataset, SYMBOLS[:1]), dataset, dataset.rows(0, 10)) == []


def test_in_words_counts_rows_of_symbols_that_did_not_train(dataset: Dataset) -> None:
    rows = dataset.rows(0, 1_800)
    (sentence,) = in_words(bundle_of(dataset, SYMBOLS[:1]), dataset, rows)
    assert sentence.startswith("symbols: BBB/USDT, CCC/USDT did not train the bundle")
    assert f"{len(rows[0]) * 2 // 3:,} of {len(rows[0]):,} rows" in sentence


def test_in_words_counts_rows_that_may_be_in_sample(dataset: Dataset) -> None:
    bundle = bundle_of(dataset, until_ms=int(dataset.close_time_ms[1_599]))
    assert first_unseen_slot(bundle.spec, dataset) == 1_600
    (sentence,) = in_words(bundle, dataset, dataset.rows(1_590, 1_700))
    assert sentence.startswith("time: 30 of 330 rows close no later than the bundle's training ended (2023-11-1")
    assert in_words(bundle, dataset, dataset.rows(1_600, 1_700)) == []


def test_first_unseen_slot_lies_at_the_ends_for_foreign_times(dataset: Dataset) -> None:
    assert first_unseen_slot(bundle_of(dataset).spec, dataset) == 0
    assert first_unseen_slot(bundle_of(dataset, until_ms=2**50).spec, dataset) == 1_800


def test_in_words_names_features_that_moved_and_that_are_cut(dataset: Dataset) -> None:
    bundle, strange = bundle_of(dataset), dataset.features.copy()
    sd = bundle.tensors["feature_sd"]
    strange[..., COLUMNS[1]] += 2 * sd[1]
    strange[:, ::5, COLUMNS[0]] += 40 * sd[0]
    sentences = in_words(bundle, replace(dataset, features=strange), dataset.rows(0, 1_800))
    assert len(sentences) == 2
    assert "where the network cuts them: range in 20." in sentences[0]
    assert sentences[1].startswith("features: their mean has moved, in standard deviations of training: ")
    assert "log_volume by +2.00" in sentences[1]
    assert "volatility_10" not in "".join(sentences)


def test_in_words_names_at_most_five_features() -> None:
    dataset = build_dataset(make_table(1_800), 8, 3)
    bundle = unpack(make_bundle(lookback=8, hidden=4, symbols=SYMBOLS))
    far = replace(dataset, features=(dataset.features + 100).astype(np.float32))
    sentences = in_words(bundle, far, dataset.rows(0, 1_800))
    assert len(sentences) == 2
    assert all("and 18 more" in sentence for sentence in sentences)


def test_feature_shifts_are_in_deviations_of_training(dataset: Dataset) -> None:
    rows = dataset.rows(0, 1_800)
    shifts = feature_shifts(bundle_of(dataset), dataset, rows)
    assert [shift.feature for shift in shifts] == list(FEATURES)
    assert [shift.mean for shift in shifts] == pytest.approx([0, 0, 0], abs=1e-3)
    z = dataset.features[rows][:, COLUMNS[0]]
    assert shifts[0].beyond == pytest.approx((np.abs(z - z.mean()) > 6 * z.std()).mean(), abs=1e-3)
