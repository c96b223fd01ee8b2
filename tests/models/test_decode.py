from __future__ import annotations

import re

import numpy as np
import pytest

from models.candle_kernel import ORIGINS
from models.decode import LEAST_PRICE, MAX_REASON, MOST_PRICE, MOST_VOLUME, decode_batch
from models.events import Candle, DeadLetter, encode
from models.series import Series
from models.series_table import SeriesTable
from tests.models.candle_records import (
    BTC,
    ETH,
    MINUTE,
    START_SLOT,
    Record,
    make_absent,
    make_batch,
    make_candle,
    record_of,
)
from tests.models.poison import CLOSE_MS, GOOD, POISON


def known_table(*series: Series) -> SeriesTable:
    table = SeriesTable(capacity=1)
    for each in series:
        table.add(each.key, 0)
    return table


@pytest.mark.parametrize("kind", POISON)
@pytest.mark.parametrize("known", [True, False])
def test_decode_batch_of_a_poison_gives_its_reason_and_no_row(kind: str, known: bool) -> None:
    record, reason = POISON[kind]
    table = known_table(BTC, ETH) if known else SeriesTable()
    columns, rejects = decode_batch(table, make_batch([record]))
    assert len(columns.row) == 0
    assert [reject.position for reject in rejects] == [0]
    assert re.search(reason, rejects[0].reason), rejects[0].reason
    assert len(rejects[0].reason) <= MAX_REASON
    assert len(table.series) == (2 if known else 0)


def test_decode_batch_of_good_candles_gives_their_columns() -> None:
    weekly = Series("kraken", "SOL/EUR", "1w")
    candles = [
        make_candle(),
        make_absent(ETH, START_SLOT + 1),
        make_candle(weekly, 2_800, revision=3, origin="repaired"),
    ]
    table = SeriesTable()
    columns, rejects = decode_batch(table, make_batch([record_of(c) for c in candles], [10, 20, 21], resume=20))
    assert rejects == []
    assert [table.series[row] for row in columns.row.tolist()] == [BTC, ETH, weekly]
    assert table.timeframe_ms[columns.row].tolist() == [MINUTE, MINUTE, 604_800_000]
    assert columns.offset.tolist() == [10, 20, 21]
    assert columns.speaks.tolist() == [False, True, True]
    assert columns.close_time_ms.tolist() == [candle.close_time_ms for candle in candles]
    for name in ("open", "high", "low", "close", "volume"):
        wanted = [getattr(candle, name) for candle in candles]
        np.testing.assert_array_equal(getattr(columns, name), np.array(wanted, np.float64))
    assert columns.absent.tolist() == [False, True, False]
    assert columns.revision.tolist() == [0, 0, 3]
    assert [ORIGINS[origin] for origin in columns.origin.tolist()] == ["live", "live", "repaired"]


def test_decode_batch_of_nothing_is_nothing() -> None:
    columns, rejects = decode_batch(SeriesTable(), make_batch([]))
    assert rejects == []
    assert all(len(column) == 0 for column in columns)


@pytest.mark.parametrize(
    "candle",
    [
        make_candle(open=5e-9, high=5e-9, low=5e-9, close=5e-9, volume=0.0),
        make_candle(open=LEAST_PRICE, high=MOST_PRICE, low=LEAST_PRICE, close=MOST_PRICE, volume=MOST_VOLUME),
        make_candle(received_at_ms=CLOSE_MS - 60_000),
        make_candle(Series("binance", "BTC/USDT", "1w"), 2_800, open_time_ms=345_600_000, close_time_ms=950_400_000),
        make_candle(Series("binance", "BTC/USDT", "3d"), 6_000, open_time_ms=86_400_000, close_time_ms=345_600_000),
        make_candle(Series("binance", "BTC/USDT", "1s"), 7),
        make_candle(Series("binance", "Ω|USDT".replace("|", "/"), "60s")),
    ],
)
def test_decode_batch_at_the_edge_of_a_rule_accepts(candle: Candle) -> None:
    columns, rejects = decode_batch(SeriesTable(), make_batch([record_of(candle)]))
    assert rejects == []
    assert columns.close_time_ms.tolist() == [candle.close_time_ms]


def test_decode_batch_of_one_key_on_two_partitions_makes_two_series() -> None:
    table = SeriesTable()
    records = [
        record_of(make_candle(slot=START_SLOT + i), partition=partition) for i, partition in enumerate([3, 5, 3])
    ]
    columns, rejects = decode_batch(table, make_batch(records))
    assert rejects == []
    assert columns.row[0] == columns.row[2] != columns.row[1]
    assert table.partition[columns.row].tolist() == [3, 5, 3]


def test_reason_of_a_huge_key_is_short_and_can_be_published() -> None:
    _, rejects = decode_batch(SeriesTable(), make_batch([Record(b"\xff" * 1_000_000, GOOD)]))
    letter = DeadLetter(
        value_base64=None, key_base64=None, reason=rejects[0].reason, topic="candles", partition=0, offset=0
    )
    assert len(encode(letter)) < 1_000
