"""`exchangeInfo` and the 24-hour tickers, in the shape that Binance gives them.

Enters: the exchange's state. Leaves: plain objects for JSON. Does not know: HTTP.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.exchange.exchange import Exchange
from tests.exchange.frames import decimal
from tests.exchange.listing import Listing
from tests.exchange.tape import CLOSE, HIGH, LOW, OPEN, QUOTE, TRADES, VOLUME, Ints

DAY_BARS = 1_440
"""A ticker sums the last so many bars, or a day if that is less: on an accelerated exchange a day is short."""


def exchange_info(exchange: Exchange, names: list[str]) -> dict[str, Any]:
    """`exchangeInfo` of these symbols."""
    spot = exchange.options.spot
    describe = _spot_symbol if spot else _usdm_symbol
    symbols = [
        describe(exchange.world.listings[exchange.number[name]], status)
        for name in names
        if (status := exchange.status(name)) is not None
    ]
    limits = [("REQUEST_WEIGHT", "MINUTE", 1, exchange.options.weights_a_minute)]
    limits += [
        ("ORDERS", "SECOND", 10, 100 if spot else 300),
        ("ORDERS", *(("DAY", 1, 200_000) if spot else ("MINUTE", 1, 1_200))),
    ]
    return {
        "timezone": "UTC",
        "serverTime": exchange.now_ms,
        **({} if spot else {"futuresType": "U_MARGINED"}),
        "rateLimits": [
            {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}
            for kind, interval, number, limit in limits
        ],
        "exchangeFilters": [],
        **({} if spot else {"assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}]}),
        "symbols": symbols,
    }


def tickers(exchange: Exchange, names: list[str]) -> list[dict[str, Any]]:
    """24-hour tickers of these symbols, over finished bars."""
    numbers = [exchange.number[name] for name in names]
    span = min(DAY_BARS, max(1, 86_400_000 // exchange.options.base_ms))
    slots = np.arange(exchange.slot - span, exchange.slot)
    found = []
    for name, number in zip(names, numbers, strict=True):
        bars, exists = exchange.world.bars(np.full_like(slots, number), slots, exchange.now_ms)
        if exists.any():
            there = slots[exists] * exchange.options.base_ms
            found.append(_ticker(exchange, name, bars[:, exists], int(there[0]), int(there[-1])))
    return found


def _ticker(exchange: Exchange, name: str, bars: Ints, first_ms: int, last_ms: int) -> dict[str, Any]:
    show = exchange.printer(exchange.number[name])
    first, last = int(bars[OPEN, 0]), int(bars[CLOSE, -1])
    volume, quote, change = int(bars[VOLUME].sum()), int(bars[QUOTE].sum()), abs(last - first)
    return {
        "symbol": name,
        "priceChange": ("-" if last < first else "") + show.price(change),
        "priceChangePercent": f"{100 * (last - first) / first:.3f}",
        "weightedAvgPrice": show.price(quote // volume if volume else last),
        "lastPrice": show.price(last),
        "lastQty": show.volume(int(bars[VOLUME, -1])),
        "openPrice": show.price(first),
        "highPrice": show.price(int(bars[HIGH].max())),
        "lowPrice": show.price(int(bars[LOW].min())),
        "volume": show.volume(volume),
        "quoteVolume": show.quote(quote),
        "openTime": first_ms,
        "closeTime": last_ms + exchange.options.base_ms - 1,
        "firstId": 1,
        "lastId": int(bars[TRADES].sum()),
        "count": int(bars[TRADES].sum()),
    }


def _spot_symbol(item: Listing, status: str) -> dict[str, Any]:
    tick, step = decimal(1, item.price_decimals, 8), decimal(1, item.volume_decimals, 8)
    return {
        "symbol": item.name,
        "status": status,
        "baseAsset": item.base,
        "baseAssetPrecision": 8,
        "quoteAsset": item.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "PERCENT_PRICE", "multiplierUp": "5", "multiplierDown": "0.2", "avgPriceMins": 5},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000000.00000000", "stepSize": step},
            {"filterType": "MIN_NOTIONAL", "minNotional": "10.00000000", "applyToMarket": True, "avgPriceMins": 5},
            {"filterType": "ICEBERG_PARTS", "limit": 10},
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": "0.00000000",
                "maxQty": "100.00000000",
                "stepSize": "0.00000000",
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
        ],
        "permissions": ["SPOT", "MARGIN"],
    }


def _usdm_symbol(item: Listing, status: str) -> dict[str, Any]:
    tick = decimal(1, item.price_decimals, item.price_decimals)
    step = decimal(1, item.volume_decimals, item.volume_decimals)
    return {
        "symbol": item.name,
        "pair": item.name,
        "contractType": "PERPETUAL",
        "deliveryDate": 4_133_404_800_000,
        "onboardDate": 1_569_398_400_000,
        "status": status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": item.base,
        "quoteAsset": item.quote,
        "marginAsset": item.quote,
        "pricePrecision": item.price_decimals,
        "quantityPrecision": item.volume_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "settlePlan": 0,
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012000",
        "marketTakeBound": "0.30",
        "filters": [
            {"minPrice": tick, "maxPrice": "1000000", "filterType": "PRICE_FILTER", "tickSize": tick},
            {"stepSize": step, "filterType": "LOT_SIZE", "maxQty": "1000000", "minQty": step},
            {"stepSize": step, "filterType": "MARKET_LOT_SIZE", "maxQty": "1000000", "minQty": step},
            {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
            {"limit": 10, "filterType": "MAX_NUM_ALGO_ORDERS"},
            {"notional": "5", "filterType": "MIN_NOTIONAL"},
            {
                "multiplierDown": "0.8500",
                "multiplierUp": "1.1500",
                "multiplierDecimal": "4",
                "filterType": "PERCENT_PRICE",
            },
        ],
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }
