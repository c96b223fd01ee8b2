from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.rewind import Resume, encode_rewind, plan
from tests.models.candle_records import laws

offsets = st.integers(0, 2**62)
metadata = st.none() | st.sampled_from(["", "a tool wrote this"]) | offsets.map(encode_rewind)


def test_plan_after_a_commit_rewinds_and_speaks_from_the_commit_on() -> None:
    assert plan(1_000, encode_rewind(400), beginning=0, end=2_000) == Resume(start=400, resume=1_000)


@pytest.mark.parametrize("committed", [None, -1])
def test_plan_without_a_commit_begins_where_the_log_does(committed: int | None) -> None:
    assert plan(committed, None, beginning=7, end=2_000) == Resume(7, 7)


@pytest.mark.parametrize("note", [None, "", "a tool wrote this", "rewind=junk", "400"])
def test_plan_without_our_note_rebuilds_from_the_beginning(note: str | None) -> None:
    assert plan(1_000, note, beginning=7, end=2_000) == Resume(7, 1_000)


def test_plan_where_the_log_no_longer_reaches_back_begins_where_it_does() -> None:
    assert plan(1_000, encode_rewind(400), beginning=600, end=2_000) == Resume(600, 1_000)
    assert plan(1_000, encode_rewind(400), beginning=1_500, end=2_000) == Resume(1_500, 1_500)


def test_plan_of_a_commit_at_the_end_of_the_log_is_no_error() -> None:
    assert plan(2_000, encode_rewind(2_000), beginning=0, end=2_000) == Resume(2_000, 2_000)
    assert plan(0, encode_rewind(0), beginning=0, end=0) == Resume(0, 0)


def test_plan_of_a_commit_beyond_the_log_is_refused() -> None:
    with pytest.raises(ValueError, match=r"committed offset 2001, the log ends at 2000: was the topic deleted"):
        plan(2_001, encode_rewind(0), beginning=0, end=2_000)


@laws
@given(committed=offsets, note=metadata, beginning=offsets, length=offsets)
def test_plan_starts_within_the_log_and_never_speaks_twice(
    committed: int, note: str | None, beginning: int, length: int
) -> None:
    end = max(beginning + length, committed)
    start, resume = plan(committed, note, beginning, end)
    assert beginning <= start <= resume <= max(end, beginning)
    assert resume == max(committed, beginning)
