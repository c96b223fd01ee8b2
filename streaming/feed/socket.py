"""One connection to an exchange, from its opening to its end: asks for bars, and passes on what comes.

Enters: symbols and timeframes to hear of; bytes of an exchange whose dialect is known. Leaves: bars, told at once to a
`Listener`. Does not know: other sockets, and what to do when this one ends (`sockets.py`).

The connection is aiohttp's; ccxt gives its address, its words and its session. ccxt's own client is not used: one frame
that is no JSON ends its loop without a word, its keep-alive goes by the wall clock, which may be set back by an hour,
and its parse forgets whether a bar is final. Here all waiting goes by the loop's clock, which only moves forward.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from models.kline import Kline
from streaming.feed.errors import ExchangeUnavailable, why_unreachable
from streaming.feed.frames import Answer, Dialect, Ending, Frame, Garbage
from streaming.feed.subscriptions import Pair, Request, Subscriptions
from streaming.feed.tally import Tally
from streaming.settings import ExchangeSettings

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 1 << 20
CLOSE_TIMEOUT_S = 1.0
"""For the exchange to say good-bye; nothing of worth comes after ours."""
CLOCK_EVERY_S = 1.0


class Listener(Protocol):
    """Whoever wants the bars. Called within the receive loop: it must be quick, and what it raises ends the process."""

    def on_kline(self, symbol: str, timeframe: str, kline: Kline) -> None:
        """A bar was heard, running or final."""

    def on_event_time(self, event_ms: int) -> None:
        """The exchange's clock (UTC ms) when it sent a frame that arrived just now; about once a second a socket."""

    def on_refused(self, symbol: str, timeframe: str, reason: str) -> None:
        """The exchange sends nothing of this series for now; it is asked again, later each time."""


@dataclass(frozen=True)
class Surroundings:
    """What every socket of a process shares."""

    exchange: Any  # ccxt.pro's, with markets loaded
    settings: ExchangeSettings
    listener: Listener
    tally: Tally


