"""Which series begin and end as an exchange's list changes."""

from __future__ import annotations

import asyncio
import logging

import pytest

from models.errors import CandlewickError
from models.series import Series
from streaming.feed.symbols import Market
from streaming.settings import ExchangeSettings, IngestSettings, Settings
from streaming.watchlist import Watchlist


class Lists:
    def __init__(self, *bases: str) -> None:
        self.bases = list(bases)

    async def markets(self, reload: bool = False, within_s: float = 60.0) -> dict[str, Market]:
        return {
            f"{base}/USDT": Market(f"{base}/USDT", f"{base}USDT", base, "USDT", "spot", True) for base in self.bases
        }

    async def volumes(self, within_s: float = 60.0) -> dict[str, float]:
        return {f"{base}/USDT": 100.0 - i for i, base in enumerate(self.bases)}


def watchlist(lists: Lists, shard: str = "1/1", timeframes: tuple[str, ...] = ("1m",), **exchange: object) -> Watchlist:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        exchange=ExchangeSettings.model_validate(exchange),
        ingest=IngestSettings(shard=shard),
    )
    return Watchlist(settings, lists, list(timeframes))


def series(*symbols: str, timeframe: str = "1m") -> list[Series]:
    return [Series("binance", symbol, timeframe) for symbol in symbols]


def test_watchlist_by_rank_follows_who_is_listed_and_who_went(caplog: pytest.LogCaptureFixture) -> None:
    lists = Lists("BTC", "ETH", "SOL", "XRP")
    watch = watchlist(lists, top=2)
    mine = set(series("BTC/USDT", "ETH/USDT"))
    assert asyncio.run(watch.look(set())) == (sorted(mine), [])
    lists.bases = ["NEW", "BTC", "SOL"]
    with caplog.at_level(logging.WARNING):
        turnover = asyncio.run(watch.look(mine))
    assert turnover == (series("NEW/USDT"), series("ETH/USDT"))
    assert "symbol delisted symbol=ETH/USDT" in caplog.text


def test_watchlist_of_named_symbols_goes_on_without_one_that_was_delisted_and_takes_it_back() -> None:
    lists = Lists("BTC", "ETH")
    watch = watchlist(lists, symbols="BTC/USDT, ETHUSDT")
    both, btc = set(series("BTC/USDT", "ETH/USDT")), set(series("BTC/USDT"))
    assert asyncio.run(watch.look(set())).begin == sorted(both)
    lists.bases = ["BTC"]
    assert asyncio.run(watch.look(both)) == ([], series("ETH/USDT"))
    lists.bases = ["BTC", "ETH"]
    assert asyncio.run(watch.look(btc)) == (series("ETH/USDT"), [])


def test_watchlist_names_a_series_again_that_could_not_be_begun() -> None:
    watch = watchlist(Lists("BTC", "ETH"), symbols="BTC/USDT,ETH/USDT")
    asyncio.run(watch.look(set()))
    assert asyncio.run(watch.look(set(series("BTC/USDT")))) == (series("ETH/USDT"), [])


def test_watchlist_of_a_symbol_that_never_was_refuses_with_near_names() -> None:
    with pytest.raises(CandlewickError, match="BTC/USDT"):
        asyncio.run(watchlist(Lists("BTC", "ETH"), symbols="BTK/USDT").look(set()))


def test_watchlist_of_shards_shares_all_series_of_all_timeframes_without_overlap() -> None:
    bases = [f"S{i}" for i in range(40)]
    shards = [
        set(asyncio.run(watchlist(Lists(*bases), f"{i}/3", ("1m", "5m"), top=40).look(set())).begin) for i in (1, 2, 3)
    ]
    assert all(shards)
    assert sum(map(len, shards)) == len(set().union(*shards)) == 80
