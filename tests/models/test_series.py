from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidMessage
from models.series import Series, canonical_symbol, parse_key, timeframe_ms, timeframe_name
from tests.models.candle_records import laws

names = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), min_size=1, max_size=12)
timeframes = st.builds("{}{}".format, st.integers(1, 9_999), st.sampled_from("smhdw"))


@laws
@given(exchange=names, symbol=names, timeframe=timeframes)
def test_key_of_any_series_is_parsed_back_to_it(exchange: str, symbol: str, timeframe: str) -> None:
    series = Series(exchange, symbol, timeframe)
    assert parse_key(series.key) == series


@laws
@given(key=st.binary(max_size=30) | st.text("|binace1mBTC/", max_size=30).map(str.encode))
def test_key_of_any_bytes_is_refused_or_parsed_without_loss(key: bytes) -> None:
    with suppress(InvalidMessage):
        assert parse_key(key).key == key


@pytest.mark.parametrize(
    "key",
    [None, b"", b"BTC/USDT", b"a|b", b"a|b|1m|", b"|b|1m", b"a||1m", b"a|b|", b"a|b|1M", b"a|b|0m", b"a|b|01m",
     b"a|b|10000m", b"a|b|-1m", b"a|b|1m\n", "a|b|١m".encode(), b"\xff|b|1m"],
)  # fmt: skip
def test_key_that_is_no_series_is_refused(key: bytes | None) -> None:
    with pytest.raises(InvalidMessage):
        parse_key(key)


@pytest.mark.parametrize(
    ("name", "length_ms"),
    [("1s", 1_000), ("1m", 60_000), ("5m", 300_000), ("4h", 14_400_000), ("1d", 86_400_000), ("1w", 604_800_000)],
)
def test_timeframe_of_a_name_has_its_length_and_its_name_back(name: str, length_ms: int) -> None:
    assert timeframe_ms(name) == Series("binance", "BTC/USDT", name).timeframe_ms == length_ms
    assert timeframe_name(length_ms) == name


@laws
@given(timeframe=timeframes)
def test_timeframe_name_is_the_shortest_of_equal_length(timeframe: str) -> None:
    shortest = timeframe_name(timeframe_ms(timeframe))
    assert timeframe_ms(shortest) == timeframe_ms(timeframe)
    assert len(shortest) <= len(timeframe)


@pytest.mark.parametrize("length_ms", [0, -60_000, 1, 1_500])
def test_timeframe_name_of_no_whole_seconds_is_refused(length_ms: int) -> None:
    with pytest.raises(ValueError, match="whole number of seconds"):
        timeframe_name(length_ms)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("BTCUSDT", "BTC/USDT"), ("ETHBTC", "ETH/BTC"), ("BTC/USDT", "BTC/USDT"), ("USDTTRY", "USDT/TRY"),
     ("BTCFDUSD", "BTC/FDUSD"), ("BTCTUSD", "BTC/TUSD"), ("1000PEPEUSDC", "1000PEPE/USDC"), ("WIFUSD", "WIF/USD")],
)  # fmt: skip
def test_canonical_symbol_cuts_at_the_quote(name: str, symbol: str) -> None:
    assert canonical_symbol(name) == symbol
    assert canonical_symbol(symbol) == symbol


@pytest.mark.parametrize("name", ["", "USDT", "BTCXYZ", "btcusdt"])
def test_canonical_symbol_without_a_known_quote_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="BASE/QUOTE"):
        canonical_symbol(name)


def test_events_and_series_are_imported_without_numpy_and_torch() -> None:
    check = "import sys, models.events, models.series; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
