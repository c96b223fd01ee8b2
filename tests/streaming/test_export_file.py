"""The files of `candlewick export`, without Kafka."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from models.candle_files import read_candles
from models.decode import Columns
from models.series import Series
from streaming.export_file import into_file

MINUTE = 60_000
PRICE = 2 + 1 / 3  # takes every digit
SERIES = [Series("okx", "ZZZ/USDT", "1m"), Series("binance", "BTC/USDT", "1m"), Series("binance", "ADA/USDT", "1m")]


def columns(row: list[int], slot: list[int], price: float = 2.0) -> Columns:
    n = len(row)
    ohlcv = [np.full(n, price), np.full(n, price + 1), np.full(n, price - 1), np.full(n, price), np.arange(n) + 0.1]
    close_time_ms = MINUTE * (28_333_334 + np.array(slot, np.int64))
    here, zero = np.zeros(n, np.bool_), np.zeros(n, np.int64)
    origin = np.full(n, "live", object)
    return Columns._make([np.array(row, np.intp), zero, ~here, close_time_ms, *ohlcv, here, zero, origin])


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_into_file_of_any_kind_reads_back_the_same(tmp_path: Path, name: str) -> None:
    with into_file(tmp_path / name) as sink:
        sink(columns([1] * 20, list(range(1, 21))), SERIES[:2])  # a series is met when its first record comes
        sink(columns([], []), SERIES[:2])
        sink(columns([2, 1, 2, 1], [20, 21, 21, 22], price=PRICE), SERIES)
    table = read_candles([tmp_path / name])
    assert table.symbols == ("ADA/USDT", "BTC/USDT")
    assert table.open_time_ms[0] == MINUTE * 28_333_334
    assert table.rows == 24
    np.testing.assert_array_equal(table.ohlcv[:, 1, 21], [PRICE, PRICE + 1, PRICE - 1, PRICE, 3.1])


def test_into_file_parquet_is_one_sorted_table(tmp_path: Path) -> None:
    with into_file(tmp_path / "a.parquet") as sink:
        sink(columns([1, 2, 1, 2], [1, 1, 2, 2]), SERIES)
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column("symbol").to_pylist() == ["ADA/USDT"] * 2 + ["BTC/USDT"] * 2
    assert (np.diff(table.column("timestamp_ms").to_numpy().reshape(2, 2)) == MINUTE).all()


def test_into_file_parquet_of_nothing_is_an_empty_table(tmp_path: Path) -> None:
    with into_file(tmp_path / "a.parquet"):
        pass
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 0


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_into_file_that_fails_on_the_way_keeps_the_old_file(tmp_path: Path, name: str) -> None:
    with into_file(tmp_path / name) as sink:
        sink(columns([1], [1]), SERIES)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(IndexError), into_file(tmp_path / name) as sink:
        sink(columns([7], [1]), SERIES)  # a series that is not there
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: before}
