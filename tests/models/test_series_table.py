from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import series_table
from models.errors import CandlewickError, InvalidMessage
from models.series import Series
from models.series_table import UNKNOWN, SeriesTable
from tests.models.candle_records import BTC, ETH, laws


def test_table_gives_rows_in_order_and_doubles_when_full() -> None:
    table = SeriesTable(capacity=1)
    series = [Series("binance", f"S{i}/USDT", timeframe) for i, timeframe in enumerate(["1m", "5m", "1h"])]
    assert [table.add(each.key, i) for i, each in enumerate(series)] == [0, 1, 2]
    assert table.capacity == 4
    assert table.series == series
    assert table.keys == [each.key for each in series]
    assert table.timeframe_ms[:3].tolist() == [60_000, 300_000, 3_600_000]
    assert table.partition.tolist() == [0, 1, 2, -1]
    assert table.rows.tolist() == [0, 1, 2]


def test_table_add_of_a_key_that_is_none_leaves_no_trace() -> None:
    table = SeriesTable()
    with pytest.raises(InvalidMessage):
        table.add(b"no series", 0)
    assert len(table.rows) == len(table.series) == 0


def test_table_find_of_an_unknown_series_says_so() -> None:
    table = SeriesTable()
    table.add(BTC.key, 0)
    found = table.find([0, 1, 0, 0, 0], [BTC.key, BTC.key, ETH.key, None, BTC.key])
    assert found.tolist() == [0, UNKNOWN, UNKNOWN, UNKNOWN, 0]


def test_table_drop_takes_rows_back_for_others() -> None:
    table = SeriesTable()
    for partition, series in [(0, BTC), (1, BTC), (0, ETH)]:
        table.add(series.key, partition)
    assert sorted(table.drop({0, 7}).tolist()) == [0, 2]
    assert table.rows.tolist() == [1]
    assert table.row(0, BTC.key) is None
    assert table.drop([]).dtype == np.intp
    assert {table.add(ETH.key, 4), table.add(BTC.key, 4)} == {0, 2}
    assert table.partition[:3].tolist() == [4, 1, 4]


@laws
@given(
    steps=st.lists(
        st.tuples(st.just("add"), st.integers(0, 3), st.integers(0, 9))
        | st.tuples(st.just("drop"), st.sets(st.integers(0, 3), max_size=2), st.none()),
        max_size=30,
    )
)
def test_table_agrees_with_a_plain_dictionary(steps: list[tuple[str, int | set[int], int | None]]) -> None:
    table, plain = SeriesTable(capacity=1), dict[tuple[int, bytes], int]()
    for what, where, number in steps:
        if isinstance(where, set):
            gone = {identity: row for identity, row in plain.items() if identity[0] in where}
            assert sorted(table.drop(where).tolist()) == sorted(gone.values())
            plain = {identity: row for identity, row in plain.items() if identity not in gone}
        else:
            assert what == "add"
            key = Series("x", f"S{number}", f"{(number or 0) + 1}m").key
            row = table.row(where, key)
            assert row == plain.get((where, key))
            plain[where, key] = table.add(key, where) if row is None else row
    assert len(set(plain.values())) == len(plain)
    assert sorted(table.rows.tolist()) == sorted(plain.values())
    for (partition, key), row in plain.items():
        assert (table.keys[row], table.partition[row]) == (key, partition)
        assert table.series[row].key == key
        assert table.timeframe_ms[row] == table.series[row].timeframe_ms


def test_table_with_too_many_series_says_so_and_has_room_again_once_a_partition_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(series_table, "MOST_SERIES", 2)
    table = SeriesTable()
    table.add(BTC.key, 0)
    table.add(ETH.key, 1)
    with pytest.raises(CandlewickError, match="would be series 3 of this process: mend the producer"):
        table.add(ETH.key, 2)
    table.drop({1})
    assert table.add(ETH.key, 2) == 1
