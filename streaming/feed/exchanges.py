"""Opens an exchange of ccxt by its name, and says what it can.

Enters: settings. Leaves: a ccxt.pro instance that asks for nothing by itself, and its abilities. Does not know:
symbols, and what is asked of the instance.

ccxt is imported here, late: it brings every exchange along (0.9 s and 75 MB; many seconds where Python has to compile
it). Its own throttle stays off: it goes by the wall clock, and stands still when that is set back.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from models.errors import InvalidMessage
from models.series import timeframe_ms
from streaming.feed.errors import ExchangeError
from streaming.settings import ExchangeSettings

NEAR_NAMES = 5
REST_PATHS = {
    "binance": {"public": "/api/v3", "v1": "/api/v1"},
    "binanceus": {"public": "/api/v3", "v1": "/api/v1"},
    "binanceusdm": {
        "fapiPublic": "/fapi/v1",
        "fapiPublicV2": "/fapi/v2",
        "fapiPublicV3": "/fapi/v3",
        "fapiData": "/futures/data",
    },
}
"""Of the exchanges of Binance's shape: where their REST calls go, by ccxt's names of them."""
WS_PATHS = {
    "binance": {"spot": "/stream/ws"},  # ccxt tells spot frames by `/stream` in the address
    "binanceus": {"spot": "/stream/ws"},
    "binanceusdm": {"linear": "/ws"},  # it becomes /market/ws
}
MARKET_TYPES = {"binance": ["spot"], "binanceus": ["spot"], "binanceusdm": ["linear"]}
LACKS_TIMEFRAMES = {"binanceusdm": {"1s"}}
"""That ccxt lists all the same."""


class Abilities(NamedTuple):
    """What an exchange can do for us."""

    websocket: bool  # candles by websocket; else they are polled by REST
    tells_time: bool  # has a call for its clock; else there is the Date of its answers
    tells_volumes: bool  # of all symbols in one call
    timeframes: tuple[str, ...]  # of those that Candlewick has a name for, shortest first


def known_exchanges() -> list[str]:
    """The id of every exchange of ccxt, without importing it."""
    spec = importlib.util.find_spec("ccxt")
    if spec is None or not spec.submodule_search_locations:
        raise ExchangeError("ccxt is not installed; run `make setup`")
    folder = Path(spec.submodule_search_locations[0])
    files = [*folder.glob("pro/*.py"), *folder.glob("async_support/*.py")]
    return sorted({file.stem for file in files if file.stem != "__init__"})


def load_ccxt() -> Any:
    """Import it; an event loop would stand still for as long, and hear no SIGTERM."""
    return importlib.import_module("ccxt.pro")


def open_exchange(settings: ExchangeSettings, markets_of: Any = None) -> Any:
    """A ccxt instance with our time-outs and addresses, without credentials; `await exchange.close()` ends it.

    Args:
        settings: its name, addresses and time-outs.
        markets_of: an instance of the same exchange whose markets are loaded, to share them.

    Raises:
        ExchangeError: there is no such exchange (the message has near names), it has no candles, or an address is none.
    """
    name = settings.name
    if name not in known_exchanges():
        near = difflib.get_close_matches(name, known_exchanges(), NEAR_NAMES, cutoff=0.5)
        raise ExchangeError(
            f"no exchange is called {name!r}; " + (f"near: {', '.join(near)}" if near else "ccxt lists them all")
        )
    config = _config(settings)
    cls = getattr(load_ccxt(), name, None) or getattr(importlib.import_module("ccxt.async_support"), name)
    exchange = cls(config)
    can = abilities(exchange)
    if exchange.has.get("fetchOHLCV") is not True:
        raise ExchangeError(f"{name} gives no candles (ccxt has no fetchOHLCV for it); choose another exchange")
    if not can.timeframes:
        raise ExchangeError(f"{name} lists no timeframes; choose another exchange")
    if markets_of is not None:
        exchange.set_markets_from_exchange(markets_of)
    return exchange


def abilities(exchange: Any) -> Abilities:
    """What an opened exchange can do for us."""
    lacks = LACKS_TIMEFRAMES.get(exchange.id, set())
    lengths = {name: _length_ms(name) for name in exchange.timeframes or () if name not in lacks}
    return Abilities(
        websocket=exchange.has.get("watchOHLCV") is True,
        tells_time=exchange.has.get("fetchTime") is True,
        tells_volumes=exchange.has.get("fetchTickers") is True,
        timeframes=tuple(sorted((n for n, length in lengths.items() if length), key=lambda n: lengths[n] or 0)),
    )


def check_timeframes(exchange: Any, names: str) -> list[str]:
    """The timeframes of a list such as `1m,1h`, each once.

    Raises:
        ExchangeError: none, or one that the exchange lacks; the message lists what it has.
    """
    asked = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    has = abilities(exchange).timeframes
    lacking = [name for name in asked if name not in has]
    if lacking or not asked:
        what = f"has no timeframe {', '.join(lacking)}" if lacking else "needs a timeframe"
        raise ExchangeError(
            f"{exchange.id} {what}; it has {', '.join(has)} (--timeframe, CANDLEWICK_EXCHANGE__TIMEFRAMES)"
        )
    return asked


def _config(settings: ExchangeSettings) -> dict[str, Any]:
    """Keyword arguments in ccxt's form."""
    config: dict[str, Any] = {
        "enableRateLimit": False,
        "newUpdates": True,
        "timeout": int(settings.request_timeout_s * 1000),
        "streaming": {"keepAlive": int(settings.keep_alive_s * 1000), "maxPingPongMisses": 2},
        "enableLastHttpResponse": False,  # it would keep a copy of every list of markets
        "enableLastJsonResponse": False,
        "aiohttp_trust_env": settings.rest_url is None,  # a stand-in is near, not behind a proxy
    }
    if settings.name in MARKET_TYPES:
        types = {"types": list(MARKET_TYPES[settings.name])}
        config["options"] = {"fetchMarkets": types, "fetchMargins": False, "fetchCurrencies": False}
    api = _paths(settings, settings.rest_url, REST_PATHS, ("http", "https"), "REST_URL")
    ws = _paths(settings, settings.ws_url, WS_PATHS, ("ws", "wss"), "WS_URL")
    if api or ws:
        config["urls"] = {"api": api | ({"ws": ws} if ws else {})}
    return config


def _paths(
    settings: ExchangeSettings, url: str | None, paths: dict[str, dict[str, str]], schemes: Iterable[str], variable: str
) -> dict[str, str]:
    """The addresses of a stand-in, by ccxt's names of them; none without one."""
    if not url:
        return {}
    variable = f"CANDLEWICK_EXCHANGE__{variable}"
    if settings.name not in paths:
        raise ExchangeError(f"{variable} stands in for {', '.join(paths)} only, not for {settings.name}; unset it")
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.hostname:
        raise ExchangeError(f"{variable}={url} is no address; write it as {next(iter(schemes))}://host:port")
    return {name: url.rstrip("/") + path for name, path in paths[settings.name].items()}


def _length_ms(name: str) -> int | None:
    try:
        return timeframe_ms(name)
    except InvalidMessage:
        return None  # a month, which is no length of time
