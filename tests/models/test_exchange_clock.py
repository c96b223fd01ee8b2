"""The exchange's clock is followed within stated bounds, through jumps and past wild answers."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.exchange_clock import CLAIMS, DRIFT, REBELS, SERVERS_APART_MS, ExchangeClock
from tests.models.candle_records import laws

EPOCH = 1_700_000_000_000
ROUND_TRIP_S = 0.02


class Server:
    """The exchange's true clock: so many milliseconds ahead of a monotonic one."""

    def __init__(self) -> None:
        self.offset_ms, self.rate = float(EPOCH), 0.0

    def now_ms(self, monotonic_s: float) -> float:
        return monotonic_s * 1_000 * (1 + self.rate) + self.offset_ms


def answer(clock: ExchangeClock, server: Server, sent_at_s: float, there: float = 0.5, wild_ms: float = 0) -> None:
    """One round trip, of which the way there takes such a part."""
    made_ms = server.now_ms(sent_at_s + ROUND_TRIP_S * there) + wild_ms
    clock.hear(int(made_ms), sent_at_s, sent_at_s + ROUND_TRIP_S)


def heard(answers: int = 5) -> tuple[ExchangeClock, Server]:
    """A clock that knows its server, one answer a second from 0 s on."""
    clock, server = ExchangeClock(), Server()
    for second in range(answers):
        answer(clock, server, second)
    return clock, server


def off_ms(clock: ExchangeClock, server: Server, monotonic_s: float) -> float:
    return clock.now_ms(monotonic_s) - server.now_ms(monotonic_s)


def test_clock_that_heard_nothing_is_unknown() -> None:
    clock = ExchangeClock()
    assert not clock.known
    assert clock.in_doubt
    with pytest.raises(ValueError, match="not known before"):
        clock.now_ms(0)


def test_hear_of_one_answer_takes_its_midpoint_and_half_the_round_trip_for_error() -> None:
    clock, server = heard(1)
    assert clock.known
    assert not clock.in_doubt
    assert abs(off_ms(clock, server, 1.0)) <= 1
    assert clock.error_ms(1.0) == pytest.approx(ROUND_TRIP_S * 500 + 0.5, abs=0.3)


def test_hear_of_an_answer_received_before_it_was_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="received at"):
        ExchangeClock().hear(EPOCH, 2.0, 1.0)


def test_hear_believes_the_shortest_round_trip() -> None:
    clock, server = heard(1)
    clock.hear(int(server.now_ms(1.0)), 1.0, 3.0)  # at once, and then a long way back
    assert abs(off_ms(clock, server, 3.0)) <= 1


@pytest.mark.parametrize("wild_ms", [5_000, -5_000, 3_600_000, -EPOCH])
@pytest.mark.parametrize("wild_ones", [1, 2])
def test_hear_of_wild_answers_is_not_followed(wild_ms: int, wild_ones: int) -> None:
    clock, server = heard()
    for second in range(5, 5 + wild_ones):
        answer(clock, server, second, wild_ms=wild_ms)
    assert clock.in_doubt
    assert abs(off_ms(clock, server, 8.0)) <= 1
    answer(clock, server, 8)
    assert not clock.in_doubt
    answer(clock, server, 9, wild_ms=wild_ms)
    assert abs(off_ms(clock, server, 10.0)) <= 1


def test_hear_of_wild_answers_that_contradict_each_other_is_not_followed() -> None:
    clock, server = heard()
    for second, wild_ms in enumerate([5_000, -5_000, 9_000, 1_000, -8_000, 5_000], start=5):
        answer(clock, server, second, wild_ms=wild_ms)
        assert abs(off_ms(clock, server, second + 0.5)) <= 1


