"""Which symbols are watched, and what is said of their changes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import CandlewickError
from streaming.feed.errors import ExchangeError, UnknownSymbol
from streaming.feed.symbols import (
    Change,
    Market,
    by_volume,
    changes,
    is_leveraged,
    of_shard,
    read_markets,
    resolve,
    wanted,
)
from streaming.settings import ExchangeSettings


def spot(base: str, quote: str = "USDT", active: bool = True) -> Market:
    return Market(f"{base}/{quote}", f"{base}{quote}", base, quote, "spot", active)


def swap(base: str) -> Market:
    return Market(f"{base}/USDT:USDT", f"{base}USDT", base, "USDT", "swap", True)


def listed(*markets: Market) -> dict[str, Market]:
    return {market.symbol: market for market in markets}


SPOT = listed(*(spot(base) for base in ("BTC", "ETH", "SOL", "JUP", "BTCUP", "ETH3S")), spot("BTC", "EUR"))


@dataclass
class Ask:
    """Settings, shortly."""

    symbols: str = ""
    top: int = 0
    quote: str = "USDT"

    @property
    def settings(self) -> ExchangeSettings:
        return ExchangeSettings(symbols=self.symbols, top=self.top, quote=self.quote)


def test_wanted_by_list_keeps_its_order_and_each_once() -> None:
    asked = Ask("ETH/USDT, BTCUSDT,btc/usdt,").settings
    assert wanted(asked, SPOT, {}) == ["ETH/USDT", "BTC/USDT"]


def test_wanted_of_an_unknown_symbol_names_near_ones() -> None:
    with pytest.raises(UnknownSymbol, match=r"binance has no symbol BCT/USDT; near: .*BTC/USDT"):
        wanted(Ask("BTC/USDT,BCT/USDT").settings, SPOT, {})


def test_wanted_of_nothing_says_how_to_ask() -> None:
    with pytest.raises(ExchangeError, match="--symbols"):
        wanted(Ask().settings, SPOT, {})


def test_wanted_by_rank_takes_the_largest_active_ones_and_no_leveraged_tokens() -> None:
    markets = SPOT | listed(spot("XRP", active=False))
    volumes = {
        "BTC/USDT": 5.0,
        "ETH/USDT": 9.0,
        "BTCUP/USDT": 99.0,
        "ETH3S/USDT": 99.0,
        "XRP/USDT": 99.0,
        "JUP/USDT": 1.0,
    }
    assert wanted(Ask(top=3).settings, markets, volumes) == ["ETH/USDT", "BTC/USDT", "JUP/USDT"]


def test_wanted_by_rank_with_equal_volumes_goes_by_name() -> None:
    assert by_volume(
        Ask(top=2).settings, listed(spot("B"), spot("A"), spot("C")), dict.fromkeys(["A/USDT", "B/USDT"], 1.0)
    ) == [
        "A/USDT",
        "B/USDT",
    ]


def test_wanted_by_rank_prefers_spot_and_takes_perpetuals_where_there_is_no_spot() -> None:
    volumes = {"BTC/USDT": 1.0, "ETH/USDT:USDT": 9.0}
    assert by_volume(Ask(top=5).settings, listed(spot("BTC"), swap("ETH")), volumes) == ["BTC/USDT"]
    assert by_volume(Ask(top=5).settings, listed(swap("ETH")), volumes) == ["ETH/USDT:USDT"]


def test_wanted_by_rank_of_a_quote_that_is_not_there_lists_the_quotes() -> None:
    with pytest.raises(ExchangeError, match="no market quoted in GBP; it has EUR, USDT"):
        by_volume(Ask(top=5, quote="GBP").settings, SPOT, {})


def test_wanted_by_rank_without_volumes_asks_for_a_list() -> None:
    with pytest.raises(ExchangeError, match="--symbols"):
        by_volume(Ask(top=5).settings, SPOT, {})


def test_resolve_of_a_spot_name_where_only_perpetuals_are_means_the_perpetual() -> None:
    assert resolve("BTC/USDT", listed(swap("BTC"), swap("ETH")), "binanceusdm") == "BTC/USDT:USDT"
    assert resolve("BTCUSDT", listed(swap("BTC"), swap("ETH")), "binanceusdm") == "BTC/USDT:USDT"


def test_resolve_of_a_name_with_two_meanings_names_both() -> None:
    twins = listed(swap("BTC"), Market("BTC/USDT:BTC", "BTCUSDT_X", "BTC", "USDT", "swap", True))
    with pytest.raises(UnknownSymbol, match="near: BTC/USDT:USDT, BTC/USDT:BTC"):
        resolve("BTC/USDT", twins, "binanceusdm")


@pytest.mark.parametrize("base", ["BTCUP", "ETHDOWN", "XRPBULL", "BTC3L", "ETH5S"])
def test_is_leveraged_of_a_token_of_another_base_is_true(base: str) -> None:
    assert is_leveraged(base, {"BTC", "ETH", "XRP"})


@pytest.mark.parametrize("base", ["JUP", "SYRUP", "BTC", "UP", "PUMPDOWN", "3L"])
def test_is_leveraged_of_an_asset_of_its_own_is_false(base: str) -> None:
    assert not is_leveraged(base, {"BTC", "ETH", "XRP", "J"})


def test_read_markets_of_an_exchange_that_does_not_say_takes_them_for_active() -> None:
    raw: dict[str, dict[str, object]] = {
        "A/B": {"id": "AB", "base": "A", "quote": "B", "type": "spot", "active": None},
        "C/B": {"id": "CB", "base": "C", "quote": "B", "type": "spot", "active": False},
    }
    assert {symbol: market.active for symbol, market in read_markets(raw).items()} == {"A/B": True, "C/B": False}


def test_changes_are_told_by_symbol_and_kind() -> None:
    old = listed(spot("BTC"), spot("ETH"), spot("OLD"), spot("LUNA", active=False), spot("MATIC"))
    new = listed(spot("BTC"), spot("ETH", active=False), spot("NEW"), spot("LUNA"))
    new["POL/USDT"] = Market("POL/USDT", "MATICUSDT", "POL", "USDT", "spot", False)
    assert changes(old, new) == [
        Change("suspended", "ETH/USDT"),
        Change("resumed", "LUNA/USDT"),
        Change("listed", "NEW/USDT"),
        Change("delisted", "OLD/USDT"),
        Change("renamed", "POL/USDT", "MATIC/USDT"),
        Change("suspended", "POL/USDT"),
    ]


def test_changes_between_spot_and_perpetual_of_one_id_are_no_rename() -> None:
    assert changes(listed(spot("BTC")), listed(swap("BTC"))) == [
        Change("delisted", "BTC/USDT"),
        Change("listed", "BTC/USDT:USDT"),
    ]


market = st.builds(
    lambda base, number, active: Market(f"{base}/USDT", f"id{number}", base, "USDT", "spot", active),
    st.sampled_from("ABCDEF"),
    st.integers(0, 7),
    st.booleans(),
)
markets = st.lists(market, max_size=6, unique_by=(lambda m: m.symbol, lambda m: m.id)).map(lambda found: listed(*found))


@settings(deadline=None, derandomize=True)
@given(old=markets, new=markets)
def test_changes_applied_to_the_old_symbols_give_the_new_ones(old: dict[str, Market], new: dict[str, Market]) -> None:
    now = {symbol: found.active for symbol, found in old.items()}
    told = changes(old, new)
    for change in (c for c in told if c.kind in ("delisted", "renamed")):
        now.pop(change.before or change.symbol)
    for change in (c for c in told if c.kind in ("listed", "renamed")):
        now[change.symbol] = old[change.before].active if change.before else new[change.symbol].active
    for change in (c for c in told if c.kind in ("suspended", "resumed")):
        assert now[change.symbol] != (change.kind == "resumed")
        now[change.symbol] = change.kind == "resumed"
    assert now == {symbol: found.active for symbol, found in new.items()}
    assert changes(new, new) == []


@settings(deadline=None, derandomize=True)
@given(names=st.sets(st.text("ABCDEFGH", min_size=2, max_size=5), max_size=30), count=st.integers(1, 7))
def test_shards_of_one_count_share_all_symbols_without_overlap(names: set[str], count: int) -> None:
    symbols = [f"{name}/USDT" for name in sorted(names)]
    shards = [of_shard(symbols, "binance", "1m", f"{index}/{count}") for index in range(1, count + 1)]
    assert sorted(symbol for shard in shards for symbol in shard) == symbols


def test_shard_of_a_symbol_does_not_depend_on_the_others() -> None:
    many = [f"S{number}/USDT" for number in range(40)]
    assert [s for s in many if of_shard([s], "binance", "1m", "2/3")] == of_shard(many, "binance", "1m", "2/3")
    assert 5 <= len(of_shard(many, "binance", "1m", "2/3")) <= 22


def test_shard_beyond_its_count_is_refused() -> None:
    with pytest.raises(CandlewickError, match="use 1/2 to 2/2"):
        of_shard(["BTC/USDT"], "binance", "1m", "3/2")
