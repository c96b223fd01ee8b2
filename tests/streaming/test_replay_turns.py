from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.candle_table import MAX_ABSENT_RUN, CandleTable, build_table
from models.decode import why_invalid
from models.events import Candle, decode_candle
from models.series import Series, parse_key
from streaming.looking_back import Tail
from streaming.partition import partition_of
from streaming.replay import Progress, Turn, turns
from tests.models.candle_records import BTC, ETH, MINUTE, START_SLOT, laws
from tests.models.random_candles import random_ohlcv

PARTITIONS = 4
Told = dict[bytes, list[tuple[int, bool]]]  # by key: slot after the start, absent


def table_of(**slots: list[int]) -> CandleTable:
    """Candles of some symbols against USDT, closing so many slots after the start."""
    series = {}
    for number, (symbol, own) in enumerate(slots.items()):
        opens = (START_SLOT - 1 + np.array(own, np.int64)) * MINUTE
        series[f"{symbol}/USDT"] = (opens, random_ohlcv(number, 1, len(own))[:, 0])
    return build_table("binance", MINUTE, series)


def tail(slot: int) -> Tail:
    return Tail((START_SLOT + slot) * MINUTE, "replayed")


def told_in(some: list[Turn]) -> Told:
    """What is said of each series, in the order of its partition; every record is held to be in its place."""
    said: Told = defaultdict(list)
    for turn in some:
        for partition, messages in turn.messages.items():
            assert messages
            for message in messages:
                candle: Candle = decode_candle(message.value)
                assert why_invalid(candle) == ""
                assert parse_key(message.key) == (candle.exchange, candle.symbol, candle.timeframe)
                assert partition == partition_of(message.key, PARTITIONS)
                assert (message.timestamp_ms, candle.origin) == (candle.close_time_ms, "replayed")
                said[message.key].append((candle.close_time_ms // MINUTE - START_SLOT, candle.absent))
    return dict(said)


def told(table: CandleTable, tails: dict[bytes, Tail] | None = None, closes: int = 50) -> tuple[Told, Progress]:
    progress = Progress()
    return told_in(list(turns(table, tails or {}, PARTITIONS, closes, progress))), progress


def test_turns_of_a_table_say_every_candle_and_every_missing_bar_inside() -> None:
    said, progress = told(table_of(BTC=[0, 1, 2, 5, 6], ETH=[3, 4]))
    assert said[BTC.key] == [(0, False), (1, False), (2, False), (3, True), (4, True), (5, False), (6, False)]
    assert said[ETH.key] == [(3, False), (4, False)]
    assert (progress.candles, progress.absent, progress.left_out, progress.closes) == (7, 2, 0, 7)


def test_turns_carry_the_numbers_of_the_table() -> None:
    table = table_of(BTC=[0, 1])
    (turn,) = turns(table, {}, 1, 50, Progress())
    candles = [decode_candle(message.value) for message in turn.messages[0]]
    numbers = [(c.open, c.high, c.low, c.close, c.volume) for c in candles]
    np.testing.assert_array_equal(np.array(numbers, np.float64), table.ohlcv[:, 0].T)


@pytest.mark.parametrize(("closes", "wanted"), [(1, [1] * 5), (2, [2, 2, 1]), (50, [5])])
def test_turns_hold_so_many_closes(closes: int, wanted: list[int]) -> None:
    cut = list(turns(table_of(BTC=[0, 1, 2, 3, 4]), {}, PARTITIONS, closes, Progress()))
    assert [turn.closes for turn in cut] == wanted
    starts = np.cumsum([0, *wanted])
    assert [turn.first_close_ms for turn in cut] == [(START_SLOT + first) * MINUTE for first in starts[:-1].tolist()]
    assert [turn.last_close_ms for turn in cut] == [(START_SLOT + stop - 1) * MINUTE for stop in starts[1:].tolist()]


def test_turns_after_a_tail_leave_out_what_is_there() -> None:
    said, progress = told(table_of(BTC=list(range(10)), ETH=list(range(10))), {BTC.key: tail(6), ETH.key: tail(9)})
    assert said == {BTC.key: [(7, False), (8, False), (9, False)]}
    assert progress.left_out == 17


def test_turns_after_a_tail_in_the_middle_of_a_pause_say_the_rest_of_it() -> None:
    said, _ = told(table_of(BTC=[0, 1, 5, 6]), {BTC.key: tail(2)})
    assert said == {BTC.key: [(3, True), (4, True), (5, False), (6, False)]}


@pytest.mark.parametrize(
    ("missing", "declared"), [(0, 0), (3, 3), (MAX_ABSENT_RUN, MAX_ABSENT_RUN), (MAX_ABSENT_RUN + 1, 0)]
)
def test_turns_after_a_gap_behind_the_tail_declare_it_unless_it_is_too_long(missing: int, declared: int) -> None:
    said, progress = told(table_of(BTC=[0, 1]), {BTC.key: tail(-1 - missing)})
    assert said[BTC.key] == [*((slot, True) for slot in range(-declared, 0)), (0, False), (1, False)]
    assert progress.absent == declared


def test_turns_of_a_silence_too_long_for_absents_say_nothing_of_it() -> None:
    later = 2 + MAX_ABSENT_RUN + 1
    said, _ = told(table_of(BTC=[0, 1, later, later + 1], ETH=list(range(later + 2))))
    assert said[BTC.key] == [(slot, False) for slot in (0, 1, later, later + 1)]
    assert len(said[ETH.key]) == later + 2


def test_turns_where_nobody_has_anything_to_say_are_left_out() -> None:
    progress = Progress()
    cut = list(turns(table_of(BTC=list(range(6))), {BTC.key: tail(3)}, PARTITIONS, 2, progress))
    assert [turn.first_close_ms for turn in cut] == [(START_SLOT + 4) * MINUTE]
    assert progress.closes == 6


slots = st.sets(st.integers(0, 40), min_size=1, max_size=30).map(sorted)


@laws
@given(own=st.fixed_dictionaries({"BTC": slots, "ETH": slots, "SOL": slots}), data=st.data())
def test_turns_continue_every_series_without_a_gap_and_in_order(own: dict[str, list[int]], data: st.DataObject) -> None:
    tails = {
        Series("binance", f"{symbol}/USDT", "1m").key: tail(data.draw(st.integers(-5, 45)))
        for symbol in data.draw(st.sets(st.sampled_from(sorted(own))))
    }
    said, progress = told(table_of(**own), tails, closes=data.draw(st.integers(1, 50)))
    for symbol, present in own.items():
        key = Series("binance", f"{symbol}/USDT", "1m").key
        begin = (tails[key].close_time_ms // MINUTE - START_SLOT + 1) if key in tails else present[0]
        wanted = [(slot, slot not in present) for slot in range(begin, present[-1] + 1)]
        assert said.get(key, []) == wanted
    assert progress.candles + progress.absent == sum(map(len, said.values()))


@laws
@given(own=st.fixed_dictionaries({"BTC": slots, "ETH": slots}), closes=st.integers(1, 50))
def test_turns_are_in_order_of_time_within_every_partition(own: dict[str, list[int]], closes: int) -> None:
    newest: dict[int, int] = {}
    for turn in turns(table_of(**own), {}, 1, closes, Progress()):
        for partition, messages in turn.messages.items():
            times = [newest.get(partition, 0), *(message.timestamp_ms for message in messages)]
            assert times == sorted(times)
            newest[partition] = times[-1]
