"""The one door for every HTTP request of a ccxt instance: within the budget, few at once, its answer heard.

Enters: requests as ccxt has made them. Leaves: their answers, or errors in our terms. Does not know: what is asked.

Whatever ccxt does by itself, as loading markets, passes here too, since this replaces the instance's own `fetch`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from streaming.feed.budget import Budget
from streaming.feed.errors import ExchangeUnavailable, translate
from streaming.settings import ExchangeSettings

AT_ONCE = 4
OTHERS_WINDOW_S = 4.0
"""Exchanges that state a pace, not a sum a minute, are asked at most that pace within a window this short."""
OTHERS_SHARE = 0.8
"""Of the pace that ccxt states, since some of their calls weigh a little more than one."""
ADDRESS_WEIGHT = {"binance": 6_000, "binanceus": 1_200, "binanceusdm": 2_400}
"""Allowed a minute to a whole address. Source: the exchanges' own `exchangeInfo`, `rateLimits`."""
_SPOT = {"klines": 2.0, "exchangeInfo": 20.0, "24hr": 80.0}
WEIGHTS = {"binance": _SPOT, "binanceus": _SPOT, "binanceusdm": {"exchangeInfo": 1.0, "24hr": 40.0}}
"""Of one request, by the end of its path; others weigh 1. Source: the REST documentation of Binance."""
_USDM_KLINES = ((99, 1.0), (499, 2.0), (1_000, 5.0), (1_500, 10.0))


@dataclass
class Answer:
    """What is known of one request's answer apart from its text; a task sees its own only."""

    host: str = ""
    status: int | None = None  # none: there was no answer
    date: str | None = None  # the answer's own Date
    sent_at_s: float = 0.0  # monotonic
    received_at_s: float = 0.0


answer_of_task: ContextVar[Answer] = ContextVar("answer_of_task")
"""To the request that this task made last."""
deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))
"""Monotonic; a request that the budget would hold back beyond it is refused at once."""


def weight_of(exchange: str, url: str) -> float:
    """What a request counts in the exchange's own sum, or 1 where it has none."""
    parts = urlsplit(url)
    end = parts.path.rsplit("/", 1)[-1]
    if exchange == "binanceusdm" and end == "klines":
        limit = int(parse_qs(parts.query).get("limit", ["500"])[0])
        return next((weight for rows, weight in _USDM_KLINES if limit <= rows), 10.0)
    return WEIGHTS.get(exchange, {}).get(end, 1.0)


def budget_for(exchange: Any, settings: ExchangeSettings) -> Budget:
    """Weights a minute where the exchange counts them, else a share of the pace that ccxt states."""
    if exchange.id in WEIGHTS:
        allowed = max(settings.weight_a_minute, ADDRESS_WEIGHT[exchange.id])  # who sets more has been allowed more
        return Budget(settings.weight_a_minute, address_weight=allowed)
    return Budget(max(1.0, OTHERS_WINDOW_S * 1000 / max(1.0, exchange.rateLimit) * OTHERS_SHARE), OTHERS_WINDOW_S)


class Door:
    """Of one ccxt instance, which asks through it from now on."""

    def __init__(
        self,
        exchange: Any,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.budget = budget
        self.last = Answer()  # of any request
        self.waiting = 0  # requests that the budget holds back
        self._id = str(exchange.id)
        self._clock = clock
        self._sleep = sleep
        self._places = asyncio.Semaphore(AT_ONCE)
        self._ask, self._strip = exchange.fetch, exchange.on_rest_response
        exchange.fetch = self._fetch
        exchange.on_rest_response = self._on_answer

    async def _fetch(
        self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> Any:
        """Ask once the budget allows.

        Raises:
            ExchangeError, ExchangeUnavailable: as `translate` says.
        """
        host = urlsplit(url).netloc
        async with self._places:
            await self._admitted(weight_of(self._id, url), host)
            answer = Answer(host, sent_at_s=self._clock())
            answer_of_task.set(answer)
            try:
                return await self._ask(url, method, headers, body)
            except Exception as error:
                mine = translate(error, self._id, host, answer.status)
                if isinstance(mine, ExchangeUnavailable) and answer.status is not None:
                    mine.retry_after_s = self.budget.blocked_s(self._clock())
                if mine is error:
                    raise
                raise mine from error

    async def _admitted(self, weight: float, host: str) -> None:
        while wait_s := self.budget.take(self._clock(), weight):
            if self._clock() + wait_s > deadline.get():
                blocked = self.budget.blocked_s(self._clock())
                why = f"wants no request for {blocked:.0f} s" if blocked else "has had its weight of this minute"
                raise ExchangeUnavailable(f"{host} ({self._id}) {why}", retry_after_s=wait_s)
            self.waiting += 1
            try:
                await self._sleep(wait_s)
            finally:
                self.waiting -= 1

    def _on_answer(self, code: int, reason: str, url: str, method: str, headers: dict[str, str], *rest: Any) -> Any:
        """ccxt's hook between an answer's arrival and its reading."""
        answer = answer_of_task.get()
        answer.status, answer.received_at_s = code, self._clock()
        answer.date = next((value for name, value in headers.items() if name.lower() == "date"), None)
        self.budget.heard(answer.received_at_s, code, headers)
        self.last = answer
        return self._strip(code, reason, url, method, headers, *rest)