@pytest.mark.parametrize("jump_ms", [5_000, -5_000, 700, -700, 3_600_000])
def test_hear_of_three_answers_that_agree_follows_a_jump(jump_ms: int) -> None:
    clock, server = heard()
    clock.now_ms(5.0)
    server.offset_ms += jump_ms
    for second in range(5, 5 + REBELS):
        assert abs(clock.now_ms(second) - server.now_ms(second) + jump_ms) <= 1
        answer(clock, server, second)
    assert abs(off_ms(clock, server, 8.0)) <= 1
    assert not clock.in_doubt


def test_hear_after_a_wild_first_answer_comes_right() -> None:
    clock, server = ExchangeClock(), Server()
    answer(clock, server, 0, wild_ms=9_000)
    for second in range(1, 1 + REBELS):
        answer(clock, server, second)
    assert abs(off_ms(clock, server, 5.0)) <= 1


def test_now_never_goes_back_by_a_correction() -> None:
    clock, server = ExchangeClock(), Server()
    clock.hear(int(server.now_ms(0.0)) + 900, 0.0, 1.0)  # a slow answer, 400 ms ahead
    told_ms = clock.now_ms(1.0)
    answer(clock, server, 1.0)
    assert clock.now_ms(1.02) == told_ms
    assert abs(off_ms(clock, server, 1.02)) <= clock.error_ms(1.02)
    assert abs(off_ms(clock, server, 2.0)) <= 1


def test_now_goes_back_where_the_exchange_did() -> None:
    clock, server = heard()
    told_ms = clock.now_ms(5.0)
    server.offset_ms -= 5_000
    for second in range(5, 5 + REBELS):
        answer(clock, server, second)
    assert clock.now_ms(8.0) < told_ms
    assert abs(off_ms(clock, server, 8.0)) <= 1


def test_at_least_of_an_event_within_the_error_moves_the_clock_at_once() -> None:
    clock, server = heard(0)
    answer(clock, server, 0, there=0.0)  # all of the round trip was the way back
    assert off_ms(clock, server, 1.0) == pytest.approx(-10, abs=1)
    clock.at_least(int(server.now_ms(1.0)), 1.0)
    assert off_ms(clock, server, 1.0) == pytest.approx(0, abs=1)
    assert not clock.in_doubt


def test_at_least_of_an_event_that_later_answers_disprove_is_forgotten() -> None:
    clock, server = ExchangeClock(), Server()
    clock.hear(int(server.now_ms(0.1)), 0.0, 0.2)
    clock.at_least(int(server.now_ms(1.0)) + 40, 1.0)
    assert off_ms(clock, server, 1.0) == pytest.approx(40, abs=1)
    answer(clock, server, 2)
    assert off_ms(clock, server, 3.0) <= clock.error_ms(3.0) + 1 <= 23


def test_hear_after_a_long_silence_allows_for_drift() -> None:
    clock, server = heard(1)
    server.rate = DRIFT / 2
    assert abs(off_ms(clock, server, 7_200.0)) > 500
    answer(clock, server, 7_200)
    assert not clock.in_doubt
    assert abs(off_ms(clock, server, 7_201.0)) <= 1


def test_error_grows_with_the_age_of_the_answers() -> None:
    clock, _ = heard(1)
    assert clock.error_ms(10_001.0) - clock.error_ms(1.0) == pytest.approx(DRIFT * 1e7)


def test_at_least_of_an_event_that_lagged_moves_nothing() -> None:
    clock, server = heard()
    before = clock.now_ms(6.0)
    for _ in range(3 * CLAIMS):
        clock.at_least(int(server.now_ms(6.0)) - 400, 6.0)
    assert clock.now_ms(6.0) == before
    assert not clock.in_doubt


def test_at_least_of_events_from_the_future_is_believed_when_many_in_a_row_agree() -> None:
    clock, server = heard()
    server.offset_ms += 5_000
    for claim in range(CLAIMS):
        assert off_ms(clock, server, 6.0) < -4_000
        clock.at_least(int(server.now_ms(6.0)) - claim, 6.0)
        assert clock.in_doubt
    assert off_ms(clock, server, 6.0) == pytest.approx(-CLAIMS + 1, abs=1)  # the least of them
    assert clock.error_ms(6.0) == math.inf
    answer(clock, server, 7)
    assert abs(off_ms(clock, server, 8.0)) <= 1
    assert not clock.in_doubt


