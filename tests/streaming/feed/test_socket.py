"""One connection: what is refused, what is not answered, what is no frame, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from streaming.feed.errors import ExchangeUnavailable
from streaming.feed.frames import BINANCE
from streaming.feed.socket import Socket, Surroundings
from streaming.feed.tally import Tally
from tests.streaming.feed.listening import Heard, until
from tests.streaming.feed.scripted import Request, Scripted, agreed, opened, scripted

NAMES = ("AAA", "BBB", "CCC", "DDD", "EEE")
HASTY = replace(BINANCE, pause_s=0.0)
PAIRS = [(f"{name}/USDT", "1s") for name in NAMES]


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 100))


@asynccontextmanager
async def a_socket(url: str, heard: Heard, tally: Tally, **chosen: Any) -> AsyncIterator[Socket]:
    exchange, settings = opened(url, *NAMES, **chosen)
    socket = Socket(Surroundings(exchange, settings, heard, tally), HASTY, asyncio.Event())
    try:
        yield socket
    finally:
        await socket.close()
        await exchange.close()


def refusing(bad: str, code: int | None = None) -> Callable[[Request], list[object]]:
    """Objects to every request that names a stream, in one of two forms."""

    def answer(request: Request) -> list[object]:
        if not any(stream.startswith(bad) for stream in request["params"]):
            return agreed(request)
        if code is None:
            return [{"error": {"code": 2, "msg": "Invalid request"}, "id": request["id"]}]
        return [{"code": code, "msg": "Invalid request"}]

    return answer


@pytest.mark.parametrize("code", [None, 2], ids=["with id", "without id"])
def test_socket_subscription_refused_finds_the_bad_series_and_hears_the_others(code: int | None) -> None:
    async def story() -> None:
        heard = Heard()
        async with scripted(Scripted(refusing("ccc", code))) as script, a_socket(script.url, heard, Tally()) as socket:
            await socket.open(PAIRS)
            assert list(socket.refused) == [("CCC/USDT", "1s")]
            assert "Invalid request" in socket.refused["CCC/USDT", "1s"]
            assert socket.pairs == set(PAIRS) - {("CCC/USDT", "1s")}
            await script.tell(*NAMES)
            await until(lambda: len(heard.klines) >= 4)
            assert heard.symbols_since(0) == {"AAA/USDT", "BBB/USDT", "DDD/USDT", "EEE/USDT"}

    run(story())


def test_socket_everything_refused_blames_the_exchange() -> None:
    async def story() -> None:
        async with scripted(Scripted(refusing(""))) as script, a_socket(script.url, Heard(), Tally()) as socket:
            with pytest.raises(ExchangeUnavailable, match="refused all 5 series"):
                await socket.open(PAIRS)

    run(story())


def test_socket_subscription_not_answered_is_unavailable() -> None:
    async def story() -> None:
        async with scripted(Scripted()) as script, a_socket(script.url, Heard(), Tally()) as socket:
            await socket.open(PAIRS[:1])
            script.answer = lambda _: []
            socket._settings = socket._settings.model_copy(update={"request_timeout_s": 0.01})  # connecting took longer
            with pytest.raises(ExchangeUnavailable, match="no answer from"):
                await socket.subscribe(PAIRS[1:])

    run(story())


def test_socket_many_series_are_asked_in_batches() -> None:
    async def story() -> None:
        async with scripted(Scripted()) as script, a_socket(script.url, Heard(), Tally()) as socket:
            many = [(f"{name}/USDT", timeframe) for name in NAMES for timeframe in ("1s", "1m", "5m", "1h")] * 9
            await socket.open(many)
            assert [len(streams) for streams in script.subscribed] == [150, 30]

    run(story())


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff\xfe", b'{"e":"kline","s":"\xff\xfe\xfd"}', b"[" * 50_000])
def test_socket_garbage_is_counted_and_the_next_bar_is_heard(data: bytes) -> None:
    async def story() -> None:
        heard, tally = Heard(), Tally()
        async with scripted(Scripted()) as script, a_socket(script.url, heard, tally) as socket:
            await socket.open(PAIRS)
            await script.tell("AAA", data=data)
            await script.tell("BBB")
            await until(lambda: heard.symbols_since(0) == {"AAA/USDT", "BBB/USDT"})
            assert tally.bad_frames == 1
            assert not socket.ended.done()

    run(story())


def test_socket_bar_unasked_is_passed_over_and_counted() -> None:
    async def story() -> None:
        heard, tally = Heard(), Tally()
        async with scripted(Scripted()) as script, a_socket(script.url, heard, tally) as socket:
            await socket.open(PAIRS[:2])
            await socket.unsubscribe(PAIRS[:1])
            await script.tell("AAA", "BBB")
            await until(lambda: heard.klines)
            assert heard.symbols_since(0) == {"BBB/USDT"}
            assert tally.strays == 1
            assert script.requests[-1]["method"] == "UNSUBSCRIBE"

    run(story())


def test_socket_bar_heard_tells_the_exchanges_clock() -> None:
    async def story() -> None:
        heard = Heard()
        async with scripted(Scripted()) as script, a_socket(script.url, heard, Tally()) as socket:
            await socket.open(PAIRS)
            await script.tell("AAA", "BBB")
            await until(lambda: len(heard.klines) == 2)
            assert heard.event_times == [1_700_000_041_000]  # not with every bar

    run(story())


def test_socket_ping_unanswered_ends_it() -> None:
    """A server that reads nothing after the handshake and the subscription: no pong will ever come."""

    async def story() -> None:
        script = Scripted()

        def agreed_for_the_last_time(request: Request) -> list[object]:
            script.sockets[0]._req.transport.pause_reading()  # type: ignore[union-attr]
            return agreed(request)

        script.answer = agreed_for_the_last_time
        async with scripted(script), a_socket(script.url, Heard(), Tally(), keep_alive_s=0.2) as socket:
            with suppress(ExchangeUnavailable):  # where the answer takes longer than the pong may
                await socket.open(PAIRS)
            await asyncio.wait_for(asyncio.shield(socket.ended), 60)
            assert "error" in socket.ended.result()

    run(story())


def test_socket_without_traffic_lives_on_pongs() -> None:
    async def story() -> None:
        async with scripted(Scripted()) as script, a_socket(script.url, Heard(), Tally(), keep_alive_s=1.0) as socket:
            await socket.open(PAIRS)
            await until(lambda: script.pings >= 2 or socket.ended.done())  # the second comes if the first was answered
            assert not socket.ended.done()

    run(story())


def test_socket_listener_raising_is_not_taken_for_a_bad_frame() -> None:
    class Broken(Heard):
        def on_kline(self, *_: object) -> None:
            raise ZeroDivisionError

    async def story() -> None:
        async with scripted(Scripted()) as script, a_socket(script.url, Broken(), Tally()) as socket:
            await socket.open(PAIRS)
            await script.tell("AAA")
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(asyncio.shield(socket.ended), 60)

    run(story())


def test_socket_close_under_a_flood_that_does_not_stop_ends_in_time() -> None:
    async def story() -> None:
        heard = Heard()

        async def pour(script: Scripted) -> None:
            while True:
                await script.tell(*NAMES)

        async with scripted(Scripted()) as script, a_socket(script.url, heard, Tally()) as socket:
            await socket.open(PAIRS)
            script.sockets[0].close = None  # type: ignore[assignment] # it would answer our good-bye
            pouring = asyncio.create_task(pour(script))
            await until(lambda: len(heard.klines) > 100)
            await asyncio.wait_for(socket.close(), 60)
            pouring.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await pouring

    run(story())


def test_socket_address_nobody_serves_says_what_could_not_be_reached() -> None:
    async def story() -> None:
        async with a_socket("ws://127.0.0.1:9", Heard(), Tally()) as socket:
            with pytest.raises(ExchangeUnavailable, match=r"cannot reach ws://127\.0\.0\.1:9/stream/ws/0: "):
                await socket.open(PAIRS)

    run(story())


def test_socket_name_nobody_knows_says_so() -> None:
    async def story() -> None:
        async with a_socket("ws://exchange.invalid:9", Heard(), Tally(), request_timeout_s=3) as socket:
            with pytest.raises(ExchangeUnavailable, match=r"name resolution failed|no answer in time"):
                await socket.open(PAIRS)

    run(story())
