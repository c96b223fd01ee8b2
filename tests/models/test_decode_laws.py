"""The verdict on a record depends on that record alone, and the fast judge agrees with the one that gives reasons."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from models.decode import (
    LEAST_PRICE,
    MOST_PRICE,
    MOST_VOLUME,
    Columns,
    Reject,
    _broken,
    _numbers,
    decode_batch,
    why_invalid,
)
from models.errors import InvalidMessage
from models.events import Candle
from models.series import Series, timeframe_ms
from models.series_table import SeriesTable
from tests.models.any_event import any_event
from tests.models.candle_records import (
    BTC,
    ETH,
    MINUTE,
    START_SLOT,
    Record,
    laws,
    make_absent,
    make_batch,
    make_candle,
    record_of,
)
from tests.models.poison import CLOSE_MS, GOOD, POISON

HALF = len(GOOD) // 2


def readable(table: SeriesTable, columns: Columns) -> list[tuple[Any, ...]]:
    """Candles as tuples that compare equal: rows as what they stand for, numbers as text, so that NaN is itself."""
    cells = [map(str, column.tolist()) for column in columns[1:]]
    homes = [(table.keys[row], int(table.partition[row])) for row in columns.row.tolist()]
    return list(zip(homes, *cells, strict=True))


OTHERS = [record_of(make_candle(series, START_SLOT + i, revision=i)) for series in (BTC, ETH) for i in range(2)]
OTHERS += [record_of(make_absent(ETH)), record_of(make_candle(), partition=2)]
CONSPIRATORS = [  # parts that are whole only when a separator is put between them
    Record(BTC.key, GOOD[:HALF]),
    Record(BTC.key, GOOD[HALF:]),
    Record(BTC.key, GOOD + b"," + GOOD[:-1]),
    Record(BTC.key, b'"x":0}'),
    Record(BTC.key, GOOD + GOOD[:-1] + b',"x":['),
    Record(BTC.key, b"1]}"),
    Record(BTC.key, b" "),
]
any_record = st.sampled_from(OTHERS + CONSPIRATORS + [record for record, _ in POISON.values()])


@laws
@given(records=st.lists(any_record, max_size=12), resume=st.integers(0, 6))
@example(records=CONSPIRATORS[2:4], resume=0)
@example(records=CONSPIRATORS[4:6], resume=0)
@example(records=OTHERS, resume=0)
def test_verdict_on_a_record_is_the_same_in_any_company(records: list[Record], resume: int) -> None:
    table, alone = SeriesTable(capacity=1), []
    columns, rejects = decode_batch(table, make_batch(records, resume=resume))
    reasons: list[Reject] = []
    rows = set()
    for at, record in enumerate(records):
        fresh = SeriesTable()
        candles, refused = decode_batch(fresh, make_batch([record], [at], resume=resume))
        alone += readable(fresh, candles)
        reasons += [Reject(at, reject.reason) for reject in refused]
        rows |= {(fresh.keys[row], record.partition) for row in candles.row.tolist()}
    assert readable(table, columns) == alone
    assert rejects == reasons
    assert len(table.rows) == len(rows)
    again, rejects_again = decode_batch(table, make_batch(records, resume=resume))  # now that every series is known
    assert readable(table, again) == alone
    assert rejects_again == rejects


odd_numbers = st.sampled_from(
    [None, 0.0, -0.0, -1.0, 5e-324, LEAST_PRICE, LEAST_PRICE / 2, 99.25, 100.0, 101.0, 102.5, 103.0, MOST_PRICE,
     2 * MOST_PRICE, MOST_VOLUME, 2 * MOST_VOLUME, math.inf, -math.inf, math.nan]
)  # fmt: skip
odd_times = st.sampled_from(
    [0, 1, CLOSE_MS - MINUTE, CLOSE_MS - 60_001, CLOSE_MS - 1, CLOSE_MS, CLOSE_MS + MINUTE, 2**53]
)
oddities = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("open", "high", "low", "close", "volume"), odd_numbers),
        **dict.fromkeys(("open_time_ms", "close_time_ms", "received_at_ms"), odd_times),
        "v": st.sampled_from([0, 1, 2, 2**31]),
        "absent": st.booleans(),
        "revision": st.integers(0, 3),
    },
)
lengths = st.sampled_from(["1m", "5m", "7m", "1d", "25h", "3d", "1w", "1s"])


@st.composite
def odd_candles(draw: st.DrawFn) -> Candle:
    series = Series("binance", "BTC/USDT", draw(lengths))
    slot = CLOSE_MS // series.timeframe_ms + draw(st.integers(0, 2))
    make = draw(st.sampled_from([make_candle, make_absent]))
    candle: Candle = msgspec.structs.replace(make(series, slot), **draw(oddities))
    return candle


@laws
@given(candle=odd_candles() | any_event(Candle))
def test_broken_and_why_invalid_agree_on_every_candle(candle: Candle) -> None:
    reason = why_invalid(candle)
    try:
        length_ms = timeframe_ms(candle.timeframe)
    except InvalidMessage:
        assert reason.startswith("timeframe ")
    else:
        assert _broken(_numbers([candle]), np.array([length_ms])).tolist() == [reason != ""]


@laws
@given(candles=st.lists(odd_candles(), min_size=1, max_size=8))
def test_broken_of_many_is_that_of_each(candles: list[Candle]) -> None:
    length_ms = np.array([timeframe_ms(candle.timeframe) for candle in candles])
    each = [_broken(_numbers([candle]), length_ms[i : i + 1]).item() for i, candle in enumerate(candles)]
    assert _broken(_numbers(candles), length_ms).tolist() == each
