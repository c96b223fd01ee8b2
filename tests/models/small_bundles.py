"""Bundles small enough to serve thousands of candles in a test, and engines that serve them."""

from __future__ import annotations

from models.activation import Epoch, Slot, Timeline
from models.engine import Engine
from models.features import CATALOGUE
from models.series import Series
from models.serving import ServingBundle, make_ready
from tests.models.candle_records import BTC, MINUTE, START_SLOT
from tests.models.make_bundle import make_bundle

DOGE = Series("binance", "DOGE/USDT", "1m")  # no bundle was trained on it
FIVE = Series("binance", "BTC/USDT", "5m")
WARM_UP, LOOKBACK = 20, 8
FIRST_SIGNAL = WARM_UP + LOOKBACK - 1  # slots after the start
SLOT = Slot(MINUTE, 3)


def bundle(seed: int = 0, **overrides: object) -> ServingBundle:
    small = {"lookback": LOOKBACK, "hidden": 4, "features": CATALOGUE[:5], "warm_up_bars": WARM_UP}
    return make_ready(make_bundle(seed=seed, **small | overrides), device="cpu")  # type: ignore[arg-type]


OLD, NEW = bundle(0), bundle(1)
OTHER = bundle(2, model="second-1m", lookback=5, features=CATALOGUE[3:9])
FIVES = bundle(3, model="default-5m", timeframe_ms=5 * MINUTE)
SLOW = bundle(4, model="default-75s", timeframe_ms=75_000)
SHELF = {each.sha256: each for each in (OLD, NEW, OTHER, FIVES, SLOW)}


def epoch(number: int, served: ServingBundle, since_ms: int = 0, proven: tuple[str, ...] = ()) -> Epoch:
    return Epoch(number, served.spec.model, served.sha256, since_ms, proven)  # type: ignore[arg-type]


def timeline_of(*epochs: Epoch) -> Timeline:
    timeline = Timeline()
    for each in epochs:
        spec = SHELF[each.bundle].spec
        timeline = timeline.with_epoch(each, Slot(spec.timeframe_ms, spec.horizon_bars))
    return timeline


ONE_MODEL = timeline_of(epoch(7, OLD))


def new_engine(always_direct: bool = False) -> Engine:
    return Engine(SHELF.get, "candlewick.candles", always_direct)


def close_ms(slot: int, series: Series = BTC) -> int:
    return (START_SLOT + slot) * series.timeframe_ms
