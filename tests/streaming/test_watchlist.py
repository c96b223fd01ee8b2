"""Which series begin and end as an exchange's list changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from models.errors import CandlewickError
from models.series import Series
from streaming.feed.symbols import Market
from streaming.settings import ExchangeSettings, IngestSettings, Settings
from streaming.watchlist import Looks, Watchlist

FIRST_S = 1e-4


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
    assert asyncio.run(watch.look(btc)) == ([], [])
    assert watch.lacking == {"ETH/USDT"}
    lists.bases = ["BTC", "ETH"]
    assert asyncio.run(watch.look(btc)) == (series("ETH/USDT"), [])
    assert watch.lacking == set()


def test_watchlist_of_an_exchange_that_lists_none_of_its_symbols_any_more_is_an_ailment() -> None:
    lists = Lists("BTC", "ETH")
    watch = watchlist(lists, symbols="BTC/USDT")
    btc = asyncio.run(watch.look(set())).begin
    assert watch.ailment(0) is None  # a shard may have no series
    lists.bases = ["ETH"]
    assert asyncio.run(watch.look(set(btc))).end == btc
    assert "no series is watched" in str(watch.ailment(0))
    lists.bases = ["BTC"]
    assert asyncio.run(watch.look(set())).begin == btc
    assert watch.ailment(1) is None


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


async def pauses(looks: Looks, outcomes: list[Callable[[], None]]) -> list[float]:
    """How long each look had to wait at least, one after each of these outcomes."""
    found = []
    for learn in outcomes:
        learn()
        found.append(looks._pause_s / FIRST_S)
        await looks.due()
    return found


def test_looks_at_a_list_that_lacks_a_symbol_come_soon_and_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.watchlist.FIRST_PAUSE_S", FIRST_S)
    looks = Looks(10 * FIRST_S)

    def lacking() -> None:
        looks.learn(news=False, amiss=True)

    def ended() -> None:
        looks.learn(news=True, amiss=True)

    def calm() -> None:
        looks.learn(news=False, amiss=False)

    outcomes = [ended, lacking, lacking, lacking, lacking, calm, ended]
    assert asyncio.run(pauses(looks, outcomes)) == pytest.approx([1, 2, 4, 8, 10, 1, 1])


def test_looks_are_due_at_a_doubt_and_less_and_less_often_while_the_list_does_not_bear_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streaming.watchlist.FIRST_PAUSE_S", FIRST_S)
    looks = Looks(3_600.0)

    def doubted() -> None:
        looks.learn(news=False, amiss=False)
        looks.doubt(Series("binance", "BTC/USDT", "1m"))

    async def story() -> list[float]:
        return await asyncio.wait_for(pauses(looks, [doubted] * 4), 60)  # else the next look is in an hour

    assert asyncio.run(story()) == pytest.approx([1, 2, 4, 8])
