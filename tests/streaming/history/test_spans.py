from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.kline import Kline, Span
from streaming.history.spans import grid_at_or_after, joined, missing_spans, slots, usable

MINUTE = 60_000
WHOLE = Span(10 * MINUTE, 40 * MINUTE)
there = st.sets(st.integers(10, 40)).map(sorted)


def bars_of(spans: list[Span]) -> list[int]:
    return [time for span in spans for time in range(span.first_ms, span.last_ms + 1, MINUTE)]


@given(there)
def test_missing_spans_and_what_is_there_are_the_whole(minutes: list[int]) -> None:
    times = np.array(minutes, np.int64) * MINUTE
    spans = missing_spans(times, WHOLE, MINUTE)
    assert sorted(bars_of(spans) + times.tolist()) == list(range(WHOLE.first_ms, WHOLE.last_ms + 1, MINUTE))
    assert sum(slots(span, MINUTE) for span in spans) == 31 - len(minutes)
    assert all(b.first_ms - a.last_ms > MINUTE for a, b in itertools.pairwise(spans))


@given(there, st.integers(0, 12))
def test_joined_spans_cover_all_and_are_farther_apart_than_asked(minutes: list[int], within: int) -> None:
    spans = missing_spans(np.array(minutes, np.int64) * MINUTE, WHOLE, MINUTE)
    together = joined(spans, within, MINUTE)
    assert set(bars_of(spans)) <= set(bars_of(together))
    assert all(b.first_ms - a.last_ms > within * MINUTE for a, b in itertools.pairwise(together))
    assert {span.first_ms for span in together} <= {span.first_ms for span in spans}
    assert {span.last_ms for span in together} <= {span.last_ms for span in spans}


def test_grid_at_or_after_of_weeks_is_a_monday() -> None:
    monday = 1_746_403_200_000  # 2025-05-05
    assert grid_at_or_after(monday, 604_800_000) == monday
    assert grid_at_or_after(monday - 1, 604_800_000) == monday
    assert grid_at_or_after(monday + 1, 604_800_000) == monday + 604_800_000


def test_usable_of_a_page_drops_repeats_strangers_and_what_is_no_candle() -> None:
    def bar(minute: float, low: float = 1.0, volume: float = 1.0) -> Kline:
        return Kline(int(minute * MINUTE), 2.0, 3.0, low, 2.5, volume)

    page = [bar(12), bar(11), bar(12), bar(9), bar(41), bar(10.5), bar(13, low=2.75), bar(14, volume=-1.0), bar(15)]
    rows, unusable = usable(page, WHOLE, MINUTE)
    assert rows.open_time_ms.tolist() == [11 * MINUTE, 12 * MINUTE, 15 * MINUTE]
    assert unusable == 6
    assert usable([], WHOLE, MINUTE).unusable == 0
