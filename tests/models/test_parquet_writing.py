from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import dataset, parquet

from models.candle_files import read_candles
from models.candle_table import CandleTable, build_table
from models.errors import CandlewickError
from models.parquet_writing import write_dataset
from tests.models.random_candles import random_ohlcv

MINUTE = 60_000
START = 1_748_736_000_000 - 100 * MINUTE  # 100 bars before 2025-06-01 00:00 UTC
PART = "exchange=binance/timeframe=1m/symbol=S0-USDT/month=2025-05/part-0.parquet"


def make_table(bars: int = 300, absent: float = 0.1, first: int = 0, seed: int = 0) -> CandleTable:
    ohlcv = random_ohlcv(seed, 2, first + bars, absent)[:, :, first:]
    times = START + MINUTE * np.arange(first, first + bars)
    here = np.isfinite(ohlcv[3])
    return build_table(
        "binance", MINUTE, {f"S{i}/USDT": (times[here[i]], ohlcv[:, i, here[i]]) for i in range(2)}
    )  # fmt: skip


def parts(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(one: CandleTable, other: CandleTable) -> None:
    assert (one.symbols, one.segments, one.rejected) == (other.symbols, other.segments, other.rejected)
    np.testing.assert_array_equal(one.open_time_ms, other.open_time_ms)
    np.testing.assert_array_equal(one.ohlcv, other.ohlcv)


def test_write_dataset_reads_back_the_same_table_laid_out_by_month(tmp_path: Path) -> None:
    table = make_table()
    write_dataset(table, tmp_path / "d")
    assert_same(read_candles([tmp_path / "d"]), table)
    months = [PART.replace("05/", f"{month}/").replace("S0", name) for month in ("05", "06") for name in ("S0", "S1")]
    assert sorted(parts(tmp_path / "d")) == sorted(months)


def test_write_dataset_part_is_a_sorted_zstd_candle_file_of_its_own(tmp_path: Path) -> None:
    write_dataset(make_table(), tmp_path / "d")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "d" / PART).read_bytes())
    file = parquet.ParquetFile(tmp_path / "a.parquet")
    assert file.schema_arrow.names == ["timestamp_ms", "symbol", "open", "high", "low", "close", "volume"]
    assert file.metadata.row_group(0).column(2).compression == "ZSTD"
    times = file.read().column("timestamp_ms").to_numpy()
    assert (np.diff(times) > 0).all()
    assert read_candles([tmp_path / "a.parquet"]).symbols == ("S0/USDT",)


def test_write_dataset_is_read_by_arrow_itself(tmp_path: Path) -> None:
    table = make_table()
    write_dataset(table, tmp_path / "d")
    found = dataset.dataset(tmp_path / "d", partitioning="hive").to_table(columns=["close", "exchange", "month"])
    assert found.num_rows == table.rows
    assert set(found.column("month").to_pylist()) == {"2025-05", "2025-06"}


def test_write_dataset_twice_is_the_same_to_the_last_byte(tmp_path: Path) -> None:
    write_dataset(make_table(), tmp_path / "d")
    first = parts(tmp_path / "d")
    write_dataset(make_table(), tmp_path / "d")
    assert parts(tmp_path / "d") == first


def test_write_dataset_in_overlapping_pieces_is_the_whole(tmp_path: Path) -> None:
    whole = make_table(absent=0.0)
    for first, stop in ((0, 150), (120, 300), (50, 80)):
        write_dataset(whole.since(START + first * MINUTE).until(START + stop * MINUTE), tmp_path / "d")
    assert_same(read_candles([tmp_path / "d"]), whole)


def test_write_dataset_new_candle_of_an_old_time_stands(tmp_path: Path) -> None:
    table = make_table(absent=0.0)
    write_dataset(table, tmp_path / "d")
    changed = table.ohlcv * 2
    write_dataset(replace(table, ohlcv=changed).until(START + 10 * MINUTE), tmp_path / "d")
    read = read_candles([tmp_path / "d"])
    np.testing.assert_array_equal(read.ohlcv[:, :, :10], changed[:, :, :10])
    np.testing.assert_array_equal(read.ohlcv[:, :, 10:], table.ohlcv[:, :, 10:])


def test_write_dataset_over_a_half_written_part_mends_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = make_table()
    partial = tmp_path / "d" / (PART + ".partial")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"half")
    write_dataset(table, tmp_path / "d")
    with caplog.at_level(logging.WARNING):
        assert_same(read_candles([tmp_path / "d"]), table)
    assert caplog.text == ""


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file may grow larger, which to a writer is what a full disk is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_dataset_with_the_disk_full_keeps_the_old_parts(tmp_path: Path) -> None:
    write_dataset(make_table().until(START + 20 * MINUTE), tmp_path / "d")
    before = parts(tmp_path / "d")
    with at_most(2_000), pytest.raises(CandlewickError, match=r"cannot be written \(File too large\); free some space"):
        write_dataset(make_table(), tmp_path / "d")
    assert parts(tmp_path / "d") == before


def test_write_dataset_into_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("x")
    with pytest.raises(CandlewickError, match=r"holds prices\.csv and is no dataset of ours; write into an empty"):
        write_dataset(make_table(), tmp_path)
    with pytest.raises(CandlewickError, match="is a file; name a folder"):
        write_dataset(make_table(), tmp_path / "prices.csv")


def test_write_dataset_over_a_part_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / PART
    path.parent.mkdir(parents=True)
    parquet.write_table(pa.table({"time": [1], "price": [2.0]}), path)
    before = path.read_bytes()
    with pytest.raises(CandlewickError, match=r"foreign Parquet file: no column timestamp_ms.*leave out the file"):
        write_dataset(make_table(), tmp_path)
    assert path.read_bytes() == before


def test_write_dataset_beside_parts_of_another_writer_is_refused(tmp_path: Path) -> None:
    path = (tmp_path / PART).with_name("part-7.parquet")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    with pytest.raises(CandlewickError, match=r"holds part-7\.parquet, of another writer; write into another folder"):
        write_dataset(make_table(), tmp_path)


def test_write_dataset_over_a_part_of_another_symbol_is_refused(tmp_path: Path) -> None:
    write_dataset(make_table(), tmp_path)
    (tmp_path / PART).replace(tmp_path / PART.replace("S0", "S1"))
    with pytest.raises(CandlewickError, match="holds S0/USDT instead of S1/USDT"):
        write_dataset(make_table(), tmp_path)


def test_write_dataset_takes_no_made_up_candles(tmp_path: Path) -> None:
    table = make_table()
    with pytest.raises(CandlewickError, match="made-up"):
        write_dataset(replace(table, injected=table.present), tmp_path / "d")
    assert not (tmp_path / "d").exists()
