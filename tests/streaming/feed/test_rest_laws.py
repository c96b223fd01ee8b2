"""What holds of every exchange: no row is skipped, and the budget is kept."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.feed.rest import Rest
from streaming.settings import ExchangeSettings
from tests.streaming.feed.fake_exchange import MINUTE_MS, SYMBOL, FakeExchange, Manner
from tests.streaming.feed.small_binance import VirtualTime

BARS = 60


@pytest.mark.parametrize("manner", ["rows", "stretch", "newest"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(there=st.sets(st.integers(0, BARS - 1)), first=st.integers(0, BARS - 1), limit=st.integers(1, 12))
def test_pages_of_any_exchange_skip_no_row_and_end(manner: Manner, there: set[int], first: int, limit: int) -> None:
    exchange, time = FakeExchange(there, manner, limit), VirtualTime()
    rest = Rest(exchange, ExchangeSettings(), time, time.sleep)
    last = BARS - 5

    async def read() -> list[int]:
        pages = rest.pages(SYMBOL, "1m", first * MINUTE_MS, last * MINUTE_MS, within_s=1e6)
        return [bar.open_time_ms // MINUTE_MS async for page in pages for bar in page]

    to_be_had = sorted(bar for bar in there if bar >= first)[-limit if manner == "newest" else 0 :]
    assert asyncio.run(read()) == [bar for bar in to_be_had if bar <= last]
    assert len(exchange.fetched) <= max(0, last - first + 1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(weight=st.integers(2, 30), questions=st.integers(1, 60))
def test_rest_admits_no_more_than_the_weight_in_any_minute(weight: int, questions: int) -> None:
    exchange, time = FakeExchange(range(BARS), name="binanceusdm"), VirtualTime()
    rest = Rest(exchange, ExchangeSettings(weight_a_minute=weight), time, time.sleep)
    admitted: list[float] = []
    exchange.during = lambda: admitted.append(time.now_s)

    async def ask() -> None:
        await asyncio.gather(*(rest.door._fetch("http://fake/fapi/v1/klines?limit=100") for _ in range(questions)))

    asyncio.run(ask())
    assert len(admitted) == questions
    assert max(2 * sum(at <= later < at + 60 for later in admitted) for at in admitted) <= weight


def test_rest_has_few_requests_on_their_way_at_once() -> None:
    exchange = FakeExchange(range(BARS), name="binance")
    rest = Rest(exchange, ExchangeSettings())

    async def ask() -> None:
        await asyncio.gather(*(rest.door._fetch("http://fake/api/v3/time") for _ in range(20)))

    asyncio.run(ask())
    assert (exchange.most_under_way, len(exchange.fetched)) == (4, 20)
