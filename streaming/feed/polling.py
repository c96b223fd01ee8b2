"""The feed of an exchange without websockets, and the choice between the two.

Enters: nothing. Leaves: nothing: no frame ever comes, so the sequencer hears of no bar after its close, and asks REST
for it once its patience is over. Does not know: REST.

That is all polling needs, since REST decides what is final in any case: a poller of its own would ask twice. The
patience of such an exchange may be as short as the time after which its REST rows are final (`settle_s`); a bar then
comes so much later than its close, plus the answer's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from models.series import Series
from streaming.feed.exchanges import abilities
from streaming.feed.socket import Listener
from streaming.feed.sockets import Sockets
from streaming.feed.tally import FeedStatus, Tally
from streaming.settings import ExchangeSettings


class Feed(Protocol):
    """Where live bars come from."""

    def watch(self, series: Iterable[Series]) -> None:
        """Hear of these too."""

    def unwatch(self, series: Iterable[Series]) -> None:
        """Hear of these no more."""

    def resubscribe(self, series: Series) -> None:
        """Ask for a series anew that REST knows of and the feed does not."""

    def status(self) -> FeedStatus:
        """How it is."""

    async def run(self) -> None:
        """Go on until cancelled."""


class Polling:
    """No frames at all. Its status knows of no socket and of no last bar."""

    def __init__(self) -> None:
        self._series: set[Series] = set()

    def watch(self, series: Iterable[Series]) -> None:
        """Count these."""
        self._series.update(series)

    def unwatch(self, series: Iterable[Series]) -> None:
        """Count these no more."""
        self._series.difference_update(series)

    def resubscribe(self, series: Series) -> None:
        """Nothing: there is no subscription."""

    def status(self) -> FeedStatus:
        """No sockets, none alive."""
        return Tally().status(sockets=0, alive=0, series=len(self._series), now_s=0.0)

    async def run(self) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()


def choose_feed(exchange: Any, settings: ExchangeSettings, listener: Listener) -> Feed:
    """Websockets where ccxt has candles by them, else none."""
    return Sockets(exchange, settings, listener) if abilities(exchange).websocket else Polling()
