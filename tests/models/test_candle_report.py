from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models.candle_files import judge_candles, read_candles
from models.candle_report import candle_report, in_words, run_check
from models.candle_table import CandleTable, RejectedRow, build_table
from models.errors import CandlewickError
from tests.models.test_candle_files import BAD_ROWS, MINUTE, START, candle_lines, write

DATA = Path(__file__).parents[3] / "shared" / "data" / "binance_spot_1m"
OPTIONS = {"exchange": "binance", "timeframe": None}


def table_of(slots: list[int], close: list[float] | None = None, volume: float = 1.0) -> CandleTable:
    times = START + MINUTE * np.array(slots, np.int64)
    price = np.array(close or range(1, len(slots) + 1), np.float64)
    ohlcv = np.stack([price, price, price, price, np.full(len(slots), volume)])
    return build_table("binance", MINUTE, {"AAA/USDT": (times, ohlcv)})


def test_candle_report_of_gaps_counts_them_and_times_the_longest() -> None:
    own = candle_report(table_of([0, 1, 4, 5, 10, 2_000, 2_001]))["symbols"]["AAA/USDT"]
    assert own["gaps"] == {
        "count": 3,
        "missing_bars": 2 + 4 + 1_989,
        "longest_bars": 1_989,
        "longest_from_ms": START + 11 * MINUTE,
    }
    assert (own["rows"], own["first_open_ms"], own["last_open_ms"]) == (7, START, START + 2_001 * MINUTE)
    assert (own["segments"], own["longest_segment_bars"]) == (2, 11)
    assert own["absent_share"] == pytest.approx(6 / 13)


def test_candle_report_without_a_gap_says_none() -> None:
    report = candle_report(table_of([0, 1, 2]))
    assert report["symbols"]["AAA/USDT"]["gaps"] == {
        "count": 0, "missing_bars": 0, "longest_bars": 0, "longest_from_ms": None,
    }  # fmt: skip
    assert "missing in" not in in_words(report)


def test_candle_report_ties_are_equal_closes_of_neighbours_only() -> None:
    own = candle_report(table_of([0, 1, 2, 9], [5.0, 5.0, 6.0, 6.0]))["symbols"]["AAA/USDT"]
    assert own["ties"] == 0.5
    assert not own["constant"]


def test_candle_report_of_a_standing_price_names_the_mend() -> None:
    report = candle_report(table_of([0, 1, 2], [5.0] * 3, volume=0.0))
    own = report["symbols"]["AAA/USDT"]
    assert (own["constant"], own["ties"], own["zero_volume_bars"]) == (True, 1.0, 3)
    assert "its price never changes: nothing can be learned from it, leave it out" in in_words(report)


def test_candle_report_counts_rejected_rows_by_symbol_and_reason(tmp_path: Path) -> None:
    lines = candle_lines(bars=range(900)) + [row for row, _ in BAD_ROWS.values()][:9]
    table = read_candles([write(tmp_path / "a.csv", lines)])
    report = candle_report(table)
    own = report["symbols"]["BTC/USDT"]["rejected"]
    assert own["open or close lies outside low..high"] == 2
    assert sum(own.values()) == 7  # two could not be read: nobody knows whose they are
    assert sum(report["totals"]["rejected"].values()) == 9
    assert json.loads(json.dumps(report)) == report


def test_candle_report_of_counts_prefers_them_to_the_list_in_the_table() -> None:
    table = build_table(
        "binance", MINUTE, {"AAA/USDT": (np.array([START]), np.ones((5, 1)))}, [RejectedRow(Path("a"), 2, "x", "")]
    )
    assert candle_report(table)["totals"]["rejected"] == {"x": 1}
    counts = Counter({("", "x"): 7, ("AAA/USDT", "x"): 1, ("AAA/USDT", "y"): 2})
    report = candle_report(table, counts)
    assert report["totals"]["rejected"] == {"x": 8, "y": 2}
    assert report["symbols"]["AAA/USDT"]["rejected"] == {"x": 1, "y": 2}


def test_candle_report_of_an_empty_cut_is_all_nothing() -> None:
    report = candle_report(table_of([0, 1]).until(START))
    assert (report["totals"]["rows"], report["totals"]["first_open_ms"]) == (0, None)
    assert "never to never" in in_words(report)


def test_judge_candles_goes_on_where_read_candles_refuses(tmp_path: Path) -> None:
    lines = candle_lines(bars=range(100))
    bad = [f"{START + i * MINUTE},BTCUSDT,nan,1,1,1,1" for i in range(100, 1_700)]
    path = write(tmp_path / "a.csv", lines + bad)
    judged = judge_candles([path])
    assert judged.rejections == {("BTC/USDT", "open is not finite"): 1_600}
    assert len(judged.table.rejected) == 1_000
    assert judged.refused == [
        f"{path}: 1600 of 1700 rows cannot be used, first line 102: open is not finite; mend or leave out the file"
    ]
    with pytest.raises(CandlewickError, match="1600 of 1700"):
        read_candles([path])


def test_run_check_prints_one_object_and_refuses_after_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "a.csv", candle_lines())
    run_check(OPTIONS | {"paths": [good]}, as_json=True)
    assert json.loads(capsys.readouterr().out)["refused"] == []
    bad = [f"{START + i * MINUTE},ETHUSDT,nan,1,1,1,1" for i in range(40, 60)]
    write(tmp_path / "b.csv", candle_lines("ETHUSDT") + bad)
    with pytest.raises(CandlewickError, match=r"b\.csv: 20 of 60 rows cannot be used"):
        run_check(OPTIONS | {"paths": [tmp_path]}, as_json=False)
    out = capsys.readouterr().out
    assert "80 candles of 2 series of binance 1m" in out
    assert "  rejected 20: open is not finite" in out
    assert "refused: " in out


def test_candle_report_of_2020_finds_both_outages_of_the_exchange() -> None:
    file = DATA / "BTCUSDT_2020covid.csv.xz"
    if not file.exists():
        pytest.skip(f"{file.name} of the shared data is not here; the outages of 2020 go untested")
    own = candle_report(read_candles([file]))["symbols"]["BTC/USDT"]
    assert own["rows"] == 87_358
    assert own["gaps"] == {
        "count": 2, "missing_bars": 482, "longest_bars": 354, "longest_from_ms": 1_582_112_160_000,
    }  # fmt: skip
    assert own["segments"] == 1
