from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.candle_stats import dataset_stats, run_stats, stats_in_words
from models.errors import CandlewickError
from models.parquet_writing import write_dataset
from tests.models.test_parquet_writing import MINUTE, START, make_table

HOUR = 60 * MINUTE


def test_dataset_stats_count_candles_absent_bars_and_bytes(tmp_path: Path) -> None:
    table = make_table(bars=300, absent=0.1)
    write_dataset(table, tmp_path)
    stats = dataset_stats([tmp_path], START + 300 * MINUTE + 2 * HOUR)
    own = stats["series"][1]
    here = table.open_time_ms[table.present[1]]
    slots = (here[-1] - here[0]) // MINUTE + 1
    assert (own["exchange"], own["symbol"], own["timeframe"], own["files"]) == ("binance", "S1/USDT", "1m", 2)
    assert (own["rows"], own["absent"]) == (len(here), slots - len(here))
    assert own["absent_share"] == pytest.approx((slots - len(here)) / slots)
    assert (own["first_open_ms"], own["last_open_ms"]) == (here[0], here[-1])
    assert own["newest_age_ms"] == START + 300 * MINUTE + 2 * HOUR - here[-1] - MINUTE
    sizes = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    assert stats["totals"] == {
        "series": 2, "rows": table.rows, "absent": sum(each["absent"] for each in stats["series"]), "files": 4,
        "bytes": sizes,
    }  # fmt: skip


def test_stats_in_words_is_a_table_with_the_sum(tmp_path: Path) -> None:
    write_dataset(make_table(absent=0.0), tmp_path)
    head, first, *_, said = stats_in_words(dataset_stats([tmp_path], START + 303 * MINUTE)).splitlines()
    assert head.split() == ["exchange", "symbol", "bars", "first", "last", "candles", "absent", "share", "MB", "newest"]
    assert first.startswith("binance   S0/USDT  1m")
    assert first.endswith("3 min ago")
    assert said.startswith("600 candles of 2 series in 4 files, ")


def test_run_stats_of_a_file_that_no_folder_names_says_the_layout(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp_ms,symbol,open,high,low,close,volume\n")
    with pytest.raises(CandlewickError, match=r"a\.csv is no part of a dataset: .*exchange=binance/timeframe=1m/"):
        run_stats({"paths": [tmp_path]}, as_json=True)


def test_run_stats_of_a_half_written_part_names_it(tmp_path: Path) -> None:
    write_dataset(make_table(), tmp_path)
    path = next(tmp_path.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CandlewickError, match=r"part-0\.parquet cannot be read .*fetch or write it again"):
        run_stats({"paths": [tmp_path]}, as_json=True)


def test_run_stats_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(make_table(absent=0.0), tmp_path)
    run_stats({"paths": [tmp_path]}, as_json=True)
    assert json.loads(capsys.readouterr().out)["totals"]["rows"] == 600
