"""The whole feed on the simulated exchange, twenty times as fast as the world: no closing frame is missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from streaming.feed.sockets import Sockets
from tests.exchange.accelerated import Trading, trading
from tests.streaming.feed.listening import Heard, listening, market, series, until
from tests.streaming.feed.scripted import Request, Scripted, agreed, bar, opened, scripted

NAMES = ("BTC", "ETH", "BNB")
SYMBOLS = {f"{name}/USDT" for name in NAMES}
SECOND_MS = 1_000


class Stage(NamedTuple):
    feed: Sockets
    heard: Heard
    exchange: Any
    trading: Trading

    async def all_heard_anew(self) -> None:
        """Wait until every symbol closed a bar from now on."""
        before = {symbol: len(self.heard.closes(symbol)) for symbol in SYMBOLS}
        await until(lambda: all(len(self.heard.closes(symbol)) > before[symbol] for symbol in SYMBOLS))

    def assert_no_close_missed(self) -> None:
        for symbol in SYMBOLS:
            closes = self.heard.closes(symbol)
            assert closes == set(range(min(closes), max(closes) + 1, SECOND_MS)), symbol


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 110))


@asynccontextmanager
async def stage(**chosen: Any) -> AsyncIterator[Stage]:
    """Three symbols heard; sockets of two series, so there are two."""
    heard = Heard()
    async with trading() as exchange:
        ccxt, settings = opened(exchange.addresses.ws, *NAMES, **{"symbols_a_socket": 2} | chosen)
        async with listening(ccxt, settings, heard) as feed:
            feed.watch(series(*NAMES))
            yield Stage(feed, heard, ccxt, exchange)


def test_sockets_quiet_exchange_tells_every_close_on_two_sockets() -> None:
    async def story() -> None:
        async with stage() as play:
            await until(lambda: all(len(play.heard.closes(symbol)) >= 20 for symbol in SYMBOLS))
            play.assert_no_close_missed()
            status = play.feed.status()
            assert (status.sockets, status.alive, status.series, status.reconnects) == (2, 2, 3, 0)
            assert status.silent_s is not None
            assert status.frames == len(play.heard.klines)

    run(story())


@pytest.mark.parametrize(
    ("fault", "params", "chosen"),
    [
        ("tcp_kill", {}, {}),
        ("close_1001", {}, {}),
        ("refuse", {}, {}),
        ("garbage", {"wire": True, "share": 1.0}, {}),
        ("no_pongs", {}, {"keep_alive_s": 1.0}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sockets_connection_lost_is_made_anew(fault: str, params: dict[str, Any], chosen: dict[str, Any]) -> None:
    async def story() -> None:
        async with stage(**chosen) as play:
            await play.all_heard_anew()
            await play.trading.fault(fault, **params)
            await until(lambda: play.feed.status().reconnects >= 2)
            await play.trading.clear()
            await play.all_heard_anew()
            assert play.feed.status().last_error

    run(story())


def test_sockets_handshake_503_is_tried_again_until_it_works() -> None:
    async def story() -> None:
        heard = Heard()
        async with trading() as exchange:
            await exchange.fault("ws_503")
            ccxt, settings = opened(exchange.addresses.ws, *NAMES)
            async with listening(ccxt, settings, heard) as feed:
                feed.watch(series(*NAMES))
                await until(lambda: "503" in (feed.status().last_error or ""))
                assert (feed.status().alive, feed.status().silent_s) == (0, None)
                await exchange.clear()
                await until(lambda: heard.symbols_since(0) == SYMBOLS)
                await until(lambda: feed.status().alive == 1)  # frames may outrun the answer

    run(story())


def test_sockets_candles_stalled_with_pongs_are_heard_on_a_new_socket() -> None:
    async def story() -> None:
        async with stage(silent_socket_s=0.5) as play:
            await play.all_heard_anew()
            await play.trading.fault("stall_with_pongs", old_only=True)
            await until(lambda: play.feed.status().silences >= 2)
            await play.all_heard_anew()
            assert play.feed.status().reconnects == 0

    run(story())


def test_sockets_market_quiet_for_long_is_replaced_less_and_less_often() -> None:
    async def story() -> None:
        async with stage(silent_socket_s=0.1, symbols_a_socket=3) as play:
            await play.trading.fault("stall_with_pongs")
            (line,) = play.feed._lines
            await until(lambda: line._patience_s == pytest.approx(0.1 * 16))
            assert play.feed.status().silences >= 4

    run(story())


@pytest.mark.parametrize("fault", ["garbage", "truncated_json", "duplicate", "reorder"])
def test_sockets_frames_disturbed_leave_the_connection_alone(fault: str) -> None:
    async def story() -> None:
        async with stage() as play:
            await play.all_heard_anew()
            await play.trading.fault(fault, share=0.5)
            await play.all_heard_anew()
            if fault in {"garbage", "truncated_json"}:
                await until(lambda: play.feed.status().bad_frames > 0)
            await play.trading.clear()
            await play.all_heard_anew()
            status = play.feed.status()
            assert (status.reconnects, status.silences, status.alive) == (0, 0, 2)

    run(story())


def test_sockets_subscribe_error_is_overcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.feed.sockets.FIRST_AGAIN_S", 0.05)

    async def story() -> None:
        heard = Heard()
        async with trading() as exchange:
            await exchange.fault("subscribe_error", count=2)
            ccxt, settings = opened(exchange.addresses.ws, *NAMES)
            async with listening(ccxt, settings, heard) as feed:
                feed.watch(series(*NAMES))
                await until(lambda: heard.symbols_since(0) == SYMBOLS)
                assert list(heard.refused) == [("BNB/USDT", "1s")]  # the first half of three

    run(story())


def busy(times: int) -> Scripted:
    """An exchange that objects to so many subscriptions before it agrees, and tells a bar."""
    script = Scripted()

    def answer(request: Request) -> list[object]:
        if len(script.subscribed) > times:
            return [*agreed(request), bar("AAA")]
        return [{"error": {"code": 1, "msg": "Too many requests"}, "id": request["id"]}]

    script.answer = answer
    return script


def test_sockets_only_series_refused_for_a_moment_is_asked_for_until_it_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streaming.feed.sockets.FIRST_AGAIN_S", 0.01)

    async def story() -> None:
        heard = Heard()
        async with scripted(busy(2)) as script:
            ccxt, settings = opened(script.url, "AAA")
            async with listening(ccxt, settings, heard) as feed:
                feed.watch(series("AAA"))
                await until(lambda: heard.klines)
                assert (feed.status().refused, feed.status().refusals) == (0, 2)

    run(story())


def test_sockets_series_refused_is_on_a_line_again_at_once_after_resubscribe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.feed.sockets.FIRST_AGAIN_S", 3_600.0)

    async def story() -> None:
        async with scripted(busy(1)) as script:
            ccxt, settings = opened(script.url, "AAA")
            async with listening(ccxt, settings, Heard()) as feed:
                feed.watch(series("AAA"))
                await until(lambda: (feed.status().sockets, feed.status().refused) == (0, 1))
                feed.resubscribe(series("AAA")[0])
                await until(lambda: feed.status().alive == 1)
                assert (feed.status().series, feed.status().refused) == (1, 0)

    run(story())


def test_sockets_series_refused_and_no_longer_wanted_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.feed.sockets.FIRST_AGAIN_S", 3_600.0)

    async def story() -> None:
        async with scripted(busy(1)) as script:
            ccxt, settings = opened(script.url, "AAA")
            async with listening(ccxt, settings, Heard()) as feed:
                feed.watch(series("AAA"))
                await until(lambda: feed.status().refused == 1)
                feed.unwatch(series("AAA"))
                assert feed.status().refused == 0

    run(story())


@pytest.mark.parametrize(
    ("fault", "chosen"),
    [({}, {"rotate_s": 0.6}), ({"age_s": 1.0, "notice_s": 4.0}, {})],
    ids=["by age", "announced by the exchange"],
)
def test_sockets_rotation_misses_no_close(fault: dict[str, Any], chosen: dict[str, Any]) -> None:
    async def story() -> None:
        async with stage(**chosen) as play:
            await play.all_heard_anew()
            if fault:
                await play.trading.fault("rotation", **fault)
            await until(lambda: play.feed.status().rotations >= 4)
            await play.all_heard_anew()
            play.assert_no_close_missed()
            assert play.feed.status().reconnects == 0

    run(story())


def test_sockets_watch_and_unwatch_change_what_is_heard_without_a_new_socket() -> None:
    async def story() -> None:
        async with stage(symbols_a_socket=10) as play:
            await play.all_heard_anew()
            play.feed.unwatch(series("ETH"))
            await until(lambda: play.heard.symbols_since(len(play.heard.klines) - 20) == SYMBOLS - {"ETH/USDT"})
            play.feed.watch(series(*NAMES))
            await play.all_heard_anew()
            status = play.feed.status()
            assert (status.sockets, status.series, status.reconnects, status.rotations) == (1, 3, 0, 0)

    run(story())


def test_sockets_unwatch_everything_closes_the_sockets() -> None:
    async def story() -> None:
        async with stage() as play:
            await play.all_heard_anew()
            play.feed.unwatch(series(*NAMES))
            await until(lambda: play.feed.status().sockets == 0)
            play.feed.watch(series("BTC"))
            mark = len(play.heard.klines)
            await until(lambda: play.heard.symbols_since(mark) == {"BTC/USDT"})

    run(story())


def test_sockets_series_silently_unsubscribed_is_heard_again_after_resubscribe() -> None:
    async def story() -> None:
        async with stage(symbols_a_socket=10) as play:
            await play.all_heard_anew()
            await play.trading.fault("unsubscribe_one", symbols=["ETHUSDT"])
            mark = len(play.heard.klines)
            await until(lambda: len(play.heard.klines) > mark + 30)
            lost = len(play.heard.closes("ETH/USDT"))
            play.feed.resubscribe(series("ETH")[0])
            await until(lambda: len(play.heard.closes("ETH/USDT")) > lost + 2)
            assert (play.feed.status().sockets, play.feed.status().series) == (2, 3)

    run(story())


def test_sockets_exchange_that_only_ccxt_can_read_is_heard_without_final_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.feed.sockets.dialect_of", lambda *_: None)

    async def story() -> None:
        async with stage() as play:
            await until(lambda: play.feed.status().alive == 2)
            await play.trading.fault("tcp_kill")
            await until(lambda: play.feed.status().reconnects >= 2)
            mark = len(play.heard.klines)
            await until(lambda: play.heard.symbols_since(mark) == SYMBOLS)
            play.feed.unwatch(series("ETH"))
            await until(lambda: play.heard.symbols_since(len(play.heard.klines) - 20) == SYMBOLS - {"ETH/USDT"})
            play.feed.watch(series("ETH"))
            await until(lambda: "ETH/USDT" in play.heard.symbols_since(len(play.heard.klines) - 20))
            assert not any(kline.closed for _, _, kline in play.heard.klines)

    run(story())


def test_sockets_symbol_unknown_is_refused_and_others_are_heard() -> None:
    async def story() -> None:
        async with stage() as play:
            play.feed.watch(series("NOSUCH") + series("BTC", timeframe="7m"))
            assert set(play.heard.refused) == {("NOSUCH/USDT", "1s"), ("BTC/USDT", "7m")}
            await play.all_heard_anew()
            assert play.feed.status().refusals == 2

    run(story())


def test_sockets_symbol_delisted_is_refused_at_the_next_connection() -> None:
    async def story() -> None:
        async with stage(symbols_a_socket=10) as play:
            await play.all_heard_anew()
            left = [play.exchange.safe_market_structure(market(name)) for name in ("BTC", "BNB")]
            play.exchange.set_markets(left)
            await play.trading.fault("tcp_kill")
            await until(lambda: ("ETH/USDT", "1s") in play.heard.refused)
            mark = len(play.heard.klines)
            await until(lambda: play.heard.symbols_since(mark) == SYMBOLS - {"ETH/USDT"})

    run(story())


def test_sockets_listener_raising_ends_the_feed() -> None:
    class Broken(Heard):
        def on_kline(self, *_: object) -> None:
            raise ZeroDivisionError

    async def story() -> None:
        async with trading() as exchange:
            ccxt, settings = opened(exchange.addresses.ws, *NAMES)
            feed = Sockets(ccxt, settings, Broken())
            feed.watch(series(*NAMES))
            with pytest.raises(ExceptionGroup) as caught:
                await feed.run()
            assert caught.value.subgroup(ZeroDivisionError)
            await ccxt.close()

    run(story())


@pytest.mark.parametrize("jump", [-3_600.0, 3_600.0])
def test_sockets_wall_clock_set_by_an_hour_changes_nothing(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    real: Callable[[], float] = time.time

    async def story() -> None:
        async with stage(keep_alive_s=1.0, silent_socket_s=1.5) as play:
            await play.all_heard_anew()
            monkeypatch.setattr(time, "time", lambda: real() + jump)
            await play.all_heard_anew()
            await play.trading.fault("stall_with_pongs", old_only=True)
            await until(lambda: play.feed.status().silences >= 2)
            await play.all_heard_anew()
            assert play.feed.status().reconnects == 0

    run(story())
