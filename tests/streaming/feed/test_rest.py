"""REST against a small exchange over real sockets: nothing skipped, nothing asked that must not be."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from models.kline import Kline
from streaming.feed.errors import ExchangeError, ExchangeUnavailable, UnknownSymbol
from streaming.feed.exchanges import open_exchange
from streaming.feed.rest import Rest
from streaming.settings import ExchangeSettings
from tests.streaming.feed.small_binance import (
    BEGIN_MS,
    MINUTE_MS,
    SYMBOLS,
    SmallBinance,
    VirtualTime,
    asking,
    body,
    open_ms,
    truth,
)

SYMBOL = SYMBOLS["binance"]
Ask = Callable[[Rest], Coroutine[Any, Any, Any]]


async def last_two(rest: Rest) -> list[Kline]:
    """The shortest question there is."""
    return await rest.klines(SYMBOL, "1m", limit=2)


def asked(server: SmallBinance, ask: Ask, time: VirtualTime | None = None, **settings: Any) -> Any:
    async def run() -> Any:
        async with asking(server, time, **settings) as rest:
            return await ask(rest)

    return asyncio.run(run())


def klines_asked(server: SmallBinance) -> list[tuple[float, str, dict[str, str]]]:
    return [one for one in server.asked if one[1] == "/klines"]


HOLES = {
    "none": (),
    "first page begins late": range(250),
    "a page begins late": range(1_000, 1_040),
    "longer than a page": range(1_000, 3_100),
    "up to the end": range(4_200, 5_000),
    "everywhere": [*range(0, 5_000, 3), *range(900, 1_100)],
    "all of it": range(5_000),
}


@pytest.mark.parametrize("name", ["binance", "binanceusdm"])
@pytest.mark.parametrize("hole", HOLES.values(), ids=HOLES)
def test_pages_over_five_thousand_bars_with_holes_equal_the_truth(hole: range, name: str) -> None:
    there = sorted(set(range(5_000)) - set(hole))
    server = SmallBinance(there, name)

    async def read(rest: Rest) -> list[Any]:
        return [page async for page in rest.pages(SYMBOLS[name], "1m", open_ms(0), open_ms(4_999))]

    pages = asked(server, read, weight_a_minute=1_000_000)
    assert [bar for page in pages for bar in page] == truth(there)
    assert all(pages)
    assert len(klines_asked(server)) <= len(there) // 1_000 + 3


def test_pages_of_a_span_leave_out_what_lies_beside_it() -> None:
    async def read(rest: Rest) -> list[Any]:
        return [bar async for page in rest.pages(SYMBOL, "1m", open_ms(10), open_ms(12)) for bar in page]

    assert asked(SmallBinance(list(range(50))), read) == truth([10, 11, 12])


def test_klines_without_a_span_are_the_newest_and_none_is_called_closed() -> None:
    bars = asked(SmallBinance(list(range(50))), lambda rest: rest.klines(SYMBOL, "1m", limit=3))
    assert bars == truth([47, 48, 49])
    assert not any(bar.closed for bar in bars)


def test_klines_from_an_open_time_on_are_as_many_as_asked_for() -> None:
    bars = asked(SmallBinance(list(range(50))), lambda rest: rest.klines(SYMBOL, "1m", open_ms(5), 4))
    assert bars == truth([5, 6, 7, 8])


def test_klines_of_an_empty_span_ask_nothing() -> None:
    server = SmallBinance(list(range(50)))
    assert asked(server, lambda rest: rest.klines(SYMBOL, "1m", open_ms(5), last_ms=open_ms(4))) == []
    assert klines_asked(server) == []


def test_rest_told_to_wait_by_a_429_waits_as_long_as_it_says() -> None:
    time = VirtualTime()
    server = SmallBinance([1, 2], clock=time)
    orders = [(429, {"Retry-After": "17"}, body(-1003, "Too much request weight used"))] * 2

    async def ask(rest: Rest) -> Any:
        server.orders.extend(orders)
        return await last_two(rest)

    assert asked(server, ask, time) == truth([1, 2])
    times = [at_s for at_s, _, _ in klines_asked(server)]
    assert [later - earlier >= 17 for earlier, later in pairwise(times)] == [True, True]


def test_rest_banned_by_a_418_asks_nothing_at_all_until_allowed() -> None:
    time = VirtualTime()
    server = SmallBinance([1, 2], clock=time)

    async def ask(rest: Rest) -> Any:
        server.orders.append((418, {"Retry-After": "300"}, body(-1003, "Way too many requests")))
        with pytest.raises(ExchangeUnavailable) as first:
            await last_two(rest)
        for question in (last_two, lambda r: r.server_time(), lambda r: r.markets(reload=True), lambda r: r.volumes()):
            with pytest.raises(ExchangeUnavailable, match="wants no request for 300 s") as later:
                await question(rest)
            assert later.value.retry_after_s == pytest.approx(300)
        silent = len(server.asked)
        time.now_s += 301
        return first.value.retry_after_s, silent, await last_two(rest)

    retry_after_s, silent, bars = asked(server, ask, time)
    assert retry_after_s == pytest.approx(300)
    assert silent == 2  # the markets, and the question that was answered with the ban
    assert bars == truth([1, 2])


def test_rest_banned_for_less_than_its_patience_waits_the_ban_out() -> None:
    time = VirtualTime()
    server = SmallBinance([1, 2], clock=time)

    async def ask(rest: Rest) -> Any:
        server.orders.append((418, {"Retry-After": "300"}, body(-1003, "Way too many requests")))
        return await asyncio.gather(*(rest.klines(SYMBOL, "1m", limit=2, within_s=900) for _ in range(3)))

    assert asked(server, ask, time) == [truth([1, 2])] * 3
    assert sum(at_s > 1_299 for at_s, _, _ in klines_asked(server)) >= 1


BROKEN: dict[str, tuple[int, dict[str, str], bytes] | None] = {
    "502": (502, {}, b"<html>Bad Gateway</html>"),
    "503 with a code": (503, {}, body(-1000, "An unknown error occurred")),
    "internal error": (400, {}, body(-1001, "Internal error; unable to process your request")),
    "truncated JSON": (200, {}, b'[[1700000040000,"1.0","1.'),
    "no list": (200, {}, b'{"rows": []}'),
    "a row without numbers": (200, {}, b'[[1700000040000,"NaN","1","1","1","1"]]'),
    "a row too short": (200, {}, b'[[1700000040000,"1"]]'),
    "bad UTF-8": (200, {}, b"[\xff\xfe]"),
    "a firewall's 403": (403, {}, b"<html>WAF</html>"),
    "cut": None,
}


@pytest.mark.parametrize("order", BROKEN.values(), ids=BROKEN)
def test_rest_answered_by_something_broken_asks_again(order: tuple[int, dict[str, str], bytes] | None) -> None:
    server = SmallBinance([1, 2])

    async def ask(rest: Rest) -> Any:
        server.orders.extend([order] * 3)
        return await last_two(rest), rest.retries

    bars, retries = asked(server, ask, VirtualTime())
    assert bars == truth([1, 2])
    assert 1 <= retries <= 3  # one that was cut aiohttp asks again by itself


def test_rest_answered_by_502_for_too_long_gives_up_and_names_the_host() -> None:
    server = SmallBinance([1, 2])

    async def ask(rest: Rest) -> Any:
        server.orders.extend([BROKEN["502"]] * 100)
        with pytest.raises(ExchangeUnavailable, match=r"127\.0\.0\.1:\d+ \(binance\) answered 502") as caught:
            await rest.klines(SYMBOL, "1m", limit=2, within_s=30)
        return caught.value

    time = VirtualTime()
    asked(server, ask, time)
    assert time.now_s <= 1_030
    assert 3 < len(klines_asked(server)) < 20


def test_rest_without_a_server_says_what_it_could_not_reach() -> None:
    async def ask(port: int) -> None:
        settings = ExchangeSettings(rest_url=f"http://127.0.0.1:{port}")
        time = VirtualTime()
        rest = Rest(open_exchange(settings), settings, time, time.sleep)
        rest.exchange.timeout_on_exit = 1
        try:
            await rest.markets(within_s=5)
        finally:
            await rest.close()

    with socket.socket() as taken:  # nobody else gets the port, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(
            ExchangeUnavailable, match=rf"cannot reach 127.0.0.1:{port} \(binance\): connection refused"
        ):
            asyncio.run(ask(port))


def test_rest_closed_asks_nothing_any_more() -> None:
    server = SmallBinance([1, 2])

    async def ask(rest: Rest) -> Any:
        await rest.close()
        with pytest.raises(ExchangeUnavailable, match="closed"):
            await last_two(rest)
        return rest.retries

    assert asked(server, ask, VirtualTime()) == 0
    assert klines_asked(server) == []


def test_klines_of_a_symbol_gone_since_raise_unknown_symbol_at_once() -> None:
    server = SmallBinance([1, 2])

    async def ask(rest: Rest) -> Any:
        server.orders.append((400, {}, body(-1121, "Invalid symbol.")))
        with pytest.raises(UnknownSymbol, match=r"Invalid symbol\."):
            await last_two(rest)

    asked(server, ask, VirtualTime())
    assert len(klines_asked(server)) == 1


def test_klines_of_a_symbol_that_never_was_name_near_ones_and_ask_nothing() -> None:
    server = SmallBinance([1, 2])

    async def ask(rest: Rest) -> Any:
        with pytest.raises(UnknownSymbol, match="BTC/USD; near: BTC/USDT"):
            await rest.klines("BTC/USD", "1m")
        with pytest.raises(ExchangeError, match="no timeframe 7m; it has 1s, 1m, 3m"):
            await rest.klines(SYMBOL, "7m")

    asked(server, ask)
    assert klines_asked(server) == []


def test_rest_of_a_server_that_is_no_exchange_says_which_setting_is_wrong() -> None:
    server = SmallBinance([1, 2])

    async def ask(rest: Rest) -> Any:
        server.orders.append((404, {}, b"<html>nginx</html>"))
        with pytest.raises(ExchangeError, match="CANDLEWICK_EXCHANGE__REST_URL"):
            await last_two(rest)

    asked(server, ask)


def test_server_time_is_what_the_exchange_said_with_our_clock_around_it() -> None:
    time = VirtualTime()
    answer = asked(SmallBinance([1]), lambda rest: rest.server_time(), time)
    assert answer.server_ms == BEGIN_MS
    assert answer.sent_at_s <= answer.received_at_s == time.now_s


def test_server_time_of_an_exchange_without_such_a_call_is_the_date_of_its_answer() -> None:
    async def ask(rest: Rest) -> Any:
        rest.exchange.has["fetchTime"] = False
        rest.door.last.date = "Tue, 14 Nov 2023 22:14:00 GMT"
        return await rest.server_time()

    answer = asked(SmallBinance([1]), ask, VirtualTime())
    assert answer.server_ms == 1_700_000_040_500
    assert answer.received_at_s - answer.sent_at_s == pytest.approx(1.0)


def test_server_time_of_an_exchange_without_such_a_call_is_never_the_date_of_an_old_answer() -> None:
    """With websockets alone nothing else asks it anything for hours."""
    time = VirtualTime()
    server = SmallBinance([1])

    async def ask(rest: Rest) -> Any:
        rest.exchange.has["fetchTime"] = False
        await rest.server_time()
        few = len(server.asked)
        time.now_s += 3_600
        server.orders.append((400, {"Date": "Tue, 14 Nov 2023 22:14:00 GMT"}, body(-1121, "Invalid symbol.")))
        return few, await rest.server_time()

    few, answer = asked(server, ask, time)
    assert few == 1  # the markets, which had just come
    assert answer.server_ms == 1_700_000_040_500
    assert answer.received_at_s == time.now_s + 0.5


def test_volumes_are_in_the_quote_asset_by_symbol() -> None:
    assert asked(SmallBinance([1]), lambda rest: rest.volumes()) == {SYMBOL: 12.5}


def test_markets_asked_for_many_times_at_once_are_loaded_once() -> None:
    server = SmallBinance([1])

    async def ask(rest: Rest) -> Any:
        return await asyncio.gather(*(rest.markets(reload=True) for _ in range(10)))

    assert [list(markets) for markets in asked(server, ask)] == [[SYMBOL]] * 10
    assert [path for _, path, _ in server.asked] == ["/exchangeInfo"] * 2


def test_klines_are_the_numbers_of_the_answer_exactly() -> None:
    text = '[[1700000040000,"0.1","0.30000000000000004","1e-8","0.02","123456789.12345678"]]'
    server = SmallBinance([1])

    async def ask(rest: Rest) -> Any:
        server.orders.append((200, {}, text.encode()))
        return await rest.klines(SYMBOL, "1m", BEGIN_MS)

    (bar,) = asked(server, ask)
    numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    assert numbers == tuple(float(number) for number in json.loads(text)[0][1:6])
    assert bar.open_time_ms == BEGIN_MS == open_ms(0) == open_ms(1) - MINUTE_MS


def test_rest_says_once_that_the_exchange_is_away_and_once_that_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    server = SmallBinance([1, 2])

    async def ask(rest: Rest) -> Any:
        server.orders.extend([BROKEN["502"]] * 4)
        return await asyncio.gather(*(last_two(rest) for _ in range(4)))

    with caplog.at_level(logging.INFO, "streaming.feed.asking"):
        asked(server, ask, VirtualTime())
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(" exchange=")[0] for line in said] == ["exchange away", "exchange back"]
    assert "answered 502" in said[0]


def test_klines_cancelled_while_the_budget_holds_them_back_leave_their_place_to_others() -> None:
    server = SmallBinance([1, 2])

    async def ask(rest: Rest) -> Any:
        rest.door.budget.heard(rest.door.last.received_at_s, 418, {"Retry-After": "3000"})
        held = [asyncio.create_task(rest.klines(SYMBOL, "1m", limit=2, within_s=9_000)) for _ in range(6)]
        while rest.door.waiting < 4:  # noqa: ASYNC110 - it has no event of its own; the test's time limit bounds this
            await asyncio.sleep(0)
        for task in held:
            task.cancel()
        ends = await asyncio.gather(*held, return_exceptions=True)
        return [type(end) for end in ends], rest.door.waiting

    assert asked(server, ask) == ([asyncio.CancelledError] * 6, 0)
    assert klines_asked(server) == []
