"""REST and websocket answer as Binance does; and the simulator as a process, as other tests start it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.eventually import eventually
from tests.exchange.accelerated import PATIENCE_S, candles, closed, ending, run, trading
from tests.exchange.client import Simulator


def test_klines_bounds_are_inclusive_and_the_last_row_is_unfinished() -> None:
    async def story() -> None:
        async with trading() as market:
            rows = await market.klines(limit=3)
            now = await market.time_ms()
            assert len(rows) == 3
            assert rows[-1][0] <= now
            first, last = rows[0][0], rows[1][0]
            assert [row[0] for row in await market.klines(startTime=first, endTime=last)] == [first, last]
            assert [row[0] for row in await market.klines(startTime=first - 5_000, limit=2)] == [
                first - 5_000,
                first - 4_000,
            ]
            assert (await market.klines(endTime=last))[-1][0] == last
            assert await market.klines(startTime=last + 10**9) == []
            assert len(await market.klines(limit=5_000)) <= 1_000

    run(story())


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"symbol": "NOPE", "interval": "1s"}, -1121),
        ({"symbol": "BTCUSDT", "interval": "7s"}, -1120),
        ({"symbol": "BTCUSDT"}, -1102),
        ({"symbol": "BTCUSDT", "interval": "1s", "limit": "x"}, -1100),
    ],
)
def test_klines_of_a_bad_request_are_refused_with_binances_code(query: dict[str, str], code: int) -> None:
    async def story() -> None:
        async with trading() as market:
            answer = await market.get("/api/v3/klines", **query)
            assert (answer.status, answer.body["code"]) == (400, code)

    run(story())


def test_rest_counts_weight_and_refuses_beyond_the_limit() -> None:
    async def story() -> None:
        async with trading(speed=0, weight_limit=3) as market:  # a minute that ended between two requests clears all
            answers = [await market.get("/api/v3/klines", symbol="BTCUSDT", interval="1s") for _ in range(2)]
            assert [answer.status for answer in answers] == [200, 429]
            assert [answer.headers["X-MBX-USED-WEIGHT-1M"] for answer in answers] == ["2", "4"]
            assert 1 <= int(answers[1].headers["Retry-After"]) <= 60

    run(story())


def test_tickers_rank_symbols_by_quote_volume() -> None:
    async def story() -> None:
        async with trading(symbols=12) as market:
            found = (await market.get("/api/v3/ticker/24hr")).body
            volumes = {ticker["symbol"]: float(ticker["quoteVolume"]) for ticker in found}
            assert len(volumes) == 12
            assert max(volumes, key=lambda name: volumes[name]) in {"BTCUSDT", "ETHUSDT", "S011USDT", "S012USDT"}
            one = (await market.get("/api/v3/ticker/24hr", symbol="BTCUSDT")).body
            assert one["symbol"] == "BTCUSDT"

    run(story())


def test_usdm_answers_under_its_own_paths_alone() -> None:
    async def story() -> None:
        async with trading(market="usdm") as market:
            assert (await market.get("/fapi/v1/klines", symbol="BTCUSDT", interval="1s")).status == 200
            assert (await market.get("/api/v3/klines", symbol="BTCUSDT", interval="1s")).status == 404

    run(story())


@pytest.mark.parametrize(
    ("path", "enveloped"),
    [("/ws", False), ("/ws/0", False), ("/market/ws/3", False), ("/stream", True), ("/stream/ws/0", True)],
)
def test_websocket_path_decides_on_the_envelope(path: str, enveloped: bool) -> None:
    async def story() -> None:
        async with trading() as market, market.socket("btcusdt@kline_1s", path=path) as websocket:
            event = json.loads((await websocket.receive(PATIENCE_S)).data)
            assert ("stream" in event) is enveloped
            assert event.get("data", event)["e"] == "kline"

    run(story())


@pytest.mark.parametrize("path", ["/ws/btcusdt@kline_1s", "/stream?streams=btcusdt@kline_1s/ethusdt@kline_1s"])
def test_websocket_streams_named_in_the_path_need_no_subscribe(path: str) -> None:
    async def story() -> None:
        async with trading() as market, market.session.ws_connect(market.addresses.ws + path) as websocket:
            assert (await candles(websocket, lambda bars: bars[-1]["x"]))[-1]["s"] in {"BTCUSDT", "ETHUSDT"}

    run(story())


def test_websocket_requests_are_answered() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(path="/ws") as websocket:
            for request, answer in (
                ({"method": "SUBSCRIBE", "params": ["nope@kline_1s"], "id": 1}, {"result": None, "id": 1}),
                ({"method": "LIST_SUBSCRIPTIONS", "id": 2}, {"result": ["nope@kline_1s"], "id": 2}),
                ({"method": "UNSUBSCRIBE", "params": ["nope@kline_1s"], "id": 3}, {"result": None, "id": 3}),
                ({"method": "LIST_SUBSCRIPTIONS", "id": 4}, {"result": [], "id": 4}),
            ):
                await websocket.send_json(request)
                assert json.loads((await websocket.receive(PATIENCE_S)).data) == answer

    run(story())


@pytest.mark.parametrize(
    ("text", "code"),
    [("nonsense", 3), ('{"method":"SHOUT","id":1}', 2), ('{"method":"SUBSCRIBE","params":["x"],"id":1}', 2), ("[]", 2)],
)
def test_websocket_bad_request_is_answered_with_an_error(text: str, code: int) -> None:
    async def story() -> None:
        async with trading() as market, market.socket() as websocket:
            await websocket.send_str(text)
            assert json.loads((await websocket.receive(PATIENCE_S)).data)["error"]["code"] == code

    run(story())


def test_websocket_client_that_asks_too_fast_is_closed() -> None:
    async def story() -> None:
        async with trading() as market, market.socket() as websocket:
            with contextlib.suppress(ConnectionError):  # it is closed before all are sent
                for number in range(100):  # some six of them within a second, however slow we are
                    await websocket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
            while (message := await websocket.receive(PATIENCE_S)).type == WSMsgType.TEXT:
                pass
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1008)

    run(story())


def test_websocket_client_that_answers_no_ping_is_dropped() -> None:
    async def story() -> None:
        async with trading(ping_s=0.05) as market, market.socket() as websocket:
            while (message := await websocket.receive(PATIENCE_S)).type == WSMsgType.PING:
                assert message.data.isdigit()
            assert message.type in {WSMsgType.CLOSED, WSMsgType.ERROR}

    run(story())


def test_frames_of_several_timeframes_equal_the_truth() -> None:
    async def story() -> None:
        streams = [f"{name}@kline_{interval}" for name in ("btcusdt", "ethusdt") for interval in ("1s", "5s")]
        async with trading(timeframe="1s") as market, market.socket(*streams) as websocket:
            bars = await candles(websocket, lambda bars: sum(bar["i"] == "5s" and bar["x"] for bar in bars) >= 4)
            for interval in ("1s", "5s"):
                told = (await market.control("/truth", timeframe=interval))["symbols"]
                mine = [bar for bar in closed(bars) if bar["i"] == interval]
                assert mine
                for bar in mine:
                    row = next(row for row in told[bar["s"]]["rows"] if row[0] == bar["t"])
                    assert [float(bar[key]) for key in "ohlcv"] == row[1:]

    run(story())


def test_unfinished_frames_lie_inside_the_finished_bar() -> None:
    async def story() -> None:
        async with trading(updates=6) as market, market.socket("btcusdt@kline_1s") as websocket:
            bars = await candles(websocket, lambda bars: len(closed(bars)) >= 5)
            ends = {bar["t"]: bar for bar in closed(bars)}
            running = [bar for bar in bars if not bar["x"] and bar["t"] in ends]
            assert running
            for bar in running:
                end = ends[bar["t"]]
                assert float(end["l"]) <= float(bar["l"]) <= float(bar["h"]) <= float(end["h"])
                assert float(bar["v"]) <= float(end["v"])

    run(story())


def test_flood_sends_as_many_frames_as_asked_and_counts_them() -> None:
    async def story() -> None:
        async with trading(flood=20_000.0) as market, market.socket("btcusdt@kline_1s") as websocket:
            for _ in range(2_000):
                assert (await websocket.receive(PATIENCE_S)).type == WSMsgType.TEXT
            assert (await market.control("/log"))["counts"]["flood frames"] >= 1_000

    run(story())


def test_simulator_process_serves_until_its_stdin_ends() -> None:
    with Simulator(symbols=3, history=120, market="usdm") as exchange:
        rows = exchange.get("/fapi/v1/klines", symbol="BTCUSDT", interval="1m", limit=2)
        assert [len(row) for row in rows] == [12, 12]
        with pytest.raises(urllib.error.HTTPError) as refused:
            exchange.get("/fapi/v1/klines", symbol="NOPE", interval="1m")
        assert json.load(refused.value)["code"] == -1121
        told = exchange.truth("BTCUSDT", until_ms=exchange.now_ms)
        assert len(told.rows) >= 120
        assert set(exchange.truths("1m")) == {"BTCUSDT", "ETHUSDT", "BNBUSDT"}
        exchange.fault("rest_429", count=1, seconds=30)
        assert exchange.faults()["active"][0]["name"] == "rest_429"
        exchange.clear("rest_429")
        assert exchange.faults()["active"] == []
        with pytest.raises(ValueError, match="no fault 'earthquake'"):
            exchange.fault("earthquake")
        process = exchange.process
        assert process is not None
    assert process.returncode == 0


def test_simulator_process_ends_on_sigterm_with_a_client_connected() -> None:
    async def story(exchange: Simulator) -> None:
        assert exchange.process is not None
        async with aiohttp.ClientSession() as session, session.ws_connect(exchange.ws + "/ws") as websocket:
            exchange.process.terminate()
            assert ((await ending(websocket)).data) == 1001

    with Simulator(symbols=1, history=10) as exchange:
        asyncio.run(story(exchange))
        assert exchange.process is not None
        assert eventually(lambda: exchange.process and exchange.process.poll() is not None)
        assert exchange.process.returncode == 0


def test_simulator_process_with_candles_that_are_not_there_says_so() -> None:
    with pytest.raises(AssertionError, match="ended at its start with code 1"):
        Simulator(candles="nowhere.csv").__enter__()
