"""Faults of connections: ended, refused, deaf, rotated, or alive with a stream missing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.exchange.accelerated import (
    PATIENCE_S,
    STREAMS,
    Trading,
    candles,
    count_closed,
    ending,
    opened_after,
    run,
    trading,
)


def test_fault_tcp_kill_ends_websocket_without_close_frame() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            await market.fault("tcp_kill")
            assert (await ending(websocket)).type in {WSMsgType.CLOSED, WSMsgType.ERROR}
            assert websocket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE

    run(story())


def test_fault_close_1001_closes_websocket_with_that_code() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            await market.fault("close_1001")
            assert (await ending(websocket)).data == 1001

    run(story())


def test_fault_every_s_strikes_again() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("tcp_kill", every_s=0.05)
            async with asyncio.timeout(PATIENCE_S):
                for times in (2, 4):
                    with contextlib.suppress(aiohttp.ClientError):  # killed before its handshake was read
                        async with market.socket() as websocket:
                            assert (await ending(websocket)).type in {WSMsgType.CLOSED, WSMsgType.ERROR}
                    while (await market.control("/log"))["counts"]["fault tcp_kill"] < times:
                        pass

    run(story())


def test_fault_no_pongs_leaves_pings_unanswered() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            await market.fault("no_pongs", silent=False)
            await websocket.ping(b"alive?")
            await candles(websocket, count_closed(6))  # which asserts that nothing else comes
            assert (await market.control("/log"))["counts"]["fault no_pongs"] == 1

    run(story())


def test_fault_ws_503_refuses_the_handshake() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("ws_503")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await market.session.ws_connect(market.addresses.ws + "/ws")
            assert refused.value.status == 503

    run(story())


def test_fault_subscribe_error_refuses_once() -> None:
    async def story() -> None:
        async with trading() as market, market.socket() as websocket:
            await market.fault("subscribe_error")
            answers: list[Any] = []
            for number in (1, 2):
                await websocket.send_json({"method": "SUBSCRIBE", "params": ["a@kline_1s", STREAMS[0]], "id": number})
            while len(answers) < 2:
                answers.append(json.loads((await websocket.receive(PATIENCE_S)).data))
            assert answers[0]["error"]["code"] == 2
            assert "error" in answers[1]  # `a` is no symbol's name
            await websocket.send_json({"method": "SUBSCRIBE", "params": [STREAMS[0]], "id": 3})
            assert json.loads((await websocket.receive(PATIENCE_S)).data) == {"result": None, "id": 3}

    run(story())


def test_fault_unsubscribe_one_silences_a_symbol_on_a_living_socket() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            begun = await market.fault("unsubscribe_one", symbols=["ETHUSDT"])
            bars = await candles(websocket, opened_after(begun, 6))
            assert {bar["s"] for bar in bars if bar["t"] > begun} == {"BTCUSDT", "BNBUSDT"}
            await websocket.send_json({"method": "SUBSCRIBE", "params": [STREAMS[1]], "id": 2})
            async with asyncio.timeout(PATIENCE_S):
                while "ethusdt@kline_1s" not in (await websocket.receive()).data:
                    pass

    run(story())


@pytest.mark.parametrize("how", ["refused", "reset"])
def test_fault_refuse_shuts_the_port_and_clear_opens_it(how: str) -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            await market.fault("refuse", how=how)
            assert (await ending(websocket)).type in {WSMsgType.CLOSED, WSMsgType.ERROR}
            with pytest.raises(aiohttp.ClientConnectionError):
                await market.get("/api/v3/ping")
            await market.clear()
            assert (await reached(market)).status == 200

    async def reached(market: Trading) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    return await market.get("/api/v3/ping")

    run(story())


@pytest.mark.parametrize("path", ["/ws", "/stream"])
def test_fault_rotation_says_so_and_then_closes(path: str) -> None:
    async def story() -> None:
        async with trading() as market, market.socket(path=path) as websocket:
            await market.fault("rotation", age_s=0.1, notice_s=0.2)
            event = json.loads((await websocket.receive(PATIENCE_S)).data)
            assert event.get("stream", "!serverShutdown") == "!serverShutdown"
            assert event.get("data", event)["e"] == "serverShutdown"
            assert (await ending(websocket)).data == 1001

    run(story())
