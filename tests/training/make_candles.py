"""Made-up markets: prices walk at random, volatility comes and goes, so the range can be foretold a little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.candle_table import CandleTable, build_table

MINUTE_MS = 60_000
START_MS = 1_700_000_040_000
SYMBOLS = ("AAA/USDT", "BBB/USDT", "CCC/USDT")


def make_table(bars: int = 2_400, symbols: tuple[str, ...] = SYMBOLS, seed: int = 0) -> CandleTable:
    """A table without a gap."""
    rng = np.random.default_rng(seed)
    times = START_MS + MINUTE_MS * np.arange(bars, dtype=np.int64)
    return build_table("binance", MINUTE_MS, {symbol: (times, _walk(bars, rng)) for symbol in symbols})


def with_gaps(table: CandleTable, gaps: list[tuple[int, int, int]]) -> CandleTable:
    """The same market with some bars missing: (symbol, first slot, length) each."""
    ohlcv = table.ohlcv.copy()
    for which, first, length in gaps:
        ohlcv[:, which % len(table.symbols), first : first + length] = np.nan
    series = {}
    for i, symbol in enumerate(table.symbols):
        here = np.isfinite(ohlcv[3, i])
        if here.any():
            series[symbol] = (table.open_time_ms[here], ohlcv[:, i, here])
    return build_table(table.exchange, table.timeframe_ms, series)


def write_csv(table: CandleTable, folder: Path) -> Path:
    """One file a symbol; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, symbol in enumerate(table.symbols):
        name = symbol.replace("/", "")
        rows = [
            ",".join([str(time), name, *(repr(float(value)) for value in table.ohlcv[:, i, slot])])
            for slot, time in enumerate(table.open_time_ms.tolist())
            if np.isfinite(table.ohlcv[3, i, slot])
        ]
        (folder / f"{name}.csv").write_text("\n".join(["timestamp_ms,symbol,open,high,low,close,volume", *rows]) + "\n")
    return folder


def _walk(bars: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(5, bars)`: twelve steps a bar, log volatility an AR(1) of half-life 23 bars."""
    shocks = rng.normal(size=bars)
    log_volatility = np.zeros(bars)
    for bar in range(1, bars):
        log_volatility[bar] = 0.97 * log_volatility[bar - 1] + 0.15 * shocks[bar]
    steps = 3e-4 * np.exp(log_volatility)[:, None] * rng.normal(size=(bars, 12))
    path = 100 * np.exp(np.cumsum(steps.ravel())).reshape(bars, 12)
    opening = np.concatenate([[100.0], path[:-1, -1]])
    whole = np.concatenate([opening[:, None], path], axis=1)
    volume = np.exp(log_volatility + 0.3 * rng.normal(size=bars))
    return np.stack([opening, whole.max(axis=1), whole.min(axis=1), path[:, -1], volume])
