"""Later words on bars that Kafka has: duplicates, revisions, and words that come too late."""

from __future__ import annotations

from random import Random

import pytest

from models.published import COMPARED_BARS
from models.sequencer import Sequencer
from tests.models.candle_records import BTC, START_SLOT, make_absent, make_candle
from tests.models.heard_bars import LIMITS, START, at, frame, hear, new_sequencer, publish, row, slots_of, span


def published_one(**fields: object) -> Sequencer:
    """One whose bar 0 is published."""
    sequencer = new_sequencer()
    sequencer.hear(frame(0, **fields), at(1))
    publish(sequencer)
    return sequencer


def test_hear_of_a_published_bar_again_is_a_duplicate() -> None:
    sequencer = published_one()
    assert not sequencer.hear(frame(0), at(1, 9))
    assert sequencer.counts.duplicates == 1
    assert sequencer.ready(at(2), 100) == []


@pytest.mark.parametrize("by_rest", [False, True])
def test_sequencer_of_a_published_bar_said_otherwise_publishes_a_revision(by_rest: bool) -> None:
    sequencer = published_one()
    if by_rest:
        sequencer.read([row(0, close=102.0), row(1)], span(0, 1), at(1, 3_000))
    else:
        assert sequencer.hear(frame(0, close=102.0), at(1, 9))
    (candle,) = publish(sequencer)
    assert (candle.open_time_ms, candle.close, candle.revision) == (at(0), 102.0, 1)
    assert candle.origin == ("repaired" if by_rest else "live")
    assert sequencer.counts.revisions == 1
    assert sequencer.mark_ms == at(1)
    assert sequencer.ready(at(2), 100) == []


def test_read_of_a_published_bar_that_has_not_settled_revises_nothing() -> None:
    sequencer = published_one()
    sequencer.read([row(0, close=102.0), row(1)], span(0, 1), at(1, 2_999))
    assert sequencer.ready(at(2), 100) == []


def test_sequencer_revises_with_the_newest_word_and_after_new_bars() -> None:
    sequencer = published_one()
    for close in (102.0, 101.5):
        sequencer.hear(frame(0, close=close), at(1, 9))
    hear(sequencer, 1)
    assert [(candle.close, candle.revision) for candle in publish(sequencer)] == [(101.0, 0), (101.5, 1)]


def test_sequencer_of_a_word_taken_back_before_it_is_published_publishes_no_revision() -> None:
    sequencer = published_one()
    for close in (102.0, 101.0):
        sequencer.hear(frame(0, close=close), at(1, 9))
    assert sequencer.ready(at(2), 100) == []


def test_sequencer_of_a_word_on_a_bar_on_its_way_to_kafka_makes_it_a_revision() -> None:
    sequencer = new_sequencer()
    hear(sequencer, 0)
    on_their_way = sequencer.ready(at(1, 6), 100)
    sequencer.hear(frame(0, close=102.0), at(1, 9))
    sequencer.acknowledge(on_their_way)
    assert [(candle.close, candle.revision) for candle in publish(sequencer)] == [(102.0, 1)]


def test_sequencer_of_a_revision_taken_back_on_its_way_to_kafka_revises_once_more() -> None:
    sequencer = published_one()
    sequencer.hear(frame(0, close=102.0), at(1, 9))
    on_their_way = sequencer.ready(at(2), 100)
    sequencer.hear(frame(0), at(2))
    sequencer.acknowledge(on_their_way)
    assert [(candle.close, candle.revision) for candle in publish(sequencer)] == [(101.0, 2)]


def test_sequencer_of_an_absent_bar_that_turns_up_publishes_it_as_a_revision() -> None:
    sequencer = new_sequencer()
    for later_ms in (3_000, 5_000):
        sequencer.read([row(1)], span(0, 1), at(1, later_ms))
    assert [candle.absent for candle in publish(sequencer)] == [True]
    hear(sequencer, 0)
    (candle,) = publish(sequencer)
    assert (candle.absent, candle.close, candle.revision) == (False, 101.0, 1)


def test_sequencer_from_the_tail_of_the_topic_counts_on_from_the_highest_revision() -> None:
    revisions = [
        make_candle(open_time_ms=at(-1), close_time_ms=at(0), close=close, revision=revision)
        for revision, close in enumerate([101.0, 102.0, 101.5, 102.5])
    ]
    Random(3).shuffle(revisions)
    sequencer = new_sequencer(published=revisions)
    values = {"open": 100.0, "high": 102.5, "low": 99.25, "volume": 12.5}
    assert not sequencer.hear(frame(-1, close=102.5, **values), at(0))
    assert sequencer.hear(frame(-1, close=101.0, **values), at(0))
    assert [(candle.close, candle.revision) for candle in publish(sequencer)] == [(101.0, 4)]


def test_sequencer_compares_with_the_last_64_bars_and_ignores_words_on_older_ones() -> None:
    begins = START_SLOT - 100
    tail = [make_candle(slot=slot) for slot in range(begins, START_SLOT)]
    tail[-COMPARED_BARS] = make_absent(slot=START_SLOT - COMPARED_BARS)
    sequencer = Sequencer(BTC, tail[-1].close_time_ms, LIMITS, published=tail)
    oldest, older = tail[-COMPARED_BARS].open_time_ms, tail[-COMPARED_BARS - 1].open_time_ms
    assert not sequencer.hear(frame(0, open_time_ms=older), START)
    assert sequencer.counts.ignored_old == 1
    assert sequencer.hear(frame(0, open_time_ms=oldest), START)
    assert [(candle.open_time_ms, candle.revision) for candle in publish(sequencer)] == [(oldest, 1)]


def test_sequencer_forgets_published_bars_one_by_one_but_none_with_a_revision_under_way() -> None:
    sequencer = new_sequencer()
    for slot in range(COMPARED_BARS + 5):
        hear(sequencer, slot)
        if slot == 1:
            sequencer.hear(frame(0, close=102.0), at(2))
        publish(sequencer, most=1)
    assert len(sequencer._published) == COMPARED_BARS + 1
    (revision,) = publish(sequencer)
    assert (revision.open_time_ms, revision.revision) == (at(0), 1)
    assert len(sequencer._published) == COMPARED_BARS
    assert not sequencer.hear(frame(4, close=102.0), at(70))
    assert sequencer.counts.ignored_old == 1


def test_sequencer_with_too_many_revisions_under_way_drops_the_newest() -> None:
    sequencer = new_sequencer()
    for slot in range(COMPARED_BARS + 5):
        hear(sequencer, slot)
        if slot:
            sequencer.hear(frame(slot - 1, close=102.0), at(slot + 1))
        publish(sequencer, most=1)
    assert sequencer.counts.dropped_beyond_bound == 4
    assert slots_of(publish(sequencer, most=1_000)) == list(range(COMPARED_BARS))


def test_kept_holds_corrections_that_kafka_does_not_have() -> None:
    before = new_sequencer()
    hear(before, 0)
    first = publish(before)
    before.hear(frame(0, close=102.0), at(1, 9))
    after = Sequencer(BTC, at(1), LIMITS, published=first)
    for kline in before.kept():
        after.hear(kline, at(1, 9))
    assert [(candle.close, candle.revision) for candle in publish(after)] == [(102.0, 1)]
