"""The loop that ccxt's documentation shows, on every symbol of an exchange: what it tells goes to stdout at the end."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import ccxt.pro

from streaming.feed.exchanges import open_exchange
from streaming.settings import ExchangeSettings

SHARD = 150


async def main(rest: str, ws: str, seconds: float) -> None:
    """Watch for so long; the first line says over which bars it was whole."""
    settings = ExchangeSettings(name="binance", rest_url=rest, ws_url=ws, weight_a_minute=100_000)
    first = open_exchange(settings)
    markets = await first.load_markets()
    exchanges = [first, *(open_exchange(settings, markets_of=first) for _ in range(SHARD, len(markets), SHARD))]
    told: set[tuple[object, ...]] = set()
    symbols = sorted(markets)
    shards = [symbols[at : at + SHARD] for at in range(0, len(symbols), SHARD)]
    tasks = [
        asyncio.create_task(watch(exchange, shard, told)) for exchange, shard in zip(exchanges, shards, strict=True)
    ]
    await asyncio.sleep(4)
    from_ms = (int(time.time()) + 1) * 1_000
    await asyncio.sleep(seconds)
    until_ms = (int(time.time()) - 2) * 1_000
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    sys.stdout.write(json.dumps({"from_ms": from_ms, "until_ms": until_ms}) + "\n")
    for row in told:
        sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()
    for exchange in exchanges:
        await exchange.close()


async def watch(exchange: ccxt.pro.Exchange, symbols: list[str], told: set[tuple[object, ...]]) -> None:
    """Whatever the loop surfaces, by the market's id."""
    while True:
        answer = await exchange.watch_ohlcv_for_symbols([[symbol, "1s"] for symbol in symbols])
        for symbol, frames in answer.items():
            for rows in frames.values():
                told.update((exchange.markets[symbol]["id"], *row) for row in rows)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
