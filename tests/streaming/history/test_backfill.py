from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from models.candle_files import read_candles
from models.errors import CandlewickError
from models.kline import Kline, Span
from streaming.history.backfill import BackfillOptions, Order, _times, backfill, wanted_span
from streaming.history.patience import Patience
from tests.eventually import eventually
from tests.streaming.history.paged_exchange import DAY, FIRST, LAST, MAY, MINUTE, PagedExchange, bar_at, order

ROOT = Path(__file__).parents[3]
PART = "exchange=example/timeframe=1m/symbol=BTC-USDT/month=2025-05/part-0.parquet"


def filled(
    exchange: PagedExchange, asked: Order, capsys: pytest.CaptureFixture[str], patience_s: float = 0.0
) -> dict[str, Any]:
    """Run a backfill and return its report."""
    capsys.readouterr()
    try:
        asyncio.run(backfill(exchange, asked, Patience(patience_s), as_json=True))
    finally:
        said = capsys.readouterr().out
    report: dict[str, Any] = json.loads(said)
    return report


def times(out: Path) -> list[int]:
    table = read_candles([out], exchange="example")
    found: list[int] = table.open_time_ms[table.present[0]].tolist()
    return found


def test_backfill_of_an_empty_dataset_writes_every_bar_by_month(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = filled(PagedExchange(FIRST, LAST), order(tmp_path / "d", ("BTC/USDT", "ETH/USDT")), capsys)
    table = read_candles([tmp_path / "d"], exchange="example")
    assert (table.symbols, table.rows, table.timeframe) == (("BTC/USDT", "ETH/USDT"), 7_000, "1m")
    at = 1_234
    bar = bar_at(int(table.open_time_ms[at]))
    assert table.ohlcv[:, 1, at].tolist() == [bar.open, bar.high, bar.low, bar.close, bar.volume]
    assert {path.parent.name for path in (tmp_path / "d").rglob("*.parquet")} == {"month=2025-05", "month=2025-06"}
    assert report["complete"] is True
    assert report["totals"] == {
        "expected": 7_000, "rows": 7_000, "held": 0, "new": 7_000, "absent": 0, "unusable": 0
    }  # fmt: skip


def test_backfill_again_asks_for_nothing_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(PagedExchange(FIRST, LAST), order(tmp_path), capsys)
    before = (tmp_path / PART).read_bytes()
    again = PagedExchange(FIRST, LAST)
    report = filled(again, order(tmp_path), capsys)
    assert again.requests == []
    assert (report["totals"]["held"], report["totals"]["new"], report["complete"]) == (3_500, 0, True)
    assert (tmp_path / PART).read_bytes() == before


def test_backfill_of_an_outage_reports_it_after_a_second_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = range(FIRST + 100 * MINUTE, FIRST + 400 * MINUTE, MINUTE)
    exchange = PagedExchange(FIRST, LAST, absent=gone)
    report = filled(exchange, order(tmp_path), capsys)
    own = report["symbols"]["BTC/USDT"]
    assert own["absent_spans"] == [{"first_ms": gone[0], "last_ms": gone[-1], "bars": 300}]
    assert (own["rows"], own["absent"], own["complete"], own["listed_later"]) == (3_200, 300, True, False)
    assert exchange.requests[-1] == ("BTC/USDT", gone[0], gone[-1])


def test_backfill_of_a_bar_that_only_the_second_read_has_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange = PagedExchange(FIRST, LAST)
    exchange.late = {FIRST + 7 * MINUTE, LAST}
    report = filled(exchange, order(tmp_path), capsys)
    assert report["totals"]["absent"] == 0
    assert times(tmp_path) == list(range(FIRST, LAST + 1, MINUTE))


def test_backfill_before_listing_is_clamped_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = FIRST + 500 * MINUTE
    own = filled(PagedExchange(listed, LAST), order(tmp_path), capsys)["symbols"]["BTC/USDT"]
    assert (own["listed_later"], own["first_open_ms"]) == (True, listed)
    assert (own["expected"], own["rows"], own["absent"], own["absent_spans"]) == (3_000, 3_000, 0, [])
    asyncio.run(backfill(PagedExchange(listed, LAST), order(tmp_path), Patience(0), as_json=False))
    said = capsys.readouterr().out
    assert "the exchange has none before" in said
    assert "BTC/USDT: 3,000 of 3,000 candles, 0 of them new, 2025-05-30 23:00 UTC to 2025-06-02 00:59 UTC" in said


def test_backfill_bars_that_are_no_candles_are_counted_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {FIRST: Kline(FIRST, 0.0, 1, 1, 1, 1), FIRST + MINUTE: Kline(FIRST + MINUTE, 1, float("nan"), 1, 1, 1)}
    exchange = PagedExchange(FIRST, LAST)
    exchange.bars = lambda open_time_ms: bad.get(open_time_ms, bar_at(open_time_ms))
    own = filled(exchange, order(tmp_path), capsys)["symbols"]["BTC/USDT"]
    assert (own["rows"], own["unusable"]) == (3_498, 4)  # both reads
    assert times(tmp_path)[0] == FIRST + 2 * MINUTE


def test_backfill_without_network_says_what_it_could_not_reach_and_keeps_what_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    gone = PagedExchange(FIRST, LAST, fails=lambda request: request > 2)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(CandlewickError, match=r"cannot reach api\.example\.com .*the same command goes on from there"),
    ):
        asyncio.run(
            backfill(gone, order(tmp_path), Patience(0.2, clock=itertools.count(0.0, 0.15).__next__), as_json=True)
        )
    report = json.loads(capsys.readouterr().out)
    assert (report["complete"], report["totals"]["new"]) == (False, 2_000)
    assert "cannot reach api.example.com" in report["error"]
    assert times(tmp_path) == list(range(FIRST, FIRST + 2_000 * MINUTE, MINUTE))
    assert "asking again" in caplog.text
    back = filled(PagedExchange(FIRST, LAST), order(tmp_path), capsys)
    assert (back["totals"]["held"], back["totals"]["new"], back["complete"]) == (2_000, 1_500, True)


