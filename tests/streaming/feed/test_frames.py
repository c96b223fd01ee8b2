"""Frames are read as recorded, and nothing that a socket may carry raises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kline import Kline
from streaming.feed.frames import (
    BINANCE,
    BINANCE_INVERSE,
    BYBIT,
    BYBIT_INVERSE,
    Answer,
    Bar,
    Ending,
    Garbage,
    dialect_of,
)

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "frames"
PLAIN = ("binance_kline", "binance_futures_kline", "binance_tr_kline", "binance_us_kline", "public_code_kline")
DIALECTS = (BINANCE, BINANCE_INVERSE, BYBIT, BYBIT_INVERSE)
PRICES = st.floats(1e-8, 1e7).map(lambda price: f"{price:.8f}")


def event(**changed: Any) -> dict[str, Any]:
    kline = {
        "t": 1_700_000_040_000, "T": 1_700_000_099_999, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 9,
        "o": "10.5", "c": "11.25", "h": "12.00000000", "l": "10.1", "v": "7.5", "n": 9, "x": True,
        "q": "80.1", "V": "1", "Q": "10", "B": "0",
    }  # fmt: skip
    return {"e": "kline", "E": 1_700_000_100_004, "s": "BTCUSDT", "k": kline | changed}


def as_bytes(message: object) -> bytes:
    return json.dumps(message).encode()


def recorded(name: str) -> list[dict[str, Any]]:
    path = RECORDED / f"{name}_frames.jsonl"
    if not path.exists():
        pytest.skip(f"RECORDED FRAMES ARE ABSENT: {path.name} is not in shared/data/frames")
    return [json.loads(line)["msg"] for line in path.read_text().splitlines()]


def only(frame: object) -> Bar:
    assert isinstance(frame, list), frame
    assert len(frame) == 1
    bar = frame[0]
    assert isinstance(bar, Bar)
    return bar


@pytest.mark.parametrize("name", PLAIN)
def test_binance_frame_recorded_is_read_to_the_last_digit(name: str) -> None:
    for message in recorded(name):
        bar = only(BINANCE.read(as_bytes(message)))
        told = message.get("data", message)
        k = told["k"]
        assert (bar.market, bar.interval, bar.event_ms) == (k["s"], k["i"], told["E"])
        assert bar.kline == Kline(
            k["t"], float(k["o"]), float(k["h"]), float(k["l"]), float(k["c"]), float(k["v"]), k["x"]
        )


def test_binance_inverse_frame_recorded_has_volume_in_base_asset() -> None:
    for message in recorded("binance_delivery_kline"):
        assert only(BINANCE_INVERSE.read(as_bytes(message))).kline.volume == float(message["data"]["k"]["q"])


@given(prices=st.tuples(PRICES, PRICES, PRICES, PRICES).map(lambda p: sorted(p, key=float)), volume=PRICES)
def test_binance_frame_number_equals_python_float_of_its_text(prices: list[str], volume: str) -> None:
    low, first, last, high = prices
    kline = only(BINANCE.read(as_bytes(event(o=first, h=high, l=low, c=last, v=volume)))).kline
    assert kline == Kline(kline.open_time_ms, float(first), float(high), float(low), float(last), float(volume), True)


def test_binance_frame_wrapped_equals_bare() -> None:
    wrapped = {"stream": "btcusdt@kline_1m", "data": event()}
    assert BINANCE.read(as_bytes(wrapped)) == BINANCE.read(as_bytes(event()))


@pytest.mark.parametrize(
    "changed",
    [
        {"o": "NaN"}, {"h": "inf"}, {"v": "nan"}, {"v": "-1"}, {"l": "0"}, {"l": "-3"}, {"h": "10"}, {"l": "11"},
        {"c": "12.5"}, {"t": -1}, {"t": 2**60}, {"o": None}, {"o": ""}, {"o": "1_0"}, {"x": "perhaps"}, {"s": 7},
    ],
    ids=str,
)  # fmt: skip
def test_binance_frame_impossible_is_garbage(changed: dict[str, Any]) -> None:
    assert isinstance(BINANCE.read(as_bytes(event(**changed))), Garbage)


@pytest.mark.parametrize("event_ms", [0, -5, 2**70])
def test_binance_frame_impossible_event_time_is_garbage(event_ms: int) -> None:
    assert isinstance(BINANCE.read(as_bytes(event() | {"E": event_ms})), Garbage)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"result": None, "id": 7}, Answer("7", None)),
        ({"error": {"code": 2, "msg": "no"}, "id": 7}, Answer("7", '{"code": 2, "msg": "no"}')),
        ({"code": 0, "msg": "Unknown property", "id": "a"}, Answer("a", "0 Unknown property")),
        ({"code": 3, "msg": "Invalid JSON"}, Answer(None, "3 Invalid JSON")),
        ({"error": None, "result": None, "id": 3}, Answer("3", None)),
        ({"e": "serverShutdown", "E": 1_700_000_000_000}, Ending("serverShutdown")),
        ({"stream": "x", "data": {"e": "serverShutdown", "E": 1}}, Ending("serverShutdown")),
        ({"e": "trade", "E": 5, "s": "BTCUSDT"}, []),
        ({}, []),
    ],
    ids=str,
)
def test_binance_message_without_bar_is_classified(message: dict[str, Any], expected: object) -> None:
    assert BINANCE.read(as_bytes(message)) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{", b"7", b"null", b'"text"', b"\xff\xfe", b'{"e":"kline","s":"\xff\xfe\xfd"}', b"[" * 100_000,
        b'{"a":' * 100_000, as_bytes(event())[:-1], as_bytes(event())[:120], b"\x1b[31mupstream connect error",
        b'{"id":[1]}', b'{"k":7}', b'{"data":[{}]}',
    ],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_read_garbage_of_every_dialect_never_is_a_bar(data: bytes) -> None:
    for dialect in DIALECTS:
        frame = dialect.read(data)
        assert isinstance(frame, Garbage) or frame == [], frame


@given(st.binary(max_size=300))
def test_read_any_bytes_never_raises(data: bytes) -> None:
    for dialect in DIALECTS:
        dialect.read(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["e", "E", "k", "t", "o", "data", "id", "error", "topic", "code"]), inner)
        ),
        max_leaves=12,
    )
)
def test_read_any_json_never_raises(message: object) -> None:
    for dialect in DIALECTS:
        dialect.read(as_bytes(message))


@given(position=st.integers(0, 200), byte=st.integers(0, 255))
def test_read_frame_with_one_byte_changed_is_a_sane_bar_or_none(position: int, byte: int) -> None:
    data = bytearray(as_bytes(event()))
    data[position % len(data)] = byte
    frame = BINANCE.read(bytes(data))
    if isinstance(frame, list) and frame:
        kline = frame[0].kline
        assert 0 < kline.low <= min(kline.open, kline.close) <= max(kline.open, kline.close) <= kline.high < 1e308


BYBIT_FRAME = {
    "topic": "kline.5.BTCUSDT",
    "data": [
        {
            "start": 1672324800000, "end": 1672325099999, "interval": "5", "open": "16649.5", "close": "16677",
            "high": "16677", "low": "16608", "volume": "2.081", "turnover": "34666.4005", "confirm": True,
            "timestamp": 1672324988882,
        }
    ],
    "ts": 1672324988882,
    "type": "snapshot",
}  # fmt: skip
"""Source: Bybit's documentation of version 5, as quoted in ccxt."""