class Socket:
    """One connection, a `Connection` of line.py. `ended` is done once it has ended, and its result says why."""

    ended: asyncio.Future[str]

    def __init__(self, surroundings: Surroundings, dialect: Dialect, poke: asyncio.Event) -> None:
        """Args: `poke` is set when the owner should look at this."""
        self._exchange, self._settings = surroundings.exchange, surroundings.settings
        self._listener, self._tally = surroundings.listener, surroundings.tally
        self._dialect, self._poke = dialect, poke
        self._subscriptions = Subscriptions(surroundings.exchange)
        self._loop = asyncio.get_running_loop()
        self._ws: Any = None
        self._pinging: asyncio.Task[None] | None = None
        self._wanted: dict[Pair, Pair] = {}  # by the exchange's names: ("BTCUSDT", "1m") -> ("BTC/USDT", "1m")
        self._asked: dict[str, asyncio.Future[Answer]] = {}  # in the order of asking
        self._send_at = self._clock_at = 0.0
        self.pairs: set[Pair] = set()
        self.refused: dict[Pair, str] = {}
        self.opened_at = self.heard_at = self._loop.time()
        self.announced_end: str | None = None

    async def open(self, pairs: Sequence[Pair]) -> None:
        """Connect and subscribe.

        Raises:
            ExchangeUnavailable: no connection, no answer, or nothing but refusals.
        """
        request = await self._subscriptions.subscribe(pairs[: self._dialect.batch])
        self._ws = await self._connect(request.url)
        self.opened_at = self.heard_at = self._loop.time()
        self.ended = self._loop.create_task(self._receive())
        self.ended.add_done_callback(lambda _: self._poke.set())
        if self._dialect.own_ping:
            self._pinging = self._loop.create_task(self._ping())
        await self.subscribe(pairs)
        if len(self.refused) == len(pairs) > 1:  # it is not the series
            reason = next(iter(self.refused.values()))
            raise ExchangeUnavailable(f"{request.url} refused all {len(pairs)} series: {reason}")

    async def subscribe(self, pairs: Sequence[Pair]) -> None:
        """Ask for bars. Each of these is afterwards in `pairs`, or in `refused` with the exchange's reason.

        Raises:
            ExchangeUnavailable: no answer, or the connection ended.
        """
        self._wanted.update((self._subscriptions.name(pair), pair) for pair in pairs)  # frames may outrun the answer
        for start in range(0, len(pairs), self._dialect.batch):
            await self._subscribe(pairs[start : start + self._dialect.batch])

    async def unsubscribe(self, pairs: Sequence[Pair]) -> None:
        """Ask for no more of these; what still comes of them is passed over.

        Raises:
            ExchangeUnavailable: no answer, or the connection ended.
        """
        self._forget(pairs)
        known = [pair for pair in pairs if self._subscriptions.kind(pair)]  # of what is gone nothing comes
        for start in range(0, len(known), self._dialect.batch):
            batch = known[start : start + self._dialect.batch]
            answer = await self._ask(await self._subscriptions.unsubscribe(batch))
            if answer.objection:
                logger.warning("exchange will not unsubscribe series=%d reason=%s", len(batch), answer.objection)

    async def close(self) -> None:
        """End the connection, whatever its state."""
        if self._pinging is not None:
            self._pinging.cancel()
        if self._ws is not None:
            with suppress(
                OSError
            ):  # TimeoutError is one: aiohttp's own limit starts anew with each frame that still comes
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._ws.close()
            await asyncio.wait({self.ended})

    async def _connect(self, url: str) -> Any:
        import aiohttp  # heavy

        self._exchange.open()
        timeout = aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S)
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                return await self._exchange.session.ws_connect(
                    url,
                    heartbeat=self._settings.keep_alive_s,  # after so much silence a ping, after half as much the end
                    timeout=timeout,
                    max_msg_size=MAX_FRAME_BYTES,
                    decode_text=False,  # else text that is no UTF-8 ends the connection
                )
        except aiohttp.WSServerHandshakeError as error:
            raise ExchangeUnavailable(
                f"{url} answered {error.status} {error.message}", _retry_after_s(error)
            ) from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            reason = "no answer in time" if isinstance(error, TimeoutError) else why_unreachable(error)
            raise ExchangeUnavailable(f"cannot reach {url}: {reason}") from error

    async def _receive(self) -> str:
        """Take what comes until nothing can come any more."""
        from aiohttp import WSMsgType

        ws, take = self._ws, self._take
        while True:
            message = await ws.receive()
            if message.type is not WSMsgType.TEXT and message.type is not WSMsgType.BINARY:
                return (
                    f"{message.type.name.lower()} {ws.close_code or ''} {message.extra or message.data or ''}".strip()
                )
            take(message.data)

    def _take(self, data: bytes) -> None:
        frame = self._dialect.read(data)
        if not isinstance(frame, list):
            self._take_other(frame)
            return
        for bar in frame:
            pair = self._wanted.get((bar.market, bar.interval))
            if pair is None:
                self._tally.strays += 1
                continue
            self._listener.on_kline(pair[0], pair[1], bar.kline)
            self._tally.frames += 1
            self._tally.heard_at = self.heard_at = now = self._loop.time()
            if now >= self._clock_at:
                self._clock_at = now + CLOCK_EVERY_S
                self._listener.on_event_time(bar.event_ms)

    def _take_other(self, frame: Frame) -> None:
        if isinstance(frame, Garbage):
            self._tally.bad_frames += 1
            if self._tally.bad_frames.bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...
                logger.warning("frame cannot be read count=%d reason=%s", self._tally.bad_frames, frame.reason[:200])
        elif isinstance(frame, Ending):
            logger.info("exchange announces the end of a socket reason=%s", frame.reason)
            self.announced_end = frame.reason
            self._poke.set()
        elif isinstance(frame, Answer):
            asked = frame.request if frame.request is not None else next(iter(self._asked), None)  # answers keep order
            future = self._asked.get(asked or "")
            if future is not None and not future.done():
                future.set_result(frame)
            elif frame.objection:
                logger.warning("exchange objects to nothing that was asked reason=%s", frame.objection)

    async def _subscribe(self, pairs: Sequence[Pair]) -> None:
        """One request; if the exchange objects, each half of it, until only those are left that it objects to."""
        answer = await self._ask(await self._subscriptions.subscribe(pairs))
        if answer.objection is None:
            self.pairs.update(pairs)
        elif len(pairs) == 1:
            self._forget(pairs)
            self.refused[pairs[0]] = answer.objection
        else:
            half = len(pairs) // 2
            await self._subscribe(pairs[:half])
            await self._subscribe(pairs[half:])

    async def _ask(self, request: Request) -> Answer:
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._asked[request.id] = future
        try:
            await self._send(request.text)
            timeout_s = self._settings.request_timeout_s
            either: set[asyncio.Future[Any]] = {future, self.ended}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._asked.pop(request.id, None)
        if future.done():
            return future.result()
        if self.ended.done():
            raise ExchangeUnavailable(f"{request.url} ended: {self.ended.result()}")
        raise ExchangeUnavailable(f"no answer from {request.url} to a subscription within {timeout_s:g} s")

    async def _send(self, text: str) -> None:
        """Say something, not sooner after the last time than the exchange allows."""
        turn = max(self._loop.time(), self._send_at)
        self._send_at = turn + self._dialect.pause_s
        await asyncio.sleep(turn - self._loop.time())
        try:
            await self._ws.send_str(text)
        except OSError as error:  # aiohttp's error of a closed connection is one
            raise ExchangeUnavailable(f"the connection was cut: {error}") from error

    async def _ping(self) -> None:
        with suppress(ExchangeUnavailable):
            while not self.ended.done():
                await asyncio.sleep(self._settings.keep_alive_s)
                await self._send(self._subscriptions.ping())

    def _forget(self, pairs: Sequence[Pair]) -> None:
        self.pairs.difference_update(pairs)
        self._wanted = {name: pair for name, pair in self._wanted.items() if pair not in pairs}


def _retry_after_s(error: Any) -> float:
    text = (error.headers or {}).get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0
