"""Backfill through ccxt against the simulated exchange: what it has is what the dataset gets, whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.candle_files import read_candles
from models.errors import CandlewickError
from streaming.history.backfill import BackfillOptions, run_backfill
from streaming.settings import ExchangeSettings, Settings
from tests.exchange.client import Simulator

MINUTE = 60_000
HISTORY = 3_500


@pytest.fixture(scope="module")
def exchange() -> Iterator[Simulator]:
    with Simulator(symbols=3, timeframe="1m", history=HISTORY) as simulator:
        yield simulator


@pytest.fixture
def settings(exchange: Simulator) -> Iterator[Settings]:
    yield settings_of(exchange.rest)
    exchange.clear()


def settings_of(rest: str, name: str = "binance") -> Settings:
    asked = ExchangeSettings(name=name, rest_url=rest, weight_a_minute=6_000)
    return Settings(_env_file=None, exchange=asked)  # type: ignore[call-arg]


def since(exchange: Simulator, bars: int) -> str:
    return str(exchange.now_ms - bars * MINUTE)


def backfilled(settings: Settings, capsys: pytest.CaptureFixture[str], options: BackfillOptions) -> dict[str, Any]:
    capsys.readouterr()
    asyncio.run(run_backfill(settings, options, as_json=True))
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def assert_equals_truth(exchange: Simulator, out: Path, symbol: str, first_ms: int, last_ms: int) -> None:
    rows = exchange.truth(symbol.replace("/", ""), "1m", from_ms=first_ms, until_ms=last_ms + MINUTE).rows
    table = read_candles([out], timeframe="1m").only([symbol])
    here = table.present[0]
    assert table.open_time_ms[here].tolist() == [row[0] for row in rows]
    np.testing.assert_array_equal(table.ohlcv[:, 0, here].T, [row[1:] for row in rows])


def test_backfill_of_an_exchange_equals_its_truth(
    exchange: Simulator, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = BackfillOptions(("BTCUSDT", "eth/usdt"), since(exchange, 10_000), tmp_path)
    report = backfilled(settings, capsys, asked)
    assert list(report["symbols"]) == ["BTC/USDT", "ETH/USDT"]
    for symbol, own in report["symbols"].items():
        assert (own["listed_later"], own["absent"], own["complete"]) == (True, 0, True)
        assert own["rows"] >= HISTORY
        assert_equals_truth(exchange, tmp_path, symbol, own["first_open_ms"], report["last_ms"])
    again = backfilled(settings, capsys, asked)
    assert again["totals"]["new"] <= 2 * 2  # minutes that have closed meanwhile


def test_backfill_through_refusals_and_bad_answers_equals_the_truth(
    exchange: Simulator, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange.fault("rest_429", count=2, retry_after_s=1)
    exchange.fault("rest_502", share=0.3)
    report = backfilled(settings, capsys, BackfillOptions(("BTC/USDT",), since(exchange, 3_000), tmp_path))
    assert report["complete"] is True
    assert_equals_truth(exchange, tmp_path, "BTC/USDT", report["first_ms"], report["last_ms"])


def test_backfill_of_an_outage_of_the_exchange_reports_the_very_bars(
    exchange: Simulator, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone_ms = exchange.now_ms // MINUTE * MINUTE - 500 * MINUTE
    exchange.fault("no_rows", symbols=["BNBUSDT"], slots=37, first_ms=gone_ms)
    report = backfilled(settings, capsys, BackfillOptions(("BNB/USDT",), since(exchange, 2_000), tmp_path))
    spans = report["symbols"]["BNB/USDT"]["absent_spans"]
    assert spans == [{"first_ms": gone_ms, "last_ms": gone_ms + 36 * MINUTE, "bars": 37}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": ("BTC/USDC",)}, "binance has no symbol BTC/USDC; near: "),
        ({"timeframe": "7m"}, "binance has no timeframe 7m; it has 1s"),
        ({"exchange": "binanse"}, "no exchange is called 'binanse'; near: binance"),
        ({"symbols": ()}, r"which symbols\? Name them by --symbols"),
        ({"since": "2999-01-01"}, r"--since 2999-01-01 00:00 UTC is in the future: the exchange is at "),
    ],
)
def test_backfill_of_what_the_exchange_lacks_names_the_mend(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    asked: dict[str, Any] = {"symbols": ("BTC/USDT",), "since": "2020-01-01", "out": tmp_path / "d"} | changes
    with pytest.raises(CandlewickError, match=message):
        asyncio.run(run_backfill(settings, BackfillOptions(**asked), as_json=True))
    assert not (tmp_path / "d").exists()


def test_backfill_without_network_says_what_it_could_not_reach(tmp_path: Path) -> None:
    asked = BackfillOptions(("BTC/USDT",), "2020-01-01", tmp_path / "d", patience_s=2)
    with pytest.raises(CandlewickError, match=r"cannot reach 127\.0\.0\.1:9 .*Nothing was changed; try again later"):
        asyncio.run(run_backfill(settings_of("http://127.0.0.1:9"), asked, as_json=True))
