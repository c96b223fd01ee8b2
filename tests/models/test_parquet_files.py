from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from models.candle_files import read_candles
from models.errors import CandlewickError
from models.parquet_files import folder_keys, symbol_folder, symbol_named

MINUTE = 60_000
START = 1_699_999_800_000  # on five minutes
BARS = 40


def columns(symbol: str = "BTC/USDT", bars: int = BARS, step: int = MINUTE) -> dict[str, Any]:
    at = np.arange(bars)
    ohlcv = {"open": 100.0 + at, "high": 103.0 + at, "low": 99.0 + at, "close": 101.0 + at, "volume": at + 0.5}
    return {"timestamp_ms": START + step * at, "symbol": [symbol] * bars} | ohlcv


def write(path: Path, own: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(own), path)
    return path


def without(own: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: column for name, column in own.items() if name not in names}


def test_read_candles_of_parquet_keeps_every_number(tmp_path: Path) -> None:
    table = read_candles([write(tmp_path / "a.parquet", columns())])
    assert (table.exchange, table.timeframe, table.symbols, table.rejected) == ("binance", "1m", ("BTC/USDT",), ())
    assert table.open_time_ms.tolist() == columns()["timestamp_ms"].tolist()
    np.testing.assert_array_equal(table.ohlcv[:, 0, 7], [107, 110, 106, 108, 7.5])


TIMES = [pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "Asia/Tokyo")]


@pytest.mark.parametrize("kind", TIMES, ids=str)
@pytest.mark.parametrize("name", ["timestamp_ms", "timestamp"])
def test_read_parquet_of_any_time_type_is_the_same_instant(tmp_path: Path, kind: Any, name: str) -> None:
    instants = pa.array(columns()["timestamp_ms"]).cast(pa.timestamp("ms")).cast(pa.timestamp(kind.unit)).cast(kind)
    path = write(tmp_path / "a.parquet", {name: instants} | without(columns(), "timestamp_ms"))
    assert read_candles([path]).open_time_ms.tolist() == columns()["timestamp_ms"].tolist()


def test_read_parquet_of_other_types_and_encodings_is_the_same(tmp_path: Path) -> None:
    own = columns()
    own["timestamp_ms"] = own["timestamp_ms"].astype(np.uint64)
    own["symbol"] = pa.array(own["symbol"]).dictionary_encode()
    own["open"] = pa.array(own["open"].astype(int))
    own["close"] = pa.array(own["close"]).cast(pa.decimal128(10, 2))
    own["high"] = pa.array(own["high"]).cast(pa.float32())
    path = write(tmp_path / "a.parquet", own)
    plain = write(tmp_path / "b.parquet", columns())
    np.testing.assert_array_equal(read_candles([path]).ohlcv, read_candles([plain]).ohlcv)


@pytest.mark.parametrize(
    ("folder", "left_out"),
    [
        ("exchange=binance/timeframe=1m/symbol=BTC-USDT/month=2023-11", ("symbol",)),
        ("symbol=BTC%2FUSDT", ("symbol",)),
        ("symbol=BTCUSDT/exchange=binance", ("symbol",)),
        ("timeframe=1m", ()),
    ],
)
def test_read_candles_of_a_tree_takes_names_from_folders(tmp_path: Path, folder: str, left_out: tuple[str]) -> None:
    write(tmp_path / folder / "part-0.parquet", without(columns(), *left_out))
    table = read_candles([tmp_path])
    assert (table.symbols, table.rows, table.timeframe) == (("BTC/USDT",), BARS, "1m")


def test_read_candles_searches_no_plain_sub_folder(tmp_path: Path) -> None:
    write(tmp_path / "old" / "a.parquet", columns())
    with pytest.raises(CandlewickError, match=r"holds no candle file; put .*\*\.parquet.*only those named key=value"):
        read_candles([tmp_path])


def test_read_candles_of_mixed_exchanges_takes_the_one_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "exchange=binance/a.parquet", columns())
    write(tmp_path / "exchange=okx/a.parquet", columns("ETH/USDT"))
    assert read_candles([tmp_path]).symbols == ("BTC/USDT",)
    assert read_candles([tmp_path], exchange="okx").symbols == ("ETH/USDT",)
    with pytest.raises(CandlewickError, match=r"no candles of kraken; the folders hold binance, okx: name one"):
        read_candles([tmp_path], exchange="kraken")


def test_read_candles_of_an_exchange_column_takes_its_rows_only(tmp_path: Path) -> None:
    mixed = pa.concat_tables([
        pa.table({**columns(), "exchange": ["okx"] * BARS}),
        pa.table({**columns("ETH/USDT"), "exchange": ["binance"] * BARS}),
    ])  # fmt: skip
    parquet.write_table(mixed, tmp_path / "a.parquet")
    assert read_candles([tmp_path]).symbols == ("ETH/USDT",)


def test_read_candles_of_several_timeframes_reads_the_one_named(tmp_path: Path) -> None:
    write(tmp_path / "timeframe=1m/a.parquet", columns())
    write(tmp_path / "timeframe=5m/a.parquet", columns(step=5 * MINUTE))
    with pytest.raises(CandlewickError, match=r"several timeframes: 1m in .*; 5m in .*--timeframe"):
        read_candles([tmp_path])
    assert read_candles([tmp_path], timeframe="5m").timeframe == "5m"
    assert read_candles([tmp_path], timeframe="300s").rows == BARS
    with pytest.raises(CandlewickError, match="no candles of binance 1h; the folders hold"):
        read_candles([tmp_path], timeframe="1h")