def test_bybit_frame_documented_is_read_with_its_confirmation() -> None:
    bar = only(BYBIT.read(as_bytes(BYBIT_FRAME)))
    kline = Kline(1672324800000, 16649.5, 16677.0, 16608.0, 16677.0, 2.081, True)
    assert bar == Bar("BTCUSDT", "5", kline, 1672324988882)
    assert only(BYBIT_INVERSE.read(as_bytes(BYBIT_FRAME))).kline.volume == 34666.4005


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"success": True, "ret_msg": "", "req_id": "3", "op": "subscribe"}, Answer("3", None)),
        (
            {"success": False, "ret_msg": "error:handler not found", "req_id": 3, "op": ""},
            Answer("3", "error:handler not found"),
        ),
        ({"success": True, "ret_msg": "pong", "op": "ping", "req_id": ""}, []),
    ],
    ids=str,
)
def test_bybit_message_without_bar_is_classified(message: dict[str, Any], expected: object) -> None:
    assert BYBIT.read(as_bytes(message)) == expected


def test_dialect_of_inverse_market_counts_volume_otherwise() -> None:
    assert dialect_of("binanceusdm", "linear") is BINANCE
    assert dialect_of("binancecoinm", "inverse") is BINANCE_INVERSE
    assert dialect_of("kraken", "spot") is None
