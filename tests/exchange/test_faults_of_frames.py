"""Faults of frames on their way: each loses, doubles, delays or spoils what its sentence says."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter

import pytest
from aiohttp import WSMsgType

from tests.exchange.accelerated import (
    PATIENCE_S,
    STREAMS,
    candles,
    closed,
    count_closed,
    ending,
    heard,
    opened_after,
    run,
    trading,
)


@pytest.mark.parametrize("wire", [False, True])
def test_fault_garbage_sends_what_is_no_event(wire: bool) -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            await market.fault("garbage", share=1.0, wire=wire)
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    message = await websocket.receive()
                    if wire and message.type == WSMsgType.ERROR:
                        break
                    assert message.type == WSMsgType.TEXT
                    if not message.data.startswith("{"):
                        assert not wire
                        break

    run(story())


def test_fault_stall_with_pongs_answers_pings_but_sends_no_candles() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            await market.fault("stall_with_pongs")
            await websocket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
            while "result" not in json.loads((await websocket.receive(PATIENCE_S)).data):
                pass
            await websocket.ping(b"alive?")
            await market.pass_bars(3)
            pong = await websocket.receive(PATIENCE_S)
            assert (pong.type, bytes(pong.data)) == (WSMsgType.PONG, b"alive?")
            assert not await heard(websocket)
            await market.clear()
            assert await candles(websocket, count_closed(1))

    run(story())


def test_fault_stall_of_one_symbol_silences_that_one_alone() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            begun = await market.fault("stall_with_pongs", symbols=["ETHUSDT"])
            bars = await candles(websocket, opened_after(begun, 6))
            assert {bar["s"] for bar in bars if bar["t"] > begun} == {"BTCUSDT", "BNBUSDT"}

    run(story())


def test_fault_old_only_leaves_new_sockets_alone() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as old:
            begun = await market.fault("stall_with_pongs", old_only=True)
            async with market.socket(*STREAMS) as new:
                assert await candles(new, count_closed(9))
                assert max((bar["t"] for bar in await heard(old)), default=0) <= begun

    run(story())


def test_fault_duplicate_sends_frames_twice() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            begun = await market.fault("duplicate", share=1.0)
            bars = closed(await candles(websocket, opened_after(begun, 13)))
            last = bars[-1]["t"]  # of which the others may still be on their way
            assert set(Counter((bar["s"], bar["t"]) for bar in bars if begun < bar["t"] < last).values()) == {2}

    run(story())


def test_fault_reorder_sends_older_bars_after_newer_ones() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(STREAMS[0]) as websocket:
            await market.fault("reorder", share=0.5, delay_s=4)
            bars = await candles(websocket, count_closed(14))
            times = [bar["t"] for bar in closed(bars)]
            assert times != sorted(times)

    run(story())


def test_fault_drop_loses_frames() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(STREAMS[0]) as websocket:
            await market.fault("drop", share=0.6)
            times = [bar["t"] for bar in closed(await candles(websocket, count_closed(12)))]
            assert times == sorted(times)
            assert (times[-1] - times[0]) // 1_000 > 11

    run(story())


def test_fault_truncated_json_cuts_frames() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            await market.fault("truncated_json", share=1.0, utf8=0.0)
            seen: set[str] = set()
            async with asyncio.timeout(PATIENCE_S):
                while not {"[]", "cut"} <= seen:
                    text = (await websocket.receive()).data
                    seen.add("[]" if text == "[]" else "whole" if text.endswith("}}}") else "cut")
            await market.clear()
            await market.fault("truncated_json", share=1.0, utf8=1.0)
            assert (await ending(websocket)).type == WSMsgType.ERROR

    run(story())


def test_fault_late_close_sends_final_frames_after_those_of_the_next_bar() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(STREAMS[0]) as websocket:
            await market.fault("late_close", delay_s=3)
            bars = await candles(websocket, count_closed(12))
            behind = [b for a, b in itertools.pairwise(bars) if b["x"] and a["t"] > b["t"]]
            assert behind

    run(story())
