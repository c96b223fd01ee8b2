"""The budget: never more than allowed in any window, and never stuck."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.feed.budget import LONGEST_PAUSE_S, Budget

steps = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 12)), min_size=1, max_size=40)


@settings(deadline=None, derandomize=True)
@given(steps=steps)
def test_budget_spends_no_more_than_its_weight_in_any_window(steps: list[tuple[float, int]]) -> None:
    budget, now_s = Budget(12, window_s=60), 0.0
    spent: list[tuple[float, int]] = []
    for pause_s, weight in steps:
        now_s += pause_s
        if budget.take(now_s, weight) == 0:
            spent.append((now_s, weight))
    for end_s, _ in spent:
        assert sum(weight for at_s, weight in spent if end_s - 60 < at_s <= end_s) <= 12


@settings(deadline=None, derandomize=True)
@given(steps=steps)
def test_budget_grants_after_the_wait_that_it_named(steps: list[tuple[float, int]]) -> None:
    budget, now_s = Budget(12, window_s=60), 0.0
    for pause_s, weight in steps:
        now_s += pause_s
        if wait_s := budget.take(now_s, weight):
            assert 0 < wait_s <= 60.001
            assert budget.take(now_s + wait_s - 2e-3, weight) > 0 or wait_s <= 2e-3
            now_s += wait_s + 1e-9
            assert budget.take(now_s, weight) == 0


def test_budget_asked_for_more_than_it_ever_has_grants_it_alone() -> None:
    budget = Budget(10, window_s=60)
    assert budget.take(0, 80) == 0
    assert budget.take(1, 1) == pytest.approx(59)
    assert budget.take(60, 1) == 0


def test_budget_after_a_refusal_grants_nothing_until_the_time_it_names() -> None:
    budget = Budget(100)
    budget.heard(10, 429, {"Retry-After": "7"})
    assert budget.take(10, 1) == 7
    assert budget.take(16.5, 1) == 0.5
    assert budget.take(17, 1) == 0
    assert budget.refusals == 1


def test_budget_refused_twice_keeps_the_longer_pause() -> None:
    budget = Budget(100)
    budget.heard(0, 418, {"retry-after": "100"})
    budget.heard(1, 429, {"Retry-After": "2"})
    assert budget.blocked_s(1) == 99


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({}, 120),
        ({"Retry-After": "soon"}, 120),
        ({"Retry-After": "nan"}, 120),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "1e9"}, LONGEST_PAUSE_S),
        ({"Retry-After": "Tue, 14 Nov 2023 22:14:30 GMT", "Date": "Tue, 14 Nov 2023 22:14:00 GMT"}, 30),
        ({"Retry-After": "Tue, 14 Nov 2023 22:14:30 GMT"}, 120),
    ],
    ids=["none", "words", "nan", "zero", "years", "a date", "a date and none to hold it against"],
)
def test_budget_banned_pauses_as_long_as_the_header_says(headers: dict[str, str], pause_s: float) -> None:
    budget = Budget(100)
    budget.heard(0, 418, headers)
    assert budget.blocked_s(0) == pause_s


def test_budget_counts_what_others_on_the_address_use() -> None:
    budget = Budget(100, window_s=60, address_weight=1_000)
    assert budget.take(0, 50) == 0
    budget.heard(0, 200, {"X-MBX-USED-WEIGHT-1M": "960"})  # 910 of them by others
    assert budget.take(1, 40) == 0
    assert budget.take(2, 1) == pytest.approx(58)


def test_budget_whose_neighbours_fell_silent_has_its_room_again() -> None:
    budget = Budget(100, window_s=60, address_weight=1_000)
    budget.heard(0, 200, {"X-MBX-USED-WEIGHT-1M": "1000"})
    assert budget.take(1, 1) == pytest.approx(59)
    budget.heard(30, 200, {"X-MBX-USED-WEIGHT-1M": "3"})
    assert budget.take(30, 50) == 0


@pytest.mark.parametrize("count", ["", "many", "inf", "-3"])
def test_budget_told_nonsense_of_weight_used_learns_nothing(count: str) -> None:
    budget = Budget(10, address_weight=10)
    budget.heard(0, 200, {"X-MBX-USED-WEIGHT-1M": count})
    assert budget.take(0, 10) == 0
    assert budget.used(0) == 10
