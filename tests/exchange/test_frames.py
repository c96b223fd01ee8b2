"""What the simulator sends has the same keys, types and number formats as what Binance was recorded to send."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.exchange import Exchange
from tests.exchange.frames import Printer, combined, decimal, framed, kline, row
from tests.exchange.info import exchange_info
from tests.exchange.intervals import parse_stream
from tests.exchange.options import Options
from tests.exchange.world import Bar

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "frames"
recorded_data = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="SKIPPED: no recorded frames at ../shared/data/frames beside the repository"
)
BTC = Printer(price_decimals=2, volume_decimals=5, spot=True)
BAR = Bar(6068522, 6072984, 6067090, 6071927, 2163272, 131320001340, 617, 1_000)
QUIET = Bar(6068522, 6068522, 6068522, 6068522, 0, 0, 0, 1_617)


def shape(value: Any) -> Any:
    """Keys in their order, with the types of values; a decimal string by its number of decimals, whatever its size."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return f"number with {len(value.partition('.')[2])} decimals"
    return type(value).__name__


def recorded(name: str) -> list[Any]:
    lines = (RECORDED / name).read_text().splitlines()
    return [json.loads(line)["msg"] for line in lines]


@recorded_data
@pytest.mark.parametrize("bar", [BAR, QUIET])
def test_kline_of_spot_has_the_shape_of_recorded_frames(bar: Bar) -> None:
    ours = json.loads(
        combined("btcusdt@kline_1m", kline("BTCUSDT", "1m", 60_000, BTC, 60_000, bar, 61_000, closed=False))
    )
    for theirs in recorded("binance_kline_frames.jsonl"):
        assert shape(ours) == shape(theirs)
        assert list(ours["data"]["k"]) == list(theirs["data"]["k"])


@recorded_data
def test_kline_of_usdm_has_the_shape_of_recorded_frames() -> None:
    frames = recorded("binance_futures_kline_frames.jsonl")
    assert frames
    for theirs in frames:
        k = theirs["data"]["k"]
        show = Printer(len(k["o"].partition(".")[2]), len(k["v"].partition(".")[2]), spot=False)
        event = kline(k["s"], k["i"], 60_000, show, k["t"], BAR, theirs["data"]["E"], closed=k["x"])
        ours = json.loads(combined(theirs["stream"], event))
        assert shape(ours) == shape(theirs)
        assert list(ours["data"]["k"]) == list(k)


@recorded_data
def test_row_of_rest_has_the_shape_of_recorded_rows() -> None:
    rows = json.loads((RECORDED / "nautilus_rest_klines_btcusdt_1m.json").read_text())
    for theirs in rows:
        assert shape(row(60_000, BTC, 1_634_943_780_000, BAR)) == shape(theirs)


@recorded_data
@pytest.mark.parametrize(
    ("market", "name"),
    [("spot", "binance_exchangeInfo_excerpt.json"), ("usdm", "binance_futures_exchangeInfo_excerpt.json")],
)
def test_exchange_info_has_the_shape_of_the_recorded_one(market: Any, name: str) -> None:
    theirs = json.loads((RECORDED / name).read_text())
    ours = exchange_info(Exchange(Options(market=market, symbols=2)), ["BTCUSDT", "ETHUSDT"])
    assert list(ours) == list(theirs)
    assert list(ours["rateLimits"][0]) == list(theirs["rateLimits"][0])
    mine, original = ours["symbols"][0], theirs["symbols"][0]
    assert list(mine) == list(original)
    assert {key: type(value) for key, value in mine.items()} == {key: type(value) for key, value in original.items()}
    for mine_filter, original_filter in zip(mine["filters"], original["filters"], strict=True):
        assert list(mine_filter) == list(original_filter)
        assert mine_filter["filterType"] == original_filter["filterType"]
        assert [type(value) for value in mine_filter.values()] == [type(value) for value in original_filter.values()]


def test_kline_prints_a_bar_exactly() -> None:
    k = json.loads(kline("BTCUSDT", "1m", 60_000, BTC, 1_634_943_780_000, BAR, 1_634_943_840_004, closed=True))["k"]
    assert [k[key] for key in "ohlcv"] == [
        "60685.22000000",
        "60729.84000000",
        "60670.90000000",
        "60719.27000000",
        "21.63272000",
    ]
    assert (k["T"], k["n"], k["f"], k["L"], k["x"]) == (1_634_943_839_999, 617, 1_000, 1_616, True)


def test_kline_without_trades_has_no_ids() -> None:
    k = json.loads(kline("BTCUSDT", "1s", 1_000, BTC, 0, QUIET, 1_001, closed=True))["k"]
    assert (k["f"], k["L"], k["n"], k["v"], k["q"]) == (-1, -1, 0, "0.00000000", "0.00000000")


@pytest.mark.parametrize(
    ("number", "decimals", "shown", "text"),
    [
        (352700, 6, 8, "0.35270000"),
        (5, 0, 0, "5"),
        (5, 0, 8, "5.00000000"),
        (12345678, 9, 8, "0.01234567"),
        (1, 4, 4, "0.0001"),
    ],
)
def test_decimal_prints_whole_numbers_exactly(number: int, decimals: int, shown: int, text: str) -> None:
    assert decimal(number, decimals, shown) == text


@pytest.mark.parametrize(
    ("size", "header"),
    [(5, b"\x81\x05"), (126, b"\x81\x7e\x00\x7e"), (70_000, b"\x81\x7f" + (70_000).to_bytes(8, "big"))],
)
def test_framed_payload_carries_its_length(size: int, header: bytes) -> None:
    assert framed(b"x" * size) == header + b"x" * size


@pytest.mark.parametrize("name", ["BTCUSDT@kline_1m", "btcusdt@kline_7m", "btcusdt@trade", "btcusdt", ""])
def test_stream_name_that_is_none_is_refused(name: str) -> None:
    assert parse_stream(name) is None


def test_stream_name_reads_back() -> None:
    stream = parse_stream("btcusdt@kline_1m")
    assert stream == ("BTCUSDT", "1m")
    assert stream is not None
    assert stream.name == "btcusdt@kline_1m"
