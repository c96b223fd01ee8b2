from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.make_candles import make_table, with_gaps
from training.dataset import Dataset, build_dataset
from training.rolled import STEP, WAVE, least_roll, mark_labels, roll_labels, rolled_places, thin

LOOKBACK, HORIZON = 16, 3


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(with_gaps(make_table(bars=7_000), [(1, 3_000, 9), (2, 1_000, 4_000)]), LOOKBACK, HORIZON)


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 30_000), seed=st.integers(0, 2**32), wanted=st.integers(2_000, 3_200))
def test_rolled_places_lie_far_enough_either_way_and_inside(rows: int, seed: int, wanted: int) -> None:
    least = least_roll(rows, wanted)
    places = rolled_places(rows, least, np.random.default_rng(seed))
    assert len(places) == rows
    assert places.min() >= 0
    assert places.max() < rows
    distance = np.abs(places - np.arange(rows))
    assert np.minimum(distance, rows - distance).min() >= least
    assert least == wanted or (rows < 2.25 * wanted and least == int(rows * 3 / 8))


def test_roll_labels_gives_every_symbol_other_labels_of_its_own(dataset: Dataset) -> None:
    numbered = replace(dataset, y_range=np.broadcast_to(np.arange(7_000.0), dataset.labelled.shape))
    rolled, short = roll_labels(numbered, 3)
    again, _ = roll_labels(numbered, 3)
    np.testing.assert_array_equal(rolled.y_range, again.y_range)
    distances = []
    for symbol in range(3):
        slots = np.flatnonzero(dataset.labelled[symbol])
        y = rolled.y_range[symbol, slots]
        source = np.rint(y * (slots.max() - slots.min()) / np.ptp(y))  # but for a constant
        distances.append(set((source - slots).astype(int).tolist()))
        assert y.mean() == pytest.approx(0.0, abs=1e-9)
        assert y.std() == pytest.approx(1.0)
    assert min(map(len, distances[:2])) >= 10  # no one lag, which would keep the time of day
    assert not distances[0] & distances[1]
    assert short == {"CCC/USDT": int(dataset.labelled[2].sum() * 3 / 8)}


def test_roll_labels_changes_no_feature_and_no_mask(dataset: Dataset) -> None:
    rolled, _ = roll_labels(dataset, 0)
    assert rolled.features is dataset.features
    assert rolled.labelled is dataset.labelled
    assert (rolled.y_range[~dataset.labelled] == dataset.y_range[~dataset.labelled]).all()


def test_roll_labels_leaves_no_association_with_the_time_of_day() -> None:
    dataset = build_dataset(make_table(bars=12_000, symbols=("AAA/USDT",)), LOOKBACK, HORIZON)
    day = np.sin(2 * np.pi * np.arange(12_000) / 1_440)[None]
    known = replace(dataset, y_range=day + 0.1 * np.random.default_rng(0).normal(size=day.shape))
    at = dataset.labelled[0]
    found = []
    for seed in range(10):
        rolled, _ = roll_labels(known, seed)
        pair = [np.corrcoef(rolled.y_range[0, at], wave[at])[0, 1] for wave in (day[0], np.roll(day[0], 360))]
        found.append(np.hypot(*pair))  # whatever the phase: one roll by a single lag leaves .99
    assert np.mean(found) < 0.4


def test_mark_labels_moves_only_these_rows_by_a_step_and_a_wave(dataset: Dataset) -> None:
    rolled, _ = roll_labels(dataset, 0)
    rows = rolled.rows(6_000, 7_000)
    marked = mark_labels(rolled, rows, 1)
    added = marked.y_range - rolled.y_range
    elsewhere = np.ones_like(rolled.labelled)
    elsewhere[rows] = False
    assert not added[elsewhere].any()
    sd = rolled.y_range[rows].std()
    assert added[rows].mean() == pytest.approx(STEP * sd, rel=0.05)
    assert added[rows].std() == pytest.approx(WAVE * sd, rel=0.01)
    assert marked.y_return is rolled.y_return


def test_thin_keeps_a_share_of_some_rows_and_all_others(dataset: Dataset) -> None:
    rows = dataset.rows(1_500, 5_000)
    fewer = thin(dataset, rows, 0.25, 0, run_bars=20)
    assert len(fewer.rows(1_500, 5_000)[0]) == pytest.approx(0.25 * len(rows[0]), rel=0.15)
    np.testing.assert_array_equal(fewer.labelled[:, 5_000:], dataset.labelled[:, 5_000:])
    assert not (fewer.labelled & ~dataset.labelled).any()
    turns = np.abs(np.diff(fewer.labelled[0, 2_000:5_000].astype(int))).sum()
    assert turns < 100  # whole runs stay or go
    assert thin(dataset, rows, 1.0, 0) is dataset
