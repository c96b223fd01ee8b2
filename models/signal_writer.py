"""Signals as JSON, many at once: the same records that `encode(Signal(...))` would give, at a third of the cost.

Enters: columns of forecasts under one epoch. Leaves: one JSON object each, as bytes. Does not know: partitions, Kafka.

A record is put together from three pieces. Its head is what one series always says under this epoch, its middle what
all candles of one close share; both are kept as text. Its tail holds the numbers, written for all records at once into
a page of bytes (n, W): every number is 16 characters wide, ten digits and an exponent, after a blank where it is
positive, which JSON allows. The price at the close alone is written with all its digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.activation import Epoch
from models.decode import Columns
from models.events import SCHEMA_VERSION, Direction, Skill, encode
from models.forecast import Forecast
from models.series import parse_key
from models.serving import ServingBundle

Floats = NDArray[np.float64]

NUMBERS = (
    "location", "scale", "range_location", "range_scale", "har_location", "har_scale", "probability_up",
    "expected_return_bps", "expected_range_bps", "interval_low", "interval_high",
)  # fmt: skip
"""Columns of a forecast that differ from record to record."""
WIDTH = 16
"""Characters of a number: sign, ten digits with a point after the first, `e`, sign, two digits."""
LEAST, MOST = 1e-99, 9.99e98
"""Magnitudes outside are written as 0 and as the most: an exponent has two digits, and JSON knows no infinity."""

_DIRECTIONS: dict[int, Direction] = {1: "long", -1: "short", 0: "flat"}
_ZERO = 110  # place of exponent 0 in the tables
_SHIFTS = 10.0 ** np.arange(9.0 + _ZERO, 9.0 - _ZERO, -1.0)  # by exponent: brings ten digits before the point


def _table(texts: Iterable[str]) -> NDArray[np.uint32]:
    """Texts of four characters, each as one number."""
    return np.frombuffer("".join(texts).encode(), np.uint32)


_FIRSTS = _table(f"{sign}{i // 10}.{i % 10}" for sign in " -" for i in range(100))
_FOURS = _table(f"{i:04}" for i in range(10_000))
_EXPONENTS = _table(f"e{i:+03}" if abs(i) < 100 else "e+00" for i in range(-_ZERO, _ZERO))


class _Head(NamedTuple):
    """What a series always says under one epoch."""

    text: bytes
    shows_direction: bool


class SignalWriter:
    """Writes the signals of one epoch."""

    def __init__(self, epoch: Epoch, bundle: ServingBundle, always_direct: bool) -> None:
        self._epoch = epoch
        self._bundle = bundle
        self._always_direct = always_direct
        self._heads: dict[bytes, _Head] = {}
        names = [f'"{name}":' for name in ("volatility", *NUMBERS)]
        blank = "," + ",".join(name + WIDTH * " " for name in names) + "}"
        self._blank = np.frombuffer(blank.encode(), np.uint8)
        self._places = [blank.index(name) + len(name) for name in names]

    def write(
        self, keys: list[bytes], candles: Columns, volatility: Floats, forecast: Forecast, now_ms: int
    ) -> list[bytes]:
        """One JSON object a candle; `keys` are those of its series.

        Raises:
            ValueError: a number is NaN.
        """
        heads = [self._heads.get(key) or self._head(key) for key in keys]
        closes = encode(candles.close.tolist())[1:-1].split(b",")
        middles = self._middles(heads, candles, forecast, now_ms)
        tails = self._tails(volatility, forecast)
        return [b"".join(pieces) for pieces in zip([head.text for head in heads], middles, closes, tails, strict=True)]

    def _head(self, key: bytes) -> _Head:
        exchange, symbol, timeframe = parse_key(key)
        spec = self._bundle.spec
        proven: tuple[Skill, ...] = self._epoch.proven if symbol in self._bundle.symbols else ()
        fields = {
            "v": SCHEMA_VERSION,
            "exchange": exchange,
            "symbol": symbol,
            "timeframe": timeframe,
            "horizon_bars": spec.horizon_bars,
            "dof": spec.distribution.dof,
            "ewma_scale": spec.baselines.return_scale,
            "ewma_dof": spec.baselines.return_dof,
            "interval_coverage": spec.calibration.interval_coverage,
            "proven": proven,
            "model": self._epoch.model,
            "bundle": self._epoch.bundle,
            "epoch": self._epoch.number,
        }
        head = _Head(encode(fields)[:-1] + b",", self._always_direct or "direction" in proven)
        self._heads[key] = head
        return head

    def _middles(self, heads: list[_Head], candles: Columns, forecast: Forecast, now_ms: int) -> list[bytes]:
        """Times, origin and direction. Direction is flat unless it is proven, or wanted anyway."""
        spec = self._bundle.spec
        ahead_ms = spec.horizon_bars * spec.timeframe_ms
        known: dict[tuple[int, str, int], bytes] = {}

        def middle(close_time_ms: int, origin: str, side: int) -> bytes:
            text = known.get((close_time_ms, origin, side))
            if text is None:
                fields = {
                    "close_time_ms": close_time_ms,
                    "target_time_ms": close_time_ms + ahead_ms,
                    "direction": _DIRECTIONS[side],
                    "origin": origin,
                    "predicted_at_ms": now_ms,
                }
                text = known[close_time_ms, origin, side] = encode(fields)[1:-1] + b',"close":'
            return text

        sides = repeat(0)
        if any(head.shows_direction for head in heads):
            shown = np.array([head.shows_direction for head in heads])
            sides = iter((forecast.direction * shown).tolist())
        return list(map(middle, candles.close_time_ms.tolist(), candles.origin.tolist(), sides))

    def _tails(self, volatility: Floats, forecast: Forecast) -> list[bytes]:
        """All the other numbers."""
        numbers = np.array([volatility, *(getattr(forecast, name) for name in NUMBERS)])  # (12, n)
        page = np.tile(self._blank, (numbers.shape[1], 1))  # (n, W)
        for place, cells in zip(self._places, written(numbers), strict=True):
            page[:, place : place + WIDTH] = cells
        text, width = page.tobytes(), len(self._blank)
        return [text[start : start + width] for start in range(0, len(text), width)]


def written(numbers: Floats) -> NDArray[np.uint8]:
    """Numbers of any shape as ASCII, `(..., WIDTH)`, e.g. `-1.234567890e-02`; within 1e-9 of the number itself.

    Raises:
        ValueError: one is NaN.
    """
    size = np.abs(numbers)
    if np.isnan(size.sum()):
        raise ValueError("a signal holds NaN; features, weights and prices are finite, so this is a mistake of ours")
    np.minimum(size, MOST, out=size)
    size[size < LEAST] = 0.0
    exponent = np.floor(np.log10(size + (size == 0.0))).astype(np.intp)
    digits = np.rint(size * _SHIFTS.take(exponent + _ZERO))  # ten of them
    over = digits >= 1e10  # rounded up to the next power, or the logarithm was a hair too small
    if over.any():
        exponent[over] += 1
        digits[over] = np.rint(size[over] * _SHIFTS[exponent[over] + _ZERO])
    pair = np.floor(digits / 1e8)
    eight = digits - pair * 1e8
    four = np.floor(eight / 1e4)
    text = np.empty((*numbers.shape, WIDTH // 4), np.uint32)  # four characters at a time
    text[..., 0] = _FIRSTS.take((pair + 100.0 * (numbers < 0.0)).astype(np.intp))
    text[..., 1] = _FOURS.take(four.astype(np.intp))
    text[..., 2] = _FOURS.take((eight - four * 1e4).astype(np.intp))
    text[..., 3] = _EXPONENTS.take(exponent + _ZERO)
    return text.view(np.uint8)
