"""The verdict on a record depends on that record alone, and the fast judge agrees with the one that gives reasons."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.candle_kernel import ORIGINS
from models.decode import (
    LEAST_PRICE,
    MOST_PRICE,
    MOST_VOLUME,
    Columns,
    Reject,
    _decode_one_by_one,
    _read_at_once,
    decode_batch,
    why_invalid,
)
from models.errors import InvalidMessage
from models.events import Candle, encode
from models.series import Series
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

OMEGA = Series("binance", "Ω/USDT", "1m")
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
def test_verdict_on_any_candle_is_what_why_invalid_says(candle: Candle) -> None:
    """Whether it is read at once, by a series that is known, or with care, by one that is not."""
    key = f"{candle.exchange}|{candle.symbol}|{candle.timeframe}".encode()
    table, fresh = SeriesTable(), SeriesTable()
    try:
        table.add(key, 0)
    except InvalidMessage as error:
        reason = str(error)
    else:
        reason = why_invalid(candle)
    batch = make_batch([Record(key, encode(candle))])
    columns, rejects = decode_batch(table, batch)
    again, rejects_again = decode_batch(fresh, batch)
    assert rejects == rejects_again
    assert readable(table, columns) == readable(fresh, again)
    assert [len(columns.row), len(rejects)] == ([0, 1] if reason else [1, 0])
    if not reason:
        wanted = (candle.close_time_ms, candle.open, candle.close, candle.volume, candle.revision, candle.origin)
        found = (columns.close_time_ms, columns.open, columns.close, columns.volume, columns.revision)
        read = [*(column[0] for column in found), ORIGINS[columns.origin[0]]]
        assert [None if value != value else value for value in read] == list(wanted)  # noqa: PLR0124 - NaN


@laws
@given(
    digits=st.integers(1, 10**18), point=st.integers(0, 20), style=st.sampled_from(["", "e", "E"]),
    exponent=st.integers(-30, 30),
)  # fmt: skip
@example(digits=2**53, point=0, style="", exponent=0)
@example(digits=2**53 + 1, point=0, style="", exponent=0)
@example(digits=30_000_000_000_000_004, point=17, style="", exponent=0)
@example(digits=1, point=0, style="e", exponent=-15)
def test_number_is_read_as_the_nearest_float_however_it_is_written(
    digits: int, point: int, style: str, exponent: int
) -> None:
    text = str(digits).zfill(point + 1)
    text = f"{text[: len(text) - point]}.{text[len(text) - point :]}" if point else text
    text += f"{style}{exponent}" if style else ""
    table = SeriesTable()
    table.add(BTC.key, 0)
    record = Record(BTC.key, GOOD.replace(b'"volume":12.5', f'"volume":{text}'.encode()))
    columns, rejects = decode_batch(table, make_batch([record]))
    assert columns.volume.tolist() == ([float(text)] if 0 <= float(text) <= MOST_VOLUME else [])
    assert len(columns.row) + len(rejects) == 1


def test_what_our_encoder_writes_is_read_at_once() -> None:
    candles = [
        make_candle(series, START_SLOT + slot, volume=volume, origin=origin, revision=slot)
        for slot, origin in enumerate(ORIGINS)
        for series in (BTC, ETH, OMEGA)
        for volume in (0.0, 1e-8, 123_456.789, 1e15, 0.1)
    ]
    table = SeriesTable()
    for series in (BTC, ETH, OMEGA):
        table.add(series.key, 0)
    _, good = _read_at_once(table, make_batch([record_of(candle) for candle in candles]).side_by_side())
    assert good.all()


@pytest.mark.parametrize("other", [b" ", b"x", b"0", b"-", b".", b"e", b'"', b"}", b","])
def test_one_byte_too_many_or_another_never_passes_for_the_candle(other: bytes) -> None:
    """Whatever is changed in the record: it is read as `decode_candle` reads it, or refused as it refuses it."""
    table = SeriesTable()
    table.add(BTC.key, 0)
    forged = [GOOD[:at] + other + GOOD[at + cut :] for at in range(len(GOOD) + 1) for cut in (0, 1)]
    forged += [GOOD[:at] + GOOD[at + 1 :] for at in range(len(GOOD))]
    batch = make_batch([Record(BTC.key, value) for value in forged]).side_by_side()
    columns, rejects = decode_batch(table, batch)
    careful, _, refused = _decode_one_by_one(table, batch, list(range(len(forged))))
    assert rejects == refused
    assert readable(table, columns) == readable(table, careful)
