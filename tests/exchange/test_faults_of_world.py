"""Faults of the story itself: bars that are missing, flat, late to settle or corrected; symbols that come and go."""

from __future__ import annotations

import pytest

from tests.exchange.accelerated import STREAMS, candles, count_closed, run, trading


def test_fault_rest_lag_hides_the_newest_rows() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("rest_lag", rows=30)
            before = await market.time_ms()
            newest = (await market.klines(limit=1))[0][0]
            assert before - 31_000 <= newest <= await market.time_ms() - 30_000

    run(story())


def test_fault_unsettled_volume_lets_a_closed_bar_grow() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("unsettled_volume", settle_ms=20_000)
            rows = await market.klines(limit=30)
            await market.clear()
            settled = {row[0]: float(row[5]) for row in await market.klines(limit=190)}
            lost = [float(row[5]) / settled[row[0]] for row in rows[:-1] if settled[row[0]]]
            assert lost[0] == 1
            assert all(share < 0.95 for share in lost[-10:])

    run(story())


def test_fault_zero_trade_shows_flat_bars_without_trades() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(STREAMS[0]) as websocket:
            begun = await market.fault("zero_trade", symbols=["BTCUSDT"])
            quiet = await candles(websocket, lambda bars: bars[-1]["t"] > begun + 5_000)
            bar = quiet[-1]
            assert (bar["x"], bar["n"], bar["f"], bar["L"], bar["v"]) == (True, 0, -1, -1, "0.00000000")
            assert bar["o"] == bar["h"] == bar["l"] == bar["c"]
            await market.clear()
            assert await candles(websocket, lambda bars: bars[-1]["n"] > 0)

    run(story())


@pytest.mark.parametrize("status", ["", "BREAK"])
def test_fault_delist_silences_the_symbol(status: str) -> None:
    async def story() -> None:
        async with trading() as market, market.socket(*STREAMS) as websocket:
            begun = await market.fault("delist", symbols=["ETHUSDT"], status=status)
            bars = await candles(websocket, lambda bars: bars[-1]["t"] > begun + 5_000)
            assert max(bar["t"] for bar in bars if bar["s"] == "ETHUSDT") <= begun
            info = (await market.get("/api/v3/exchangeInfo")).body["symbols"]
            assert {item["symbol"]: item["status"] for item in info}.get("ETHUSDT", "") == status
            answer = await market.get("/api/v3/klines", symbol="ETHUSDT", interval="1s")
            assert answer.status == (200 if status else 400)
            assert status or answer.body == {"code": -1121, "msg": "Invalid symbol."}

    run(story())


def test_fault_list_adds_a_symbol_with_its_first_bar() -> None:
    async def story() -> None:
        async with trading() as market, market.socket("newusdt@kline_1s") as websocket:
            begun = await market.fault("list", symbols=["NEWUSDT"])
            bars = await candles(websocket, count_closed(3))
            first = (await market.klines("NEWUSDT"))[0][0]
            assert begun - 1_000 < first <= begun + 1_000  # a bar may end before `begun` is read
            assert bars[0]["t"] >= first

    run(story())


def test_fault_skew_moves_the_clock_without_turning_it_back() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("skew", ms=-2_000, rate=0.9)
            times = [(await market.get("/api/v3/time")).body["serverTime"] for _ in range(20)]
            assert times == sorted(times)
            with pytest.raises(AssertionError, match="never runs backwards"):
                await market.fault("skew", ms=-9_000, rate=1)

    run(story())


def test_fault_no_rows_leaves_a_gap_in_frames_rest_and_truth() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(STREAMS[0]) as websocket:
            begun = await market.fault("no_rows", slots=4, symbols=["BTCUSDT"])
            bars = await candles(websocket, lambda bars: bars[-1]["t"] > begun + 11_000)
            rows = await market.klines(startTime=begun - 10_000)
            told = (await market.control("/truth", symbol="BTCUSDT", from_ms=begun - 10_000))["symbols"]["BTCUSDT"]
            gap = told["absent"]
            assert gap == list(range(gap[0], gap[0] + 4_000, 1_000))
            assert begun - 1_000 < gap[0] <= begun + 1_000
            for times in ([bar["t"] for bar in bars], [row[0] for row in rows], [row[0] for row in told["rows"]]):
                assert not set(times) & set(gap)
                assert max(times) > gap[-1]

    run(story())


def test_fault_revision_changes_a_closed_bar_in_rest_and_truth_tells_both() -> None:
    async def story() -> None:
        async with trading() as market, market.socket(STREAMS[0]) as websocket:
            begun = await market.fault("revision", share=1.0, after_ms=1_000, symbols=["BTCUSDT"])
            bars = await candles(websocket, lambda bars: bars[-1]["t"] > begun + 8_000)
            told = (await market.control("/truth", symbol="BTCUSDT", from_ms=begun + 1_000))["symbols"]["BTCUSDT"]
            first, later = told["rows"][0], told["revised"][0]
            assert first[0] == later[0]
            assert later[5] > first[5]
            assert float(next(bar["v"] for bar in bars if bar["x"] and bar["t"] == first[0])) == first[5]
            assert float((await market.klines(startTime=first[0], limit=1))[0][5]) == later[5]

    run(story())
