"""Bars as frames and rows say them, and a sequencer of them, for tests of one rule at a time."""

from __future__ import annotations

from typing import Any

from models.events import Candle
from models.kline import Kline, Span
from models.sequencer import Limits, Sequencer
from tests.models.candle_records import BTC, MINUTE

START = 1_700_000_040_000  # on the grid of minutes and of nothing coarser
LIMITS = Limits(settle_ms=3_000, patience_ms=5_000, reread_ms=2_000, max_kept=10, max_rows=6)


def at(slot: float, ms: int = 0) -> int:
    """The exchange's time so many bars and milliseconds after the start."""
    return START + int(slot * MINUTE) + ms


def row(slot: int, **fields: Any) -> Kline:
    """A bar as REST tells it, never flagged closed."""
    own = {"open_time_ms": at(slot), "open": 100.0, "high": 103.0, "low": 99.0, "close": 101.0, "volume": 5.0 + slot}
    return Kline(**own | fields)


def frame(slot: int, **fields: Any) -> Kline:
    """The last frame of a bar, flagged closed."""
    return row(slot, **{"closed": True} | fields)


def span(first: int, last: int) -> Span:
    """Bars from one to another, both included."""
    return Span(at(first), at(last))


def new_sequencer(limits: Limits = LIMITS, **options: Any) -> Sequencer:
    """One that begins at bar 0."""
    return Sequencer(BTC, START, limits, **options)


def hear(sequencer: Sequencer, *slots: int) -> None:
    """Frames of finished bars, each as its bar closes."""
    for slot in slots:
        sequencer.hear(frame(slot), at(slot + 1, 5))


def publish(sequencer: Sequencer, most: int = 100) -> list[Candle]:
    """What is ready, acknowledged at once."""
    candles = sequencer.ready(at(1_000), most)
    sequencer.acknowledge(candles)
    return candles


def slots_of(candles: list[Candle]) -> list[int]:
    """Which bars these are, counted from the start."""
    return [(candle.open_time_ms - START) // MINUTE for candle in candles]
