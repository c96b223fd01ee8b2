"""Which symbols to watch, and what became of those that were watched: pure.

Enters: the markets of an exchange as ccxt lists them, what was asked for, volumes. Leaves: symbols, or what changed.
Does not know: how markets are fetched, nor who watches them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from models.errors import CandlewickError
from models.series import Series, canonical_symbol
from streaming.feed.errors import ExchangeError, UnknownSymbol
from streaming.settings import ExchangeSettings

NEAR_NAMES = 5
_LEVERAGED = re.compile(r"(?P<of>[A-Z0-9]{2,})(?:UP|DOWN|BULL|BEAR|[2-5][LS])")


class Market(msgspec.Struct, frozen=True, gc=False):
    """One market of an exchange."""

    symbol: str  # as ccxt calls it everywhere: BTC/USDT, BTC/USDT:USDT
    id: str  # as the exchange calls it: BTCUSDT
    base: str
    quote: str
    kind: str  # spot, swap, future, option
    active: bool  # trades now


class Change(NamedTuple):
    """What became of one symbol."""

    kind: Literal["listed", "delisted", "suspended", "resumed", "renamed"]
    symbol: str
    before: str | None = None  # its former name, where renamed


def read_markets(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, Market]:
    """By symbol, of what ccxt's `load_markets` returns; where the exchange does not say, a market is active."""
    return {
        symbol: Market(
            symbol=symbol,
            id=str(market["id"]),
            base=str(market.get("base")),
            quote=str(market.get("quote")),
            kind=str(market.get("type")),
            active=market.get("active") is not False,
        )
        for symbol, market in raw.items()
    }


def wanted(settings: ExchangeSettings, markets: Mapping[str, Market], volumes: Mapping[str, float]) -> list[str]:
    """Symbols to watch: those listed, else the `top` ones of a quote by volume, the largest first.

    Args:
        volumes: traded in a day, in the quote asset, by symbol.

    Raises:
        UnknownSymbol: a listed one is not there; the message has near names.
        ExchangeError: none is asked for, or there is nothing to rank.
    """
    names = [name.strip() for name in settings.symbols.split(",") if name.strip()]
    if names:
        return list(dict.fromkeys(resolve(name, markets, settings.name) for name in names))
    if settings.top:
        return by_volume(settings, markets, volumes)
    raise ExchangeError(
        "which symbols? Give --symbols BTC/USDT,ETH/USDT or --top 50 --quote USDT "
        "(CANDLEWICK_EXCHANGE__SYMBOLS, CANDLEWICK_EXCHANGE__TOP)"
    )


def resolve(name: str, markets: Mapping[str, Market], exchange: str) -> str:
    """The symbol that a person means by `BTC/USDT`, `btc/usdt`, or the exchange's own `BTCUSDT`.

    A name without `:USDT` means the perpetual where the exchange has nothing else of that name.

    Raises:
        UnknownSymbol: there is none; the message has near names.
    """
    name = name.upper()
    try:
        spelled = canonical_symbol(name)
    except ValueError:
        spelled = name
    if spelled in markets:
        return spelled
    fits = [
        m.symbol
        for m in markets.values()
        if name == m.id.upper() or (m.symbol.split(":")[0], m.kind) == (spelled, "swap")
    ]
    if len(fits) == 1:
        return fits[0]
    raise unknown(spelled, markets, exchange, fits)


def unknown(name: str, markets: Mapping[str, Market], exchange: str, fits: Sequence[str] = ()) -> UnknownSymbol:
    """The error of a symbol that is not there, with near names."""
    near = ", ".join(fits or difflib.get_close_matches(name, list(markets), NEAR_NAMES, cutoff=0.5))
    return UnknownSymbol(f"{exchange} has no symbol {name}" + (f"; near: {near}" if near else ""))


def by_volume(settings: ExchangeSettings, markets: Mapping[str, Market], volumes: Mapping[str, float]) -> list[str]:
    """The `top` active markets of the quote asset; spot ones, or perpetuals where there are no spot ones.

    Raises:
        ExchangeError: the exchange has none of that quote, or tells no volumes.
    """
    of_quote = [m for m in markets.values() if m.quote == settings.quote and m.active and m.kind in ("spot", "swap")]
    kind = min((m.kind for m in of_quote), default="spot")  # spot comes first
    bases = {m.base for m in markets.values()}
    ranked = [m.symbol for m in of_quote if m.kind == kind and not is_leveraged(m.base, bases)]
    if not ranked:
        quotes = ", ".join(sorted({m.quote for m in markets.values() if m.active})[:20])
        raise ExchangeError(
            f"{settings.name} has no market quoted in {settings.quote}; it has {quotes or 'none at all'}"
        )
    if not any(volumes.get(symbol) for symbol in ranked):
        raise ExchangeError(f"{settings.name} tells no volumes to rank by; list the symbols instead (--symbols)")
    ranked.sort(key=lambda symbol: (-volumes.get(symbol, 0.0), symbol))
    return ranked[: settings.top]


def is_leveraged(base: str, bases: Iterable[str]) -> bool:
    """Whether a base asset is a leveraged token of another one, as BTCUP and ETH3S are; JUP and SYRUP are none."""
    match = _LEVERAGED.fullmatch(base)
    return match is not None and match["of"] in bases


def changes(old: Mapping[str, Market], new: Mapping[str, Market]) -> list[Change]:
    """What happened between two looks, ordered by symbol.

    A market whose id at the exchange now has another symbol was renamed. One that is listed without trading yet is
    listed now and resumed once it trades.
    """
    gone, come = old.keys() - new.keys(), new.keys() - old.keys()
    now_called = {(new[symbol].id, new[symbol].kind): symbol for symbol in come}
    renamed = {symbol: now_called[key] for symbol in gone if (key := (old[symbol].id, old[symbol].kind)) in now_called}
    found = [Change("renamed", after, before) for before, after in renamed.items()]
    found += [Change("delisted", symbol) for symbol in gone - renamed.keys()]
    found += [Change("listed", symbol) for symbol in come - set(renamed.values())]
    pairs = [(symbol, symbol) for symbol in old.keys() & new.keys()] + list(renamed.items())
    for before, after in pairs:
        if old[before].active != new[after].active:
            found.append(Change("resumed" if new[after].active else "suspended", after))
    return sorted(found, key=lambda change: (change.symbol, change.kind))


def of_shard(symbols: Sequence[str], exchange: str, timeframe: str, shard: str) -> list[str]:
    """Those symbols whose series of this timeframe belong to a shard, as `2/3`: the second of three.

    The shards of one count share all series without overlap, and a series stays where it is when others come or go.

    Raises:
        CandlewickError: the shard is not one of its count.
    """
    from streaming.partition import partition_of  # lazy: it imports aiokafka, which looking at markets does not need

    index, count = (int(part) for part in shard.split("/"))
    if not 1 <= index <= count:
        raise CandlewickError(f"shard {shard} is none of {count}: use 1/{count} to {count}/{count}")
    return [s for s in symbols if partition_of(Series(exchange, s, timeframe).key, count) == index - 1]
