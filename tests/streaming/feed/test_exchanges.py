"""Exchanges as they are opened: ours in time-outs and addresses, and nothing asked by themselves."""

from __future__ import annotations

import ccxt.pro
import pytest

from streaming.feed.errors import ExchangeError
from streaming.feed.exchanges import abilities, check_timeframes, known_exchanges, open_exchange
from streaming.settings import ExchangeSettings


def test_known_exchanges_are_those_of_ccxt() -> None:
    assert set(known_exchanges()) == {*ccxt.exchanges, *ccxt.pro.exchanges}


def test_open_exchange_of_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(ExchangeError, match="'binanse'; near: binance, binanceus"):
        open_exchange(ExchangeSettings(name="binanse"))


def test_open_exchange_without_candles_is_refused() -> None:
    with pytest.raises(ExchangeError, match="zaif gives no candles"):
        open_exchange(ExchangeSettings(name="zaif"))


def test_open_exchange_of_spot_goes_to_the_stand_in_only_and_for_spot_only() -> None:
    exchange = open_exchange(
        ExchangeSettings(rest_url="http://h:1/", ws_url="ws://h:2", keep_alive_s=7, request_timeout_s=3)
    )
    assert exchange.urls["api"]["public"] == "http://h:1/api/v3"
    assert exchange.get_ws_url("spot", "market") == "ws://h:2/stream/ws"
    assert exchange.options["fetchMarkets"]["types"] == ["spot"]
    assert not exchange.options["fetchMargins"]
    assert not exchange.options["fetchCurrencies"]
    assert (exchange.enableRateLimit, exchange.newUpdates, exchange.timeout) == (False, True, 3_000)
    assert exchange.streaming["keepAlive"] == 7_000
    assert not any((exchange.apiKey, exchange.secret, exchange.password))


def test_open_exchange_of_usdm_goes_to_the_stand_in_at_the_address_of_futures() -> None:
    exchange = open_exchange(ExchangeSettings(name="binanceusdm", rest_url="https://h", ws_url="wss://h"))
    assert exchange.urls["api"]["fapiPublic"] == "https://h/fapi/v1"
    assert exchange.get_ws_url("linear", "market") == "wss://h/market/ws"
    assert exchange.options["fetchMarkets"]["types"] == ["linear"]


def test_open_exchange_without_a_stand_in_keeps_its_own_addresses() -> None:
    api = open_exchange(ExchangeSettings()).urls["api"]
    assert (api["public"], api["ws"]["spot"]) == ("https://api.binance.com/api/v3", "wss://stream.binance.com:9443/ws")


@pytest.mark.parametrize("url", ["h:1", "ftp://h:1", "http://", "ws://h:1"])
def test_open_exchange_with_an_address_that_is_none_names_the_setting(url: str) -> None:
    with pytest.raises(ExchangeError, match=r"CANDLEWICK_EXCHANGE__REST_URL=.* write it as http://host:port"):
        open_exchange(ExchangeSettings(rest_url=url))


def test_open_exchange_with_a_stand_in_of_another_shape_is_refused() -> None:
    with pytest.raises(ExchangeError, match="not for kraken; unset it"):
        open_exchange(ExchangeSettings(name="kraken", ws_url="ws://h"))


def test_open_exchange_can_share_the_markets_of_another_instance() -> None:
    first = open_exchange(ExchangeSettings())
    first.set_markets(
        [{"id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "type": "spot", "spot": True}]
    )
    second = open_exchange(ExchangeSettings(), markets_of=first)
    assert second.market("BTC/USDT")["id"] == "BTCUSDT"
    assert second.markets is first.markets


def test_abilities_tell_websockets_from_polling() -> None:
    assert abilities(open_exchange(ExchangeSettings())).websocket
    polled = abilities(open_exchange(ExchangeSettings(name="revolutx")))
    assert not polled.websocket
    assert polled.timeframes[:2] == ("1m", "5m")


def test_check_timeframes_keeps_each_once_in_order() -> None:
    assert check_timeframes(open_exchange(ExchangeSettings()), "5m, 1m,5m") == ["5m", "1m"]


@pytest.mark.parametrize(
    ("name", "timeframes", "message"),
    [
        ("binance", "1m,7m", "binance has no timeframe 7m; it has 1s, 1m, 3m, 5m"),
        ("binance", "1M", "binance has no timeframe 1M; it has"),
        ("binanceusdm", "1s", "binanceusdm has no timeframe 1s; it has 1m"),
        ("binance", " ,", "binance needs a timeframe; it has"),
    ],
)
def test_check_timeframes_that_the_exchange_lacks_lists_what_it_has(name: str, timeframes: str, message: str) -> None:
    with pytest.raises(ExchangeError, match=message):
        check_timeframes(open_exchange(ExchangeSettings(name=name)), timeframes)
