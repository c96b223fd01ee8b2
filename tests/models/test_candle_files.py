from __future__ import annotations

import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.candle_files import candle_paths, read_candles
from models.candle_table import Segment
from models.errors import CandlewickError

HEADER = "timestamp_ms,symbol,open,high,low,close,volume"
SAMPLE = Path(__file__).parents[2] / "streaming" / "sample"
MINUTE = 60_000
START = 1_700_000_040_000  # on the minute


def candle_lines(symbol: str = "BTCUSDT", bars: range = range(40), step: int = MINUTE) -> list[str]:
    return [f"{START + i * step},{symbol},{100 + i},{103 + i},{99 + i},{101 + i},{i + 0.5}" for i in bars]


def write(path: Path, lines: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_read_candles_of_one_file_keeps_every_number(tmp_path: Path) -> None:
    table = read_candles([write(tmp_path / "a.csv", candle_lines())])
    assert (table.exchange, table.timeframe, table.symbols) == ("binance", "1m", ("BTC/USDT",))
    assert table.open_time_ms.tolist() == [START + i * MINUTE for i in range(40)]
    assert table.close_time_ms[0] == START + MINUTE
    np.testing.assert_array_equal(table.ohlcv[:, 0, 7], [107, 110, 106, 108, 7.5])
    assert table.segments == ((Segment(0, 40),),)
    assert table.rejected == ()
    assert table.rows == 40


def test_read_candles_of_a_folder_joins_series_on_one_grid(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", candle_lines(bars=range(40)))
    write(tmp_path / "b.csv", candle_lines("ETH/USDT", range(10, 30)))
    write(tmp_path / "c.csv", candle_lines(bars=range(40, 50)))
    (tmp_path / "README.md").write_text("not candles")
    table = read_candles([tmp_path, tmp_path / "a.csv"])
    assert table.symbols == ("BTC/USDT", "ETH/USDT")
    assert table.ohlcv.shape == (5, 2, 50)
    assert table.segments == ((Segment(0, 50),), (Segment(10, 30),))
    assert np.flatnonzero(table.present[1]).tolist() == list(range(10, 30))


def test_read_candles_missing_bars_are_absent_inside_a_segment(tmp_path: Path) -> None:
    table = read_candles([write(tmp_path / "a.csv", candle_lines(bars=[*range(20), *range(25, 40)]))])  # type: ignore[arg-type]
    assert table.segments == ((Segment(0, 40),),)
    assert np.flatnonzero(~table.present[0]).tolist() == list(range(20, 25))


@pytest.mark.parametrize(("missing", "segments", "slots"), [(1_500, 1, 1_540), (1_501, 2, 40)])
def test_read_candles_silence_of_all_over_1500_bars_starts_a_segment(
    tmp_path: Path, missing: int, segments: int, slots: int
) -> None:
    lines = candle_lines(bars=range(20)) + candle_lines(bars=range(20 + missing, 40 + missing))
    table = read_candles([write(tmp_path / "a.csv", lines)])
    assert len(table.segments[0]) == segments
    assert len(table.open_time_ms) == slots
    assert len(table.blocks()) == segments


def test_read_candles_silence_of_one_series_keeps_the_grid_of_the_others(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", candle_lines(bars=range(2_000)))
    write(tmp_path / "b.csv", candle_lines("ETHUSDT", range(20)) + candle_lines("ETHUSDT", range(1_900, 2_000)))
    table = read_candles([tmp_path])
    assert table.segments == ((Segment(0, 2_000),), (Segment(0, 20), Segment(1_900, 2_000)))
    assert table.blocks() == [slice(0, 2_000)]


BAD_ROWS = {
    "word": (f"{START + 900 * MINUTE},BTCUSDT,one,3,1,2,1", "not a candle"),
    "short": (f"{START + 900 * MINUTE},BTCUSDT,1,3,1", "not a candle"),
    "nan": (f"{START + 900 * MINUTE},BTCUSDT,nan,3,1,2,1", "not finite"),
    "infinite": (f"{START + 900 * MINUTE},BTCUSDT,2,inf,1,2,1", "not finite"),
    "negative": (f"{START + 900 * MINUTE},BTCUSDT,2,3,-1,2,1", "not above zero"),
    "volume": (f"{START + 900 * MINUTE},BTCUSDT,2,3,1,2,-1", "volume is negative"),
    "high": (f"{START + 900 * MINUTE},BTCUSDT,2,1,3,2,1", "high is below low"),
    "open": (f"{START + 900 * MINUTE},BTCUSDT,4,3,1,2,1", "outside low..high"),
    "close": (f"{START + 900 * MINUTE},BTCUSDT,2,3,1,0.5,1", "outside low..high"),
    "grid": (f"{START + 900 * MINUTE + 1},BTCUSDT,2,3,1,2,1", "not on the grid"),
    "twice": (f"{START + 880 * MINUTE},BTCUSDT,2,3,1,2,1", "came before"),
    "order": (f"{START - 5 * MINUTE},BTCUSDT,2,3,1,2,1", "out of order"),
    "symbol": (f"{START + 900 * MINUTE},BTCXYZ,2,3,1,2,1", "no known quote"),
    "far": (f"{10**300},BTCUSDT,2,3,1,2,1", "not a time"),
    "past": (f"{-60000},BTCUSDT,2,3,1,2,1", "negative"),
    "empty": (f"{START + 900 * MINUTE},BTCUSDT,2,3,1,2,", "volume is not finite"),
    "bar in the symbol": (f"{START + 900 * MINUTE},A|B/USDT,2,3,1,2,1", "none of them a bar"),
    "no time": (",BTCUSDT,2,3,1,2,1", "not a candle"),
    "quote": (f'{START + 900 * MINUTE},"BTCUSDT,2,3,1,2,1', "not a candle"),
    "zero byte": (f"{START + 900 * MINUTE},BTCUSDT,2,3,1,2,1\0", "not a candle"),
    "microseconds": (f"{START * 1_000},BTCUSDT,2,3,1,2,1", "beyond the year 2200; it must be in UTC milliseconds"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_read_candles_bad_row_is_dropped_and_told_by_line(tmp_path: Path, case: str) -> None:
    bad, reason = BAD_ROWS[case]
    lines = [*candle_lines(bars=range(900)), bad, *candle_lines(bars=range(901, 1_000))]
    table = read_candles([write(tmp_path / "a.csv", lines)])
    (rejected,) = table.rejected
    assert (rejected.file.name, rejected.line) == ("a.csv", 902)
    assert reason in rejected.reason
    assert np.flatnonzero(~table.present[0]).tolist() == [900]


def test_read_candles_of_two_names_of_one_symbol_is_one_series(tmp_path: Path) -> None:
    lines = candle_lines(bars=range(20)) + candle_lines("BTC/USDT", range(19, 40))
    table = read_candles([write(tmp_path / "a.csv", lines)])
    assert (table.symbols, table.rows) == (("BTC/USDT",), 40)
    assert [(bad.line, bad.reason) for bad in table.rejected] == [(22, "a row of this symbol and time came before")]


@pytest.mark.parametrize("exchange", ["", "a|b"])
def test_read_candles_of_an_exchange_that_no_key_can_name_is_refused(tmp_path: Path, exchange: str) -> None:
    with pytest.raises(CandlewickError, match="is no exchange that a key can name"):
        read_candles([write(tmp_path / "a.csv", candle_lines())], exchange=exchange)


@pytest.mark.parametrize("nothing", ["nan", ""])
def test_read_candles_of_a_column_without_a_number_names_it(tmp_path: Path, nothing: str) -> None:
    lines = [line.rpartition(",")[0] + f",{nothing}" for line in candle_lines()]
    with pytest.raises(CandlewickError, match=r"a\.csv: no number in the whole column volume; mend or leave out"):
        read_candles([write(tmp_path / "a.csv", lines)])


def test_read_candles_with_the_newest_first_is_the_same(tmp_path: Path) -> None:
    lines = [line for pair in zip(candle_lines(), candle_lines("ETHUSDT"), strict=True) for line in pair]
    lines.insert(20, f"{START},BTCUSDT,no candle,3,1,2,1")
    table = read_candles([write(tmp_path / "a.csv", lines[::-1])])
    there = read_candles([write(tmp_path / "b.csv", lines)])
    np.testing.assert_array_equal(table.ohlcv, there.ohlcv)
    assert table.rows == 80
    assert [bad.line for bad in table.rejected] == [2 + len(lines) - 1 - 20]
    assert [bad.line for bad in there.rejected] == [2 + 20]


def test_read_candles_with_one_symbol_newest_first_and_one_not_is_refused(tmp_path: Path) -> None:
    lines = candle_lines()[::-1] + candle_lines("ETHUSDT")
    with pytest.raises(CandlewickError, match=r"39 of 80 rows cannot be used.*out of order"):
        read_candles([write(tmp_path / "a.csv", lines)])


ODD: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "dates": (lambda cells: ["2025-05-30T00:00:00Z", *cells[1:]], "'2025-05-30T00:00:00Z' is not a time in UTC milli"),
    "thousands": (lambda cells: [*cells[:2], '"1,000"', *cells[3:]], "could not convert string to float: '1,000'"),
    "swapped columns": (lambda cells: [*cells[:3], cells[4], cells[3], *cells[5:]], "high is below low"),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("bars", [5, 40])
def test_read_candles_of_which_none_can_be_used_tells_what_is_wrong_with_the_first(
    tmp_path: Path, case: str, bars: int
) -> None:
    change, reason = ODD[case]
    lines = [",".join(change(line.split(","))) for line in candle_lines(bars=range(bars))]
    with pytest.raises(CandlewickError, match=rf"line 2: .*{reason}"):
        read_candles([write(tmp_path / "a.csv", lines)])


def test_read_candles_in_microseconds_says_milliseconds(tmp_path: Path) -> None:
    lines = [line.replace(",", "000,", 1) for line in candle_lines()]
    with pytest.raises(CandlewickError, match=r"40 of 40 rows .*first line 2: .*must be in UTC milliseconds"):
        read_candles([write(tmp_path / "a.csv", lines)])


def test_read_candles_files_in_any_order_of_time_join(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", candle_lines(bars=range(30, 40)))
    write(tmp_path / "b.csv", candle_lines(bars=range(15)))
    write(tmp_path / "c.csv", candle_lines(bars=range(14, 30)))
    table = read_candles([tmp_path])
    np.testing.assert_array_equal(table.ohlcv[4, 0], np.arange(40) + 0.5)
    (bad,) = table.rejected
    assert (bad.file.name, bad.line, bad.reason) == ("c.csv", 2, "an earlier file has this symbol and time")


def test_read_candles_ten_bad_rows_are_dropped_eleven_refuse_the_file(tmp_path: Path) -> None:
    lines = candle_lines(bars=range(100))
    bad = [f"{START + i * MINUTE},BTCUSDT,nan,1,1,1,1" for i in range(100, 111)]
    assert len(read_candles([write(tmp_path / "a.csv", lines + bad[:10])]).rejected) == 10
    with pytest.raises(CandlewickError, match=r"a.csv: 11 of 111 rows cannot be used, first line 102"):
        read_candles([write(tmp_path / "a.csv", lines + bad)])


def test_read_candles_same_rows_in_two_files_names_the_later_file(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", candle_lines())
    write(tmp_path / "b.csv", candle_lines())
    with pytest.raises(CandlewickError, match=r"b.csv: 40 of 40 rows .* an earlier file has this symbol and time"):
        read_candles([tmp_path])


def test_read_candles_of_two_timeframes_names_the_odd_files(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", candle_lines())
    write(tmp_path / "b.csv", candle_lines("ETHUSDT", range(20), step=5 * MINUTE))
    with pytest.raises(CandlewickError, match=r"1m expected, but 5m in .*b.csv; read one timeframe"):
        read_candles([tmp_path])
    with pytest.raises(CandlewickError, match=r"5m expected, but 1m in .*a.csv"):
        read_candles([tmp_path], timeframe="5m")


def test_read_candles_in_seconds_says_milliseconds(tmp_path: Path) -> None:
    lines = [line.replace("000,", ",", 1) for line in candle_lines()]
    with pytest.raises(CandlewickError, match="must be the open time in UTC milliseconds"):
        read_candles([write(tmp_path / "a.csv", lines)])


def test_read_candles_single_row_needs_the_timeframe(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", candle_lines(bars=range(1)))
    with pytest.raises(CandlewickError, match="too few candles to tell their timeframe"):
        read_candles([path])
    assert read_candles([path], timeframe="1m").rows == 1


def test_read_candles_unknown_timeframe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CandlewickError, match="s m h d w"):
        read_candles([write(tmp_path / "a.csv", candle_lines())], timeframe="1 minute")


def test_read_candles_weekly_bars_open_on_monday(tmp_path: Path) -> None:
    week = 7 * 24 * 60 * MINUTE
    monday = 345_600_000 + 2_800 * week
    lines = [f"{monday + i * week},BTCUSDT,2,3,1,2,1" for i in range(20)]
    assert read_candles([write(tmp_path / "a.csv", lines)]).timeframe == "1w"


def test_candle_paths_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(CandlewickError, match=r"nowhere\.csv does not exist"):
        candle_paths([tmp_path / "nowhere.csv"])


def test_candle_paths_empty_folder_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(CandlewickError, match=r"holds no candle file; put \*.csv"):
        candle_paths([tmp_path])


def test_candle_paths_of_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.feather").write_bytes(b"x")
    with pytest.raises(CandlewickError, match="not a candle file"):
        candle_paths([tmp_path / "a.feather"])


def test_candle_paths_of_nothing_is_refused() -> None:
    with pytest.raises(CandlewickError, match="at least one"):
        candle_paths([])


def test_read_candles_without_header_shows_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", candle_lines()[1:], header=candle_lines()[0])
    with pytest.raises(CandlewickError, match=r"no column timestamp_ms.*header timestamp_ms,symbol,open"):
        read_candles([path])


def test_read_candles_header_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CandlewickError, match="no usable candle"):
        read_candles([write(tmp_path / "a.csv", [])], timeframe="1m")


def test_read_candles_cut_xz_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv.xz").write_bytes(lzma.compress(b"x" * 1_000)[:-20])
    with pytest.raises(CandlewickError, match="cannot be read"):
        read_candles([tmp_path / "a.csv.xz"])


def test_table_until_and_since_cut_at_closed_bars(tmp_path: Path) -> None:
    table = read_candles([write(tmp_path / "a.csv", candle_lines())])
    before, after = table.until(START + 10 * MINUTE), table.since(START + 10 * MINUTE)
    assert before.close_time_ms[-1] == START + 10 * MINUTE
    assert after.open_time_ms[0] == START + 10 * MINUTE
    assert before.rows + after.rows == table.rows
    assert (before.segments, after.segments) == (((Segment(0, 10),),), ((Segment(0, 30),),))


def test_table_only_keeps_the_named_symbols(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", candle_lines())
    write(tmp_path / "b.csv", candle_lines("ETHUSDT", range(10)))
    table = read_candles([tmp_path])
    assert table.only(["ETH/USDT"]).symbols == ("ETH/USDT",)
    assert table.only(["ETH/USDT"]).rows == 10
    with pytest.raises(CandlewickError, match=r"no candles of DOGE/USDT; the files hold BTC/USDT, ETH/USDT"):
        table.only(["DOGE/USDT"])


def test_sample_holds_ten_series_of_fourteen_whole_days_without_a_gap() -> None:
    table = read_candles([SAMPLE])
    assert len(table.symbols) == 10
    assert table.present.all()
    assert table.ohlcv.shape == (5, 10, 14 * 1_440)
    assert table.open_time_ms[0] % 86_400_000 == 0
    assert table.rejected == ()
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 3_000_000


def test_candle_files_import_nothing_heavy() -> None:
    code = "import sys, models.candle_files; sys.exit(bool({'torch', 'pandas', 'scipy', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=SAMPLE.parents[1], check=False).returncode == 0