def test_read_candles_of_a_timeframe_column_reads_the_one_named(tmp_path: Path) -> None:
    both = pa.concat_tables([
        pa.table({**columns(step=step * MINUTE), "timeframe": [f"{step}m"] * BARS}) for step in (1, 5)
    ])  # fmt: skip
    parquet.write_table(both, tmp_path / "a.parquet")
    with pytest.raises(CandlewickError, match=r"several timeframes: 1m, 5m; name one"):
        read_candles([tmp_path])
    assert read_candles([tmp_path], timeframe="1m").open_time_ms[-1] == START + (BARS - 1) * MINUTE


def test_read_candles_whose_spacing_is_not_the_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "timeframe=5m/a.parquet", columns())
    with pytest.raises(CandlewickError, match="5m expected, but 1m in"):
        read_candles([tmp_path])


def test_read_parquet_bad_rows_are_told_by_row(tmp_path: Path) -> None:
    own = columns(bars=1_000)
    own["timestamp_ms"] = pa.array([None if n == 3 else time for n, time in enumerate(own["timestamp_ms"].tolist())])
    own["close"][7] = np.nan
    own["symbol"][9] = None
    table = read_candles([write(tmp_path / "a.parquet", own)])
    assert [(bad.line, bad.symbol) for bad in table.rejected] == [(4, "BTC/USDT"), (8, "BTC/USDT"), (10, "")]
    assert [bad.reason for bad in table.rejected][:2] == [
        "the timestamp is missing or not a whole millisecond", "close is not finite",
    ]  # fmt: skip
    assert not table.present[0, [3, 7, 9]].any()


def test_read_parquet_time_finer_than_a_millisecond_is_rejected_not_rounded(tmp_path: Path) -> None:
    ticks = columns()["timestamp_ms"] * 1_000
    ticks[5] += 1
    own = {"timestamp_ms": pa.array(ticks).cast(pa.timestamp("us"))} | without(columns(), "timestamp_ms")
    (bad,) = read_candles([write(tmp_path / "a.parquet", own)]).rejected
    assert (bad.line, bad.reason) == (6, "the timestamp is missing or not a whole millisecond")


def test_read_parquet_cut_short_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", columns())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CandlewickError, match=r"a\.parquet cannot be read .*fetch or write it again"):
        read_candles([tmp_path])


def test_read_parquet_with_a_spoilt_page_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", columns(bars=5_000))
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    with pytest.raises(CandlewickError, match=r"a\.parquet cannot be read"):
        read_candles([tmp_path])


FOREIGN = {
    "columns": ({"date": [1], "price": [2.0]}, r"no column timestamp_ms, symbol, open, .*Rename them"),
    "no symbol": (without(columns(), "symbol"), "no column symbol"),
    "words": (columns() | {"open": ["one"] * BARS}, "open is string"),
    "bare time": (without(columns() | {"timestamp": columns()["timestamp_ms"]}, "timestamp_ms"), "timestamp is int64"),
    "float time": (columns() | {"timestamp_ms": columns()["timestamp_ms"] * 1.0}, "timestamp_ms is double"),
    "numbers for names": (columns() | {"symbol": [7] * BARS}, "symbol is int64"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_read_parquet_of_a_foreign_schema_names_columns_and_mend(tmp_path: Path, case: str) -> None:
    own, message = FOREIGN[case]
    with pytest.raises(CandlewickError, match=f"foreign Parquet file.*{message}"):
        read_candles([write(tmp_path / "a.parquet", own)])


def test_read_parquet_all_nan_column_is_named(tmp_path: Path) -> None:
    own = columns() | {"volume": np.full(BARS, np.nan)}
    with pytest.raises(CandlewickError, match=r"a\.parquet: no number in the whole column volume; mend"):
        read_candles([write(tmp_path / "a.parquet", own)])


def test_read_candles_leaves_out_a_partial_file_and_names_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "symbol=BTC-USDT/part-0.parquet", columns())
    (tmp_path / "symbol=BTC-USDT/part-1.parquet.partial").write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        assert read_candles([tmp_path]).rows == BARS
    assert "part-1.parquet.partial; write it again, or delete it" in caplog.text


def test_read_candles_of_an_empty_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {name: column[:0] for name, column in columns().items()} | {
        "symbol": pa.array([], pa.string())})  # fmt: skip
    with pytest.raises(CandlewickError, match="no usable candle"):
        read_candles([path], timeframe="1m")


names = st.text(st.sampled_from("ABC1/-:%_.=?"), min_size=1, max_size=12)


@given(symbol=names)
def test_symbol_folder_any_symbol_with_a_slash_reads_back(symbol: str) -> None:
    named = symbol if "/" in symbol else f"{symbol}/USDT"
    folder = symbol_folder(named)
    assert "/" not in folder
    assert symbol_named(folder_keys(Path("/data") / folder / "a.parquet")["symbol"]) == named


def test_symbol_folder_of_common_symbols_is_plain() -> None:
    assert symbol_folder("BTC/USDT") == "symbol=BTC-USDT"
    assert symbol_folder("BTC/USDT:USDT") == "symbol=BTC-USDT%3AUSDT"
