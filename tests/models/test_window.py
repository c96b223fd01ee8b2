from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.window import WindowRing

BARS, FEATURES = 8, 3


def filled_ring(rows: int = 4, pushes: int = 20) -> tuple[WindowRing, np.ndarray]:
    """A ring and everything that was pushed, (pushes, rows, F)."""
    ring, pushed = (
        WindowRing(rows, FEATURES, BARS),
        np.random.default_rng(0).random((pushes, rows, FEATURES), np.float32),
    )
    for features in pushed:
        ring.push(np.arange(rows), features)
    return ring, pushed


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    pushes=st.lists(st.lists(st.integers(0, 4), unique=True, max_size=5), max_size=40),
    lookback=st.integers(1, BARS),
    seed=st.integers(0, 1_000),
)
def test_gather_after_any_pushes_equals_a_deque(pushes: list[list[int]], lookback: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    ring = WindowRing(5, FEATURES, BARS)
    known = [deque([np.zeros(FEATURES)] * BARS, maxlen=BARS) for _ in range(5)]
    counts = np.zeros(5, np.int64)
    for rows in pushes:
        features = random.random((len(rows), FEATURES), np.float32)
        ring.push(np.array(rows, np.intp), features)
        for row, values in zip(rows, features, strict=True):
            known[row].append(values)
            counts[row] += 1
    asked = random.integers(0, 5, 7)
    expected = np.array([list(known[row])[BARS - lookback :] for row in asked])
    windows = ring.gather(asked, lookback)
    np.testing.assert_array_equal(windows, expected)
    np.testing.assert_array_equal(ring.filled, counts)
    assert windows.dtype == np.float32
    assert windows.flags.c_contiguous


def test_gather_never_shows_a_later_push_of_the_same_row() -> None:
    ring, pushed = filled_ring(pushes=11)
    before = ring.gather(np.array([2]), BARS)
    ring.push(np.array([2]), np.full((1, FEATURES), 9, np.float32))
    np.testing.assert_array_equal(before[0], pushed[-BARS:, 2])


@pytest.mark.parametrize("columns", [np.array([2, 0]), slice(1, 3)])
def test_gather_of_columns_takes_them_in_their_order(columns: np.ndarray | slice) -> None:
    ring, pushed = filled_ring()
    windows = ring.gather(np.array([3, 1]), 5, columns)
    np.testing.assert_array_equal(windows, pushed[-5:, [3, 1]].transpose(1, 0, 2)[..., columns])
    assert windows.flags.c_contiguous


@pytest.mark.parametrize("columns", [slice(None), np.array([1])])
def test_gather_into_an_array_fills_and_returns_it(columns: np.ndarray | slice) -> None:
    ring, pushed = filled_ring()
    expected = pushed[-4:, [0]].transpose(1, 0, 2)[..., columns]
    whole = np.full((3, *expected.shape[1:]), 7, np.float32)
    returned = ring.gather(np.array([0]), 4, columns, whole[1:2])
    np.testing.assert_array_equal(whole[1:2], expected)
    assert np.shares_memory(returned, whole)
    assert (whole[[0, 2]] == 7).all()


def test_gather_of_no_row_is_empty() -> None:
    assert filled_ring()[0].gather(np.empty(0, np.intp), 4).shape == (0, 4, FEATURES)


def test_reset_row_forgets_everything_and_others_nothing() -> None:
    ring, pushed = filled_ring()
    ring.reset(np.array([1]))
    ring.push(np.array([1]), np.ones((1, FEATURES), np.float32))
    windows = ring.gather(np.array([1, 2]), BARS)
    assert ring.filled.tolist() == [20, 1, 20, 20]
    assert (windows[0, :-1] == 0).all()
    assert (windows[0, -1] == 1).all()
    np.testing.assert_array_equal(windows[1], pushed[-BARS:, 2])


def test_grown_ring_keeps_windows_and_adds_empty_rows() -> None:
    ring, pushed = filled_ring()
    ring.grow(5)
    assert ring.capacity == 8  # doubled
    np.testing.assert_array_equal(ring.gather(np.arange(4), BARS), pushed[-BARS:].transpose(1, 0, 2))
    ring.push(np.array([7]), np.ones((1, FEATURES), np.float32))
    assert ring.filled.tolist() == [20] * 4 + [0, 0, 0, 1]
    ring.grow(3)
    assert ring.capacity == 8
