from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.series_rows import NO_ROWS, SeriesRows, united

MINUTE = 60_000
FIRST = 1_748_736_000_000


def rows_at(
    slots: Sequence[int], revision: int | Sequence[int] = 0, price: float | Sequence[float] = 1.0
) -> SeriesRows:
    """Candles of one series, all prices the same."""
    close = np.broadcast_to(np.array(price, np.float64), len(slots))
    ohlcv = np.stack([close, close, close, close, np.ones(len(slots))])
    revisions = np.broadcast_to(np.array(revision, np.int32), len(slots)).copy()
    return SeriesRows(FIRST + MINUTE * np.array(slots, np.int64), ohlcv, revisions)


def test_united_of_nothing_is_nothing() -> None:
    assert len(united([]).open_time_ms) == 0
    assert len(united([NO_ROWS, NO_ROWS]).open_time_ms) == 0


sources = st.lists(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=8, unique=True), min_size=1, max_size=4
)


@given(sources)
def test_united_takes_of_each_time_the_highest_revision_of_the_first_source(
    spoken: list[list[tuple[int, int]]],
) -> None:
    rows = [
        rows_at([s for s, _ in own], [r for _, r in own], [10.0 * i + r for _, r in own])
        for i, own in enumerate(spoken)
    ]
    expected: dict[int, tuple[int, float]] = {}
    for i, own in enumerate(spoken):
        for slot, revision in own:
            if slot not in expected or revision > expected[slot][0]:
                expected[slot] = (revision, 10.0 * i + revision)
    found = united(rows)
    assert found.open_time_ms.tolist() == [FIRST + MINUTE * slot for slot in sorted(expected)]
    assert list(zip(found.revision.tolist(), found.ohlcv[3].tolist(), strict=True)) == [
        expected[slot] for slot in sorted(expected)
    ]
