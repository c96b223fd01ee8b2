"""The exchange's clock is slewed, never turned back; its limit on requests is Binance's."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exchange.clock import ExchangeClock
from tests.exchange.weights import PATIENCE, Weights


class Hands:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def __call__(self) -> float:
        return self.at_s


def test_clock_slewed_gains_by_its_rate_until_it_is_there() -> None:
    hands = Hands()
    clock = ExchangeClock(monotonic=hands)
    start = clock.now_ms()
    clock.slew(5_000, rate=0.5)
    passed = []
    for _ in range(3):
        hands.at_s += 5
        passed.append(clock.now_ms() - start)
    assert passed == pytest.approx([7_500, 15_000, 20_000])


def test_clock_slewed_back_runs_slower_until_it_is_there() -> None:
    hands = Hands()
    clock = ExchangeClock(skew_ms=1_000, monotonic=hands)
    start = clock.now_ms()
    clock.slew(-1_000, rate=0.5)
    hands.at_s += 2
    assert clock.now_ms() - start == pytest.approx(1_000)
    hands.at_s += 8
    assert clock.now_ms() - start == pytest.approx(8_000)


@given(st.lists(st.tuples(st.floats(-5_000, 5_000), st.floats(0.1, 0.9), st.floats(0, 20)), max_size=8))
def test_clock_never_runs_backwards(turns: list[tuple[float, float, float]]) -> None:
    hands = Hands()
    clock = ExchangeClock(monotonic=hands)
    times = [clock.now_ms()]
    for skew_ms, rate, pause_s in turns:
        clock.slew(skew_ms, rate)
        for part in (0.0, 0.5, 0.5):
            hands.at_s += pause_s * part
            times.append(clock.now_ms() + 1e-3)  # a nanosecond of floats is no step back
    assert all(after >= before - 2e-3 for before, after in itertools.pairwise(times))


def test_clock_may_be_slewed_to_where_it_is_already() -> None:
    """By a hair it may seem to be beyond."""
    chance = Random(12)
    for _ in range(500):
        hands = Hands()
        clock = ExchangeClock(monotonic=hands)
        start_ms, start_s = clock.now_ms(), hands.at_s
        for _ in range(8):
            clock.slew(*chance.choice([(-5_000, 0.9), (0, 0.9)]))
            hands.at_s += chance.uniform(0.2, 5)
            for _ in range(2):
                clock.slew(5_000, 5.0)
                hands.at_s += chance.uniform(0.2, 5)
        hands.at_s += 10
        assert clock.now_ms() - start_ms == pytest.approx(5_000 + (hands.at_s - start_s) * 1_000)


def test_clock_slewed_while_time_passes_never_overshoots() -> None:
    hands = itertools.count(100.0, 1e-4)  # every look takes a while
    clock = ExchangeClock(monotonic=lambda: next(hands))
    for _ in range(3_000):
        clock.slew(50, 5.0)
    assert clock._slewed(next(hands)) == pytest.approx(50)


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.0, 2.0])
def test_clock_refuses_a_rate_that_would_turn_it_back(rate: float) -> None:
    with pytest.raises(ValueError, match="never runs backwards"):
        ExchangeClock(monotonic=Hands()).slew(-1, rate)


def test_weights_beyond_the_limit_are_429_until_the_minute_ends() -> None:
    weights = Weights(limit=10, ban_ms=2_000)
    assert weights.spend(10, 60_000) == (200, 10, 0)
    assert weights.spend(1, 90_500) == (429, 11, 30)
    assert weights.spend(1, 120_000) == (200, 1, 0)


def test_weights_of_who_goes_on_are_418_until_the_ban_ends() -> None:
    weights = Weights(limit=0, ban_ms=2_000)
    statuses = [weights.spend(1, 60_000).status for _ in range(PATIENCE + 2)]
    assert statuses == [429] * PATIENCE + [418, 418]
    assert weights.spend(1, 61_000) == (418, weights.used, 1)
    weights.limit = 100
    assert weights.spend(1, 120_000).status == 200
