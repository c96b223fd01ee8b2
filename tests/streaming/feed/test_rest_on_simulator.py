"""REST on the simulated exchange: its history is its truth, and its weights are ours."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from models.kline import Kline
from streaming.feed.errors import ExchangeUnavailable
from streaming.feed.exchanges import open_exchange
from streaming.feed.rest import Rest
from streaming.feed.symbols import wanted
from streaming.settings import ExchangeSettings
from tests.exchange.client import Simulator

MARKETS = {"spot": ("binance", "/api/v3"), "usdm": ("binanceusdm", "/fapi/v1")}


@pytest.fixture(scope="module", params=MARKETS)
def simulator(request: pytest.FixtureRequest) -> Iterator[tuple[Simulator, str, str]]:
    """It, the exchange that it stands in for, and the path of its calls."""
    with Simulator(market=request.param, symbols=20, history=3_000) as running:
        yield running, *MARKETS[request.param]


def asked(simulator: tuple[Simulator, str, str], ask: Callable[[Rest], Coroutine[Any, Any, Any]], **chosen: Any) -> Any:
    settings = ExchangeSettings(name=simulator[1], rest_url=simulator[0].rest, **chosen)

    async def run() -> Any:
        exchange = open_exchange(settings)
        exchange.timeout_on_exit = 1
        rest = Rest(exchange, settings)
        try:
            return await ask(rest)
        finally:
            await rest.close()

    return asyncio.run(run())


def test_pages_of_the_whole_history_equal_the_truth(simulator: tuple[Simulator, str, str]) -> None:
    running = simulator[0]
    until_ms = running.now_ms // 1_000 * 1_000 - 10_000
    symbols: list[str] = []

    async def read(rest: Rest) -> list[Kline]:
        markets = await rest.markets()
        symbols.extend(wanted(ExchangeSettings(top=3), markets, await rest.volumes()))
        symbols.append(markets[symbols[0]].id)
        pages = rest.pages(symbols[0], "1s" if simulator[1] == "binance" else "1m", until_ms - 2_900_000, until_ms)
        return [bar async for page in pages for bar in page]

    bars = asked(simulator, read)
    timeframe = "1s" if simulator[1] == "binance" else "1m"
    truth = running.truth(symbols[-1], timeframe, from_ms=until_ms - 2_900_000, until_ms=until_ms + 1)
    revised = {row[0]: row for row in truth.revised}
    expected = [Kline(*revised.get(row[0], row)) for row in truth.rows]
    assert len(symbols) == 4
    assert len(bars) >= 40
    assert [bar for bar in bars if bar.open_time_ms <= expected[-1].open_time_ms] == expected


def test_rest_counts_weights_as_the_exchange_does(simulator: tuple[Simulator, str, str]) -> None:
    running, _, path = simulator

    def told() -> tuple[int, int]:
        """Its minute, and the weight used in it."""
        with urllib.request.urlopen(f"{running.rest}{path}/time") as answer:
            used = int(answer.headers["X-MBX-USED-WEIGHT-1M"])
            return json.load(answer)["serverTime"] // 60_000, used

    async def ask(rest: Rest) -> tuple[float, tuple[int, int], tuple[int, int]]:
        (symbol, *_) = await rest.markets()
        before, spent = told(), rest.door.budget.used(time.monotonic())
        await rest.volumes()
        await rest.server_time()
        for limit in (1, 99, 100, 499, 500, 1_000):
            await rest.klines(symbol, "1m", limit=limit)
        return rest.door.budget.used(time.monotonic()) - spent, before, told()

    ours, before, after = asked(simulator, ask)
    if before[0] != after[0]:  # its count began anew in between: ask within one minute
        ours, before, after = asked(simulator, ask)
    assert ours == after[1] - before[1] - 1


def test_rest_stops_at_its_own_weight_before_the_exchange_refuses(simulator: tuple[Simulator, str, str]) -> None:
    async def ask(rest: Rest) -> float:
        (symbol, *_) = await rest.markets()
        questions = [rest.klines(symbol, "1m", limit=2, within_s=30) for _ in range(70)]
        with pytest.raises(ExchangeUnavailable, match="has had its weight of this minute") as caught:
            await asyncio.gather(*questions)
        assert rest.door.budget.refusals == 0
        return caught.value.retry_after_s

    assert 30 < asked(simulator, ask, weight_a_minute=60) <= 61


def test_rest_told_to_wait_by_the_exchange_waits_and_has_its_answer(simulator: tuple[Simulator, str, str]) -> None:
    async def ask(rest: Rest) -> tuple[list[Kline], int]:
        (symbol, *_) = await rest.markets()
        await asyncio.to_thread(simulator[0].fault, "rest_429", count=1, retry_after_s=1)
        return await rest.klines(symbol, "1m", limit=2), rest.door.budget.refusals

    bars, refusals = asked(simulator, ask)
    assert (len(bars), refusals) == (2, 1)