def test_backfill_goes_on_after_failures_that_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exchange = PagedExchange(FIRST, LAST, fails=lambda request: request in (1, 3))
    report = filled(exchange, order(tmp_path), capsys, patience_s=60)
    assert (report["totals"]["new"], report["complete"]) == (3_500, True)
    assert times(tmp_path) == list(range(FIRST, LAST + 1, MINUTE))


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.streaming.history.paged_exchange import FIRST, LAST, PagedExchange, order
from streaming.history.backfill import backfill
from streaming.history.patience import Patience
from models import whole_file
write = whole_file.os.fsync
def slowly(file):
    print("writing", flush=True)
    sys.stdin.readline()
    write(file)
whole_file.os.fsync = slowly
asyncio.run(backfill(PagedExchange(FIRST, LAST), order(Path(sys.argv[1])), Patience(0), True))
"""


@pytest.mark.parametrize("syncs", [1, 2, 3])
def test_backfill_killed_while_it_writes_goes_on_from_whole_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], syncs: int
) -> None:
    out = tmp_path / "d"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    for passed in range(syncs):  # of a file, of its folder, of the next file...
        assert process.stdout.readline() == "writing\n"
        if passed + 1 < syncs:
            process.stdin.write("\n")
            process.stdin.flush()
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: process.poll() is not None)
    process.stdin.close()
    process.stdout.close()
    partial = [path.name for path in out.rglob("*.partial")]
    assert partial == ([] if syncs == 2 else ["part-0.parquet.partial"])
    whole = [path for path in out.rglob("*.parquet") if len(parquet.read_table(path))]
    assert len(whole) == syncs // 2

    report = filled(PagedExchange(FIRST, LAST), order(out), capsys)

    assert report["totals"]["held"] == (2_000 if whole else 0)
    assert times(out) == list(range(FIRST, LAST + 1, MINUTE))
    assert list(out.rglob("*.partial")) == []


def test_backfill_over_a_dataset_of_another_schema_is_refused_intact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / PART
    path.parent.mkdir(parents=True)
    parquet.write_table(pa.table({"time": [1], "price": [2.0]}), path)
    before, exchange = path.read_bytes(), PagedExchange(FIRST, LAST)
    with pytest.raises(CandlewickError, match="foreign Parquet file: no column timestamp_ms"):
        asyncio.run(backfill(exchange, order(tmp_path), Patience(0), as_json=True))
    assert (path.read_bytes(), exchange.requests) == (before, [])


def test_backfill_over_a_half_written_part_of_another_is_refused_intact(tmp_path: Path) -> None:
    asyncio.run(backfill(PagedExchange(FIRST, LAST), order(tmp_path), Patience(0), as_json=True))
    path = tmp_path / PART
    path.write_bytes(path.read_bytes()[:-50])
    before = path.read_bytes()
    with pytest.raises(CandlewickError, match=r"part-0\.parquet cannot be read .*fetch or write it again"):
        asyncio.run(backfill(PagedExchange(FIRST, LAST), order(tmp_path), Patience(0), as_json=True))
    assert path.read_bytes() == before


def test_backfill_over_candles_of_another_exchange_is_refused_intact(tmp_path: Path) -> None:
    path = tmp_path / PART
    path.parent.mkdir(parents=True)
    values = {name: [100.0] for name in ("open", "high", "low", "close", "volume")}
    parquet.write_table(
        pa.table({"timestamp_ms": [FIRST], "symbol": ["BTC/USDT"], "exchange": ["okx"], **values}), path
    )
    before = path.read_bytes()
    with pytest.raises(CandlewickError, match=r"instead of BTC/USDT|others than example 1m; move it away"):
        asyncio.run(backfill(PagedExchange(FIRST, LAST), order(tmp_path), Patience(0), as_json=True))
    assert path.read_bytes() == before


def test_backfill_into_something_else_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("x")
    exchange = PagedExchange(FIRST, LAST)
    for out, message in ((tmp_path, "no dataset of ours"), (tmp_path / "prices.csv", "is a file; name a folder"),
                         (Path("/proc/none/d"), r"/proc/none/d cannot be written .*name another place")):  # fmt: skip
        with pytest.raises(CandlewickError, match=message):
            asyncio.run(backfill(exchange, order(out), Patience(0), as_json=True))
    assert exchange.requests == []


def options(since: str, until: str | None = None, timeframe: str = "1m") -> BackfillOptions:
    return BackfillOptions(("BTC/USDT",), since, "d", timeframe=timeframe, until=until)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (options("2025-06-01", "2025-05-01"), r"--until 2025-05-01 00:00 UTC is not after --since .*reversed\?"),
        (options("yesterday"), "--since 'yesterday' is no time; write a date like 2024-01-01"),
        (options("1704067200"), "--since 1704067200 must be in milliseconds"),
        (options("2025-06-01", timeframe="1x"), "timeframe '1x'"),
    ],
)
def test_backfill_of_times_that_make_no_span_names_the_mend(asked: BackfillOptions, message: str) -> None:
    with pytest.raises(CandlewickError, match=message):
        _times(asked)


def test_times_of_dates_zones_and_milliseconds_are_utc() -> None:
    assert _times(options("2025-05-01", "2025-05-01T02:00+01:00")) == (MAY, MAY + 3_600_000)
    assert _times(options(str(MAY))) == (MAY, None)


def test_wanted_span_takes_only_bars_that_have_closed() -> None:
    assert wanted_span("1m", MAY, None, MAY + 150_000) == Span(MAY, MAY + MINUTE)
    assert wanted_span("1m", MAY + 1, None, MAY + 179_999) == Span(MAY + MINUTE, MAY + MINUTE)
    assert wanted_span("1m", MAY, MAY + 2 * MINUTE, MAY + DAY) == Span(MAY, MAY + MINUTE)
    assert wanted_span("1w", MAY, None, MAY + 30 * DAY) == Span(MAY + 4 * DAY, MAY + 18 * DAY)
    with pytest.raises(CandlewickError, match="is in the future: the exchange is at 2025-05-01 00:00 UTC"):
        wanted_span("1m", MAY + 1, None, MAY)
    with pytest.raises(CandlewickError, match="no bar of 1h lies wholly between"):
        wanted_span("1h", MAY + 1, MAY + 100, MAY + DAY)


def test_wanted_span_until_in_the_future_is_clamped_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert wanted_span("1m", MAY, MAY + DAY, MAY + 3_600_000).last_ms == MAY + 59 * MINUTE
    assert "--until is later than the newest closed bar: reads up to open=2025-05-01 00:59 UTC" in caplog.text


def test_backfill_beside_many_symbols_ends_all_when_one_is_refused(tmp_path: Path) -> None:
    class Refusing(PagedExchange):
        async def pages(self, symbol: str, *args: Any, **kwargs: Any) -> Any:
            if symbol == "BAD/USDT":
                raise CandlewickError("example refused")
            async for page in super().pages(symbol, *args, **kwargs):
                yield page

    with pytest.raises(CandlewickError, match="example refused"):
        asyncio.run(backfill(Refusing(FIRST, LAST), order(tmp_path, ("BAD/USDT", "BTC/USDT")), Patience(0), True))


def test_backfill_of_a_day_timeframe_asks_once_for_years(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = MAY + 500 * DAY
    exchange = PagedExchange(MAY, last, length_ms=DAY)
    asked = Order("example", "1d", ("BTC/USDT",), Span(MAY, last), tmp_path)
    report = filled(exchange, asked, capsys)
    assert (len(exchange.requests), report["totals"]["new"]) == (1, 501)
    np.testing.assert_array_equal(times(tmp_path), np.arange(MAY, last + 1, DAY))
