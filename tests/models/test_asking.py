"""When a sequencer asks REST, for which bars, and how it spares the budget."""

from __future__ import annotations

from models.asking import MOST_WAIT_MS
from models.sequencer import NEVER_MS, Limits, Sequencer
from models.series import Series
from tests.models.heard_bars import LIMITS, at, frame, hear, new_sequencer, publish, row, span


def waits_of(sequencer: Sequencer, times: int) -> list[int]:
    """Milliseconds from each request to the next, when none teaches anything."""
    waits = []
    for _ in range(times):
        now_ms = sequencer.next_due_ms()
        asked = sequencer.missing(now_ms)
        assert asked is not None
        sequencer.asked_for(asked, now_ms)
        waits.append(sequencer.next_due_ms() - now_ms)
    return waits


def test_missing_of_a_bar_nobody_heard_of_waits_for_patience() -> None:
    sequencer = new_sequencer()
    assert sequencer.next_due_ms() == at(1, 5_000)
    assert sequencer.missing(at(1, 4_999)) is None
    assert sequencer.missing(at(1, 5_000)) == span(0, 1)


def test_missing_of_a_bar_with_a_newer_one_begun_waits_only_until_it_has_settled() -> None:
    sequencer = new_sequencer()
    assert sequencer.hear(row(1), at(1, 10))
    assert sequencer.next_due_ms() == at(1, 3_000)
    assert sequencer.missing(at(1, 2_999)) is None
    assert sequencer.missing(at(1, 3_000)) == span(0, 1)


def test_missing_with_less_patience_than_settling_waits_until_rows_are_final() -> None:
    sequencer = new_sequencer(Limits(settle_ms=3_000, patience_ms=0, reread_ms=2_000, max_kept=10, max_rows=6))
    assert sequencer.next_due_ms() == at(1, 3_000)
    assert sequencer.missing(at(1, 2_999)) is None


def test_missing_when_all_are_heard_is_nothing() -> None:
    sequencer = new_sequencer()
    hear(sequencer, 0, 1)
    assert sequencer.missing(at(3, 2_999)) is None
    assert sequencer.next_due_ms() == at(3, 5_000)


def test_missing_reaches_to_the_last_bar_that_is_due_and_two_beyond() -> None:
    sequencer = new_sequencer()
    hear(sequencer, 0, 2, 4, 5, 6, 7)
    assert sequencer.missing(at(8, 3_000)) == span(1, 5)
    hear(sequencer, 1)
    assert sequencer.missing(at(8, 3_000)) == span(3, 5)


def test_missing_asks_for_no_bar_of_the_future() -> None:
    assert new_sequencer().missing(at(2, 5_000)) == span(0, 2)


def test_missing_asks_for_no_more_than_the_rows_of_a_page_and_for_the_next_page_at_once() -> None:
    sequencer = new_sequencer()
    asked = sequencer.missing(at(9))
    assert asked == span(0, 5)
    sequencer.asked_for(asked, at(9))
    sequencer.read([row(slot) for slot in range(6)], asked, at(9))
    assert sequencer.missing(at(9)) == span(6, 9)


def test_missing_beyond_the_bound_waits_for_kafka() -> None:
    sequencer = new_sequencer()
    hear(sequencer, *range(10))
    sequencer.hear(row(30), at(30))
    assert sequencer.next_due_ms() == NEVER_MS
    assert sequencer.missing(at(31)) is None
    publish(sequencer, most=4)
    assert sequencer.next_due_ms() == at(11, 3_000)
    assert sequencer.missing(at(31)) == span(10, 15)


def test_missing_ends_at_the_bound_and_a_newer_row() -> None:
    sequencer = new_sequencer()
    hear(sequencer, *range(8))
    assert sequencer.missing(at(31)) == span(8, 11)


def test_asked_for_bars_are_not_due_again_before_the_reread() -> None:
    sequencer = new_sequencer()
    sequencer.asked_for(span(0, 1), at(1, 5_000))
    assert sequencer.next_due_ms() == at(1, 7_000)
    assert sequencer.missing(at(1, 6_999)) is None
    assert sequencer.missing(at(1, 7_000)) == span(0, 1)


def test_asked_for_in_vain_comes_at_twice_the_distance_up_to_the_length_of_a_bar() -> None:
    sequencer = new_sequencer()
    assert waits_of(sequencer, 7) == [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    sequencer.hear(row(6), at(6))
    assert waits_of(sequencer, 2) == [2_000, 4_000]
    hear(sequencer, 0)
    assert waits_of(sequencer, 2) == [2_000, 4_000]


def test_asked_for_in_vain_waits_no_longer_than_a_minute_for_long_bars() -> None:
    sequencer = Sequencer(Series("binance", "BTC/USDT", "1d"), 86_400_000 * 19_000, LIMITS)
    assert waits_of(sequencer, 9)[-1] == MOST_WAIT_MS


def test_asked_for_again_after_a_failure_counts_as_one_request() -> None:
    sequencer = new_sequencer()
    sequencer.asked_for(span(0, 1), at(1, 5_000))
    sequencer.asked_for(span(0, 1), at(1, 5_500))
    assert sequencer.next_due_ms() == at(1, 7_500)


def test_asked_for_answered_without_the_bar_is_asked_again_after_the_reread() -> None:
    sequencer = new_sequencer()
    waits_of(sequencer, 3)
    now_ms = sequencer.next_due_ms()
    sequencer.asked_for(span(0, 1), now_ms)
    sequencer.read([row(1)], span(0, 1), now_ms)
    assert sequencer.next_due_ms() == now_ms + 2_000


def test_missing_after_the_clock_was_set_back_asks_at_once() -> None:
    sequencer = new_sequencer()
    sequencer.asked_for(span(0, 1), at(61))
    assert sequencer.missing(at(61)) is None
    assert sequencer.missing(at(1, 5_000)) == span(0, 1)
    assert sequencer.missing(at(1, 4_999)) is None


def test_asked_for_with_a_time_ahead_waits_for_so_much_longer() -> None:
    sequencer = new_sequencer()
    sequencer.asked_for(span(0, 1), at(2))
    assert sequencer.next_due_ms() == at(2, 2_000)
    assert sequencer.missing(at(1, 30_000)) is None
    assert sequencer.missing(at(2, 2_000)) == span(0, 2)


def test_next_due_of_a_restart_is_the_first_bar_after_the_topic() -> None:
    sequencer = new_sequencer(published=[])
    sequencer.hear(frame(3), at(4))
    assert sequencer.next_due_ms() == at(1, 3_000)