@pytest.mark.parametrize(("pace", "behind_ms"), [(0.1, 500), (1.0, 5_000), (5.0, math.inf)])
def test_stated_is_never_ahead_of_a_clock_that_runs_at_a_pace_of_its_own(pace: float, behind_ms: float) -> None:
    clock, true_ms = ExchangeClock(), 1_700_000_000_000.0
    for at_s in range(60):
        if at_s % 10 == 0:
            clock.hear(int(true_ms), at_s, at_s)
        elif at_s % 3 == 0:
            clock.at_least(int(true_ms) - 20, at_s)
        stated_ms = clock.stated_ms(at_s)
        assert true_ms - behind_ms <= stated_ms <= true_ms
        true_ms += 1_000 * pace


def test_stated_of_a_wild_word_is_no_more_than_now() -> None:
    clock = ExchangeClock()
    for at_s in range(3):
        clock.hear(1_700_000_000_000 + at_s * 1_000, at_s, at_s)
    clock.hear(1_800_000_000_000, 3.0, 3.0)
    assert clock.stated_ms(3.0) == clock.now_ms(3.0) < 1_700_000_010_000


def test_at_least_of_single_wild_events_is_not_believed() -> None:
    clock, server = heard()
    for number in range(10 * CLAIMS):
        wild = number % CLAIMS != 0
        clock.at_least(int(server.now_ms(6.0)) + (3_600_000 if wild else -20), 6.0)
    assert abs(off_ms(clock, server, 6.0)) <= 1


def test_at_least_alone_tells_the_time() -> None:
    clock, server = ExchangeClock(), Server()
    chance = Random(5)
    for number in range(100):
        at_s = number / 10
        clock.at_least(int(server.now_ms(at_s)) - chance.randint(5, 60), at_s)
    assert -60 <= off_ms(clock, server, 10.0) <= 0


def test_clock_of_frames_that_were_wild_for_long_comes_right_by_answers() -> None:
    clock, server = heard()
    for _ in range(CLAIMS):
        clock.at_least(int(server.now_ms(6.0)) + 3_600_000, 6.0)
    assert off_ms(clock, server, 6.0) > 3_000_000
    for second in range(7, 7 + REBELS):
        answer(clock, server, second)
    assert abs(off_ms(clock, server, 10.0)) <= 1


@laws
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["answer", "frame", "look"]), st.floats(0, 30), st.floats(0, 2), st.floats(0, 1)),
        max_size=60,
    ),
    rate=st.floats(-DRIFT, DRIFT),
    apart_ms=st.sampled_from([0.0, SERVERS_APART_MS]),
)
def test_clock_of_an_honest_exchange_is_off_by_no_more_than_it_says_and_never_goes_back(
    steps: list[tuple[str, float, float, float]], rate: float, apart_ms: float
) -> None:
    clock, server = ExchangeClock(), Server()
    server.rate = rate
    at_s, told_ms = 0.0, 0
    for number, (what, later_s, takes_s, part) in enumerate(steps):
        at_s += later_s
        own_ms = apart_ms * (number % 2)  # every other server is ahead of the first
        if what == "answer":
            clock.hear(int(server.now_ms(at_s + takes_s * part) + own_ms), at_s, at_s + takes_s)
            at_s += takes_s
        elif what == "frame":
            clock.at_least(int(server.now_ms(at_s - takes_s * part) + own_ms), at_s)
        if clock.known:
            assert clock.now_ms(at_s) >= told_ms
            told_ms = clock.now_ms(at_s)
            assert abs(off_ms(clock, server, at_s)) <= clock.error_ms(at_s) + 1 + apart_ms
