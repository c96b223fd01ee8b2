"""When a bar is finished, when it is absent, and in which order bars leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from models.decode import why_invalid
from models.kline import Kline
from models.sequencer import Limits, Sequencer
from models.sequencing import LAST_ROW_MS
from models.series import Series
from tests.models.candle_records import BTC, MINUTE, make_candle
from tests.models.heard_bars import LIMITS, START, at, frame, hear, new_sequencer, publish, row, slots_of, span

SETTLED = at(1, LIMITS.settle_ms)  # of bar 0


def test_sequencer_off_the_grid_of_its_timeframe_is_refused() -> None:
    with pytest.raises(ValueError, match="not on the grid of 1m"):
        Sequencer(BTC, START + 1, LIMITS)
    Sequencer(BTC._replace(timeframe="1w"), 345_600_000, LIMITS)  # a Monday


@pytest.mark.parametrize("broken", [{"settle_ms": -1}, {"patience_ms": -1}, {"reread_ms": 0}, {"max_kept": 0}])
def test_limits_that_make_no_sense_are_refused(broken: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Limits(**{"settle_ms": 1, "patience_ms": 1, "reread_ms": 1, "max_kept": 1} | broken)
    with pytest.raises(ValueError, match="max_rows 2 must be more than 2"):
        Limits(1, 1, 1, 1, max_rows=2)


def test_hear_of_a_closed_frame_finishes_its_bar_as_live() -> None:
    sequencer = new_sequencer()
    assert sequencer.hear(frame(0), at(1, 5))
    (candle,) = sequencer.ready(at(1, 7), 100)
    assert candle == make_candle(
        open_time_ms=at(0), close_time_ms=at(1), open=100.0, high=103.0, low=99.0, close=101.0, volume=5.0,
        received_at_ms=at(1, 7),
    )  # fmt: skip
    assert sequencer.mark_ms == at(0)
    sequencer.acknowledge([candle])
    assert sequencer.mark_ms == at(1)
    assert sequencer.ready(at(1, 8), 100) == []


def test_hear_of_unfinished_bars_finishes_nothing_and_tells_only_when_a_bar_begins() -> None:
    sequencer = new_sequencer()
    told = [sequencer.hear(row(slot), at(slot, 100)) for slot in (0, 0, 1, 1, 0, 2)]
    assert told == [True, False, True, False, False, True]
    assert sequencer.ready(at(3), 100) == []


def test_hear_of_a_bar_without_trades_finishes_it() -> None:
    sequencer = new_sequencer()
    sequencer.hear(frame(0, open=100.0, high=100.0, low=100.0, close=100.0, volume=0.0), at(1))
    assert [candle.volume for candle in publish(sequencer)] == [0.0]


def test_read_of_rows_that_all_lie_beside_the_grid_tells_by_how_much_until_one_fits() -> None:
    sequencer = new_sequencer()
    sequencer.read([row(0, open_time_ms=at(0, 20_000)), row(1, open_time_ms=at(1, 20_000))], span(0, 1), at(3))
    assert (sequencer.beside_ms, sequencer.counts.bad) == (20_000, 2)
    sequencer.read([], span(0, 1), at(3))
    assert sequencer.beside_ms == 20_000  # nothing was said
    sequencer.read([row(0), row(1, open_time_ms=at(1, 20_000))], span(0, 1), at(3))
    assert sequencer.beside_ms == 0


BAD: list[dict[str, Any]] = [
    {"close": math.nan}, {"open": math.nan}, {"high": math.inf}, {"low": -1.0}, {"low": 0.0}, {"volume": math.nan},
    {"volume": -1.0}, {"volume": 1e19}, {"high": 98.0}, {"close": 104.0}, {"open": 98.0}, {"low": 1e-16},
    {"open_time_ms": START + 1}, {"open_time_ms": START + MINUTE // 2}, {"open_time_ms": at(3)},
    {"open_time_ms": 2**62 // MINUTE * MINUTE},
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD, ids=str)
def test_hear_of_a_bad_frame_counts_and_ignores_it(fields: dict[str, Any]) -> None:
    sequencer = new_sequencer()
    assert not sequencer.hear(frame(0, **fields), at(1))
    assert sequencer.counts.bad == 1
    assert sequencer.next_due_ms() == at(1, LIMITS.patience_ms)
    assert sequencer.ready(at(1), 100) == []


def test_hear_of_a_long_bar_closed_before_its_time_is_bad() -> None:
    hour = 60 * MINUTE
    sequencer = Sequencer(Series("binance", "BTC/USDT", "1h"), 400_000 * hour, LIMITS)
    kline = row(0, open_time_ms=400_000 * hour, closed=True)
    assert not sequencer.hear(kline, 400_001 * hour - 61_000)
    assert sequencer.counts.bad == 1
    assert sequencer.hear(kline, 400_001 * hour - 60_000)


def test_read_before_a_row_has_settled_finishes_nothing() -> None:
    sequencer = new_sequencer()
    sequencer.read([row(0), row(1)], span(0, 1), SETTLED - 1)
    assert sequencer.ready(at(2), 100) == []
    sequencer.read([row(0), row(1)], span(0, 1), SETTLED)
    (candle,) = sequencer.ready(at(2), 100)
    assert (candle.open_time_ms, candle.origin) == (at(0), "repaired")


def test_read_of_a_last_row_trusts_it_only_long_after_its_close() -> None:
    sequencer = new_sequencer()
    sequencer.read([row(0)], span(0, 1), at(1, LAST_ROW_MS - 1))
    assert sequencer.ready(at(2), 100) == []
    sequencer.read([row(0)], span(0, 1), at(1, LAST_ROW_MS))
    assert slots_of(sequencer.ready(at(2), 100)) == [0]


def test_read_of_what_an_unsettled_row_says_never_beats_the_flag() -> None:
    sequencer = new_sequencer()
    hear(sequencer, 0)
    sequencer.read([row(0, volume=1.0), row(1)], span(0, 1), SETTLED - 1)
    assert [candle.volume for candle in publish(sequencer)] == [5.0]


@pytest.mark.parametrize(("frame_first", "stands"), [(True, 7.0), (False, 6.0)])
def test_sequencer_of_two_words_before_publication_keeps_the_newest(frame_first: bool, stands: float) -> None:
    sequencer = new_sequencer()
    for is_frame in (frame_first, not frame_first):
        if is_frame:
            sequencer.hear(frame(0, volume=6.0), at(1))
        else:
            sequencer.read([row(0, volume=7.0), row(1)], span(0, 1), SETTLED)
    assert [(candle.volume, candle.revision) for candle in publish(sequencer)] == [(stands, 0)]
    assert sequencer.ready(at(1), 100) == []


@pytest.mark.parametrize("price", [math.nan, -1.0, 0.0])
def test_read_of_a_row_that_readers_would_refuse_is_as_good_as_none(price: float) -> None:
    sequencer = new_sequencer()
    for seconds in (0, 2_000):
        sequencer.read([row(0, low=price), row(1)], span(0, 1), SETTLED + seconds)
    assert [candle.absent for candle in publish(sequencer)] == [True]
    assert sequencer.counts.bad == 2


Answer = tuple[list[Kline], tuple[int, int], int]  # rows, first and last asked for, milliseconds after bar 0 settled


@pytest.mark.parametrize(
    ("answers", "absent"),
    [
        pytest.param([([row(1)], (0, 1), 0)], False, id="one answer"),
        pytest.param([([row(1)], (0, 1), 0), ([row(1)], (0, 1), 1_999)], False, id="two too close to each other"),
        pytest.param([([row(1)], (0, 1), 0), ([row(1)], (0, 1), 2_000)], True, id="two"),
        pytest.param([([row(1)], (0, 1), 2_000), ([row(1)], (0, 1), 0)], False, id="two in the wrong order"),
        pytest.param([([], (0, 1), 0), ([], (0, 1), 2_000)], False, id="no rows at all"),
        pytest.param([([row(1)], (0, 1), 0), ([], (0, 1), 2_000)], False, id="the second has no newer row"),
        pytest.param([([row(-1)], (-1, 1), 0), ([row(-1)], (-1, 1), 9_000)], False, id="no newer rows"),
        pytest.param([([row(1)], (0, 0), 0), ([row(1)], (0, 0), 2_000)], True, id="a newer row not asked for"),
        pytest.param([([row(2)], (1, 2), 0), ([row(2)], (1, 2), 2_000)], False, id="not asked for"),
        pytest.param([([row(2)], (0, 2), 0), ([row(2)], (1, 2), 2_000)], False, id="asked for only once"),
        pytest.param([([row(1)], (0, 1), -1), ([row(1)], (0, 1), 2_000)], False, id="not settled the first time"),
        pytest.param(
            [([row(1)], (0, 1), 0), ([row(1, low=-1.0)], (0, 1), 2_000)], False, id="the newer row is a bad one"
        ),
        pytest.param(
            [([row(1)], (0, 1), 0), ([row(9)], (0, 1), 2_000)], False, id="the newer row is from the future"
        ),
        pytest.param([([row(1)], (0, 1), 0), ([row(0), row(1)], (0, 1), 2_000)], False, id="it turns up"),
    ],
)  # fmt: skip
def test_read_finds_a_bar_absent_only_by_two_answers_that_agree(answers: Sequence[Answer], absent: bool) -> None:
    sequencer = new_sequencer()
    for rows, (first, last), later_ms in answers:
        sequencer.read(rows, span(first, last), SETTLED + later_ms)
    assert [candle.absent for candle in sequencer.ready(at(9), 1)].count(True) == absent


def test_read_says_nothing_of_bars_that_were_not_asked_for() -> None:
    sequencer = new_sequencer()
    for later_ms in (0, 9_000):
        sequencer.read([row(0), row(3)], span(0, 0), at(4, later_ms))
    assert slots_of(sequencer.ready(at(9), 100)) == [0]


def test_read_of_an_absent_bar_puts_out_a_candle_without_prices() -> None:
    sequencer = new_sequencer()
    for later_ms in (0, 2_000):
        sequencer.read([row(1)], span(0, 1), SETTLED + later_ms)
    (candle,) = publish(sequencer)
    assert (candle.absent, candle.open, candle.volume, candle.origin) == (True, None, None, "repaired")
    assert why_invalid(candle) == ""
    assert (sequencer.counts.absent, sequencer.counts.repaired) == (1, 0)


def test_hear_after_absence_was_found_and_before_it_is_published_beats_it() -> None:
    sequencer = new_sequencer()
    for later_ms in (0, 2_000):
        sequencer.read([row(1)], span(0, 1), SETTLED + later_ms)
    hear(sequencer, 0)
    assert [(candle.absent, candle.revision) for candle in publish(sequencer)] == [(False, 0)]


def test_sequencer_publishes_early_bars_only_when_the_older_ones_are_finished() -> None:
    sequencer = new_sequencer()
    hear(sequencer, 2, 1, 4)
    assert sequencer.ready(at(9), 100) == []
    assert sequencer.counts.early == 3
    hear(sequencer, 0)
    assert slots_of(publish(sequencer)) == [0, 1, 2]
    sequencer.read([row(3)], span(3, 5), at(5))
    assert [candle.origin for candle in publish(sequencer)] == ["repaired", "live"]
    assert sequencer.counts.early == 3


def test_read_of_bars_from_before_the_series_began_is_backfill() -> None:
    sequencer = new_sequencer(backfill_before_ms=at(2))
    sequencer.hear(frame(0), at(2))
    sequencer.read([row(1), row(2), row(4)], span(0, 4), at(4, 3_000))
    sequencer.read([row(4)], span(3, 4), at(4, 5_000))
    assert [candle.origin for candle in publish(sequencer)] == ["live", "backfilled", "repaired", "repaired"]
    assert (sequencer.counts.repaired, sequencer.counts.absent) == (1, 1)


def test_ready_is_a_look_that_gives_no_more_than_asked_for() -> None:
    sequencer = new_sequencer()
    hear(sequencer, 0, 1, 2)
    assert sequencer.ready(at(3), 2) == sequencer.ready(at(3), 2)
    assert slots_of(publish(sequencer, most=2)) == [0, 1]
    assert slots_of(publish(sequencer, most=2)) == [2]


@pytest.mark.parametrize("received_at_ms", [0, at(0), at(1, -60_001), at(1), 2**53])
def test_ready_at_any_time_of_reception_gives_candles_that_readers_accept(received_at_ms: int) -> None:
    sequencer = new_sequencer()
    hear(sequencer, 0)
    assert why_invalid(sequencer.ready(received_at_ms, 1)[0]) == ""


def test_acknowledge_of_another_bar_than_the_next_is_a_broken_invariant() -> None:
    sequencer = new_sequencer()
    hear(sequencer, 0, 1)
    first, second = sequencer.ready(at(2), 100)
    with pytest.raises(ValueError, match=f"the next one is that of {START}"):
        sequencer.acknowledge([second])
    sequencer.acknowledge([first])
    with pytest.raises(ValueError, match="the next one is that of"):
        sequencer.acknowledge([first])


def test_hear_beyond_the_bound_drops_the_bar_and_asks_for_it_when_the_mark_has_moved() -> None:
    sequencer = new_sequencer()
    hear(sequencer, *range(12))
    assert sequencer.counts.dropped_beyond_bound == 2
    assert sequencer.missing(at(20)) is None
    assert slots_of(publish(sequencer, most=1)) == [0]
    assert sequencer.missing(at(12, 3_000)) == span(10, 12)


def test_kept_by_frames_is_what_the_next_sequencer_needs() -> None:
    before = new_sequencer()
    hear(before, 0, 2)
    before.read([row(1)], span(1, 1), at(3))
    assert before.kept() == [frame(0), frame(2)]
    after = new_sequencer()
    for kline in before.kept():
        after.hear(kline, at(3))
    assert slots_of(after.ready(at(4), 100)) == [0]
    assert after.missing(at(3, 3_000)) == span(1, 3)  # a row of REST is asked for again
    after.read([row(1)], span(1, 3), at(3, 3_000))
    assert [candle.origin for candle in publish(after)] == ["live", "repaired", "live"]
