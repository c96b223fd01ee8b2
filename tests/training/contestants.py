"""A small bundle trained on real candles, spoiled copies of it, and scores as the gate weighs them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, pack, unpack, with_golden
from models.candle_files import read_candles
from models.candle_table import CandleTable
from models.spec import Network, expected_shapes
from training.assemble import assemble
from training.dataset import build_dataset
from training.evaluate import forecast_rows
from training.evidence import Crps, Evidence
from training.gate import time_blocks, weigh
from training.split import Fractions, split_time
from training.train import Recipe, fit_network

DAY_MS, BAR_MS = 86_400_000, 60_000
SAMPLE = Path(__file__).parents[2] / "streaming" / "sample"
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT")
MADE_UP_START_MS = 1_700_000_040_000
A, B = "a" * 64, "b" * 64
SIX_HOURS, TWO_DAYS = 357, 2_877
"""Closes of the demo's span and of the design's, less a horizon."""
DRAWS = 1_000
MOST_PROMOTIONS = 0.05 + 2 * math.sqrt(0.05 * 0.95 / DRAWS)


def real_candles() -> CandleTable:
    """Fourteen real days of four series, one minute a bar."""
    return read_candles([SAMPLE / f"{symbol.replace('/', '')}.csv.xz" for symbol in SYMBOLS])


def train_small(table: CandleTable, until_ms: int, fractions: Fractions, seed: int = 0) -> Bundle:
    dataset = build_dataset(table.until(until_ms), 32, 3)
    split = split_time(dataset.labelled.sum(axis=0), fractions, 3)
    recipe = Recipe(Network(kind="lstm", hidden=16, layers=1), 10, seed)
    return unpack(assemble(dataset, split, recipe, fit_network(dataset, split, recipe), "default-1m"))


def scaled(bundle: Bundle, factor: float) -> Bundle:
    """Both heads as much wider."""
    old = bundle.spec.calibration
    calibration = msgspec.structs.replace(
        old,
        return_scale_factor=old.return_scale_factor * factor,
        range_scale_factor=old.range_scale_factor * factor,
    )
    return repacked(bundle, {}, calibration=calibration)


def inverted(bundle: Bundle, table: CandleTable) -> Bundle:
    """Expects more where the bundle expects less: the return's mean mirrored at 0, the range's at its usual value."""
    dataset = build_dataset(table, bundle.spec.lookback_bars, bundle.spec.horizon_bars)
    symbol, slot = dataset.rows(0, len(dataset.close_time_ms))
    usual = float(forecast_rows(bundle, dataset, (symbol[::9], slot[::9])).range_location.mean())
    weight, bias = bundle.tensors["head.weight"].copy(), bundle.tensors["head.bias"].copy()
    weight[[0, 2]] *= -1
    bias[[0, 2]] *= -1
    bias[2] += 2 * (usual - bundle.spec.calibration.range_location_shift)
    return repacked(bundle, {"head.weight": weight, "head.bias": bias})


def repacked(bundle: Bundle, changed: dict[str, NDArray[np.float32]], **fields: Any) -> Bundle:
    """The bundle with other weights or fields of its spec, and a golden output that fits them."""
    spec = msgspec.structs.replace(bundle.spec, **fields)
    own = {name: bundle.tensors[name] for name in expected_shapes(spec.network, len(spec.features), spec.lookback_bars)}
    return unpack(pack(spec, with_golden(spec, own | changed)))


def windows(evidence: Evidence, bars: int, step: int) -> Iterator[Evidence]:
    """What was seen in spans of so many closes, one every `step`."""
    bar = (evidence.close_time_ms - evidence.close_time_ms[0]) // evidence.timeframe_ms
    for first in range(0, int(bar[-1]) + 2 - bars, step):
        yield evidence.take((bar >= first) & (bar < first + bars))


def by_close(evidence: Evidence) -> Evidence:
    """The same sums with one row a close: the same ratios in a quarter of the time. The direction is left behind."""
    times, of = np.unique(evidence.close_time_ms, return_inverse=True)

    def total(crps: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(of, weights=crps).astype(np.float64)

    return replace(
        evidence,
        close_time_ms=times,
        challenger=Crps(*map(total, evidence.challenger)),
        champion=Crps(*map(total, evidence.champion or ())),
        range_baselines={name: total(crps) for name, crps in evidence.range_baselines.items()},
        return_baseline=total(evidence.return_baseline),
        y_return=np.zeros(len(times)),
        probability_up=np.full(len(times), 0.5),
    )


def swapped(evidence: Evidence, rows: NDArray[np.bool_] | bool = True) -> Evidence:
    """Challenger and champion change places on some rows, or on all."""
    own, other = evidence.challenger, evidence.champion
    assert other is not None
    mine = Crps(*(np.where(rows, b, a) for a, b in zip(own, other, strict=True)))
    theirs = Crps(*(np.where(rows, a, b) for a, b in zip(own, other, strict=True)))
    return replace(evidence, challenger=mine, champion=theirs)


def made_up(bars: int = 360, gain: float = 0.9, symbols: int = 5, seed: int = 0, **fields: Any) -> Evidence:
    """Scores of a challenger that is `gain` times the champion's on both heads, in a market that comes and goes."""
    rng = np.random.default_rng(seed)
    mood = np.exp(0.3 * rng.normal(size=bars // 30 + 1)).repeat(30)[:bars]
    base = (mood[:, None] * rng.gamma(4.0, 0.25, (bars, symbols))).ravel()

    def near(factor: float) -> NDArray[np.float64]:
        return base * factor * np.exp(0.05 * rng.normal(size=base.size))

    whole: dict[str, Any] = {
        "timeframe_ms": BAR_MS,
        "horizon_bars": 3,
        "close_time_ms": (MADE_UP_START_MS + BAR_MS * np.arange(bars)).repeat(symbols),
        "challenger": Crps(near(gain), near(gain)),
        "champion": Crps(near(1.0), near(1.0)),
        "range_baselines": {"vol60": near(1.2), "range_ewma": near(1.1), "har": near(1.05)},
        "return_baseline": near(1.0),
        "y_return": rng.normal(size=base.size),
        "probability_up": rng.uniform(0.45, 0.55, base.size),
        "up_rate": 0.5,
    }
    return Evidence(**whole | fields)


def promotions(evidence: Evidence, seed: int) -> tuple[float, float]:
    """Share of draws that promote, and share whose range bound alone would let them pass.

    In every draw the gate's own blocks swap challenger and champion by the toss of a coin.
    """
    rng, (block, _) = np.random.default_rng(seed), time_blocks(evidence)
    draws = rng.random((DRAWS, int(block.max()) + 1)) < 0.5
    verdicts = [weigh(swapped(evidence, coins[block]), A, B) for coins in draws]
    passing = [verdict.range_vs_champion.bound < 1 for verdict in verdicts if verdict.range_vs_champion]
    return float(np.mean([verdict.promote for verdict in verdicts])), float(np.mean(passing))
