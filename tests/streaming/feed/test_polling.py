"""Which feed an exchange gets, and the one that never says anything."""

from __future__ import annotations

import asyncio

import pytest

from streaming.feed.exchanges import open_exchange
from streaming.feed.polling import Polling, choose_feed
from streaming.feed.sockets import Sockets
from streaming.settings import ExchangeSettings
from tests.streaming.feed.listening import Heard, series


@pytest.mark.parametrize(("name", "kind"), [("binance", Sockets), ("kraken", Sockets), ("bigone", Polling)])
def test_choose_feed_takes_websockets_where_ccxt_has_them(name: str, kind: type[object]) -> None:
    async def story() -> None:
        settings = ExchangeSettings(name=name)
        exchange = open_exchange(settings)
        assert type(choose_feed(exchange, settings, Heard())) is kind
        await exchange.close()

    asyncio.run(story())


def test_polling_counts_series_and_runs_until_cancelled() -> None:
    async def story() -> None:
        feed = Polling()
        running = asyncio.create_task(feed.run())
        feed.watch(series("BTC", "ETH"))
        feed.unwatch(series("BTC"))
        feed.resubscribe(series("ETH")[0])
        await asyncio.sleep(0)
        assert not running.done()
        assert feed.status()._replace(last_error=None)[:4] == (0, 0, 1, 0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(story())
