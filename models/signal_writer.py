"""Signals as JSON, many at once: the same records that `encode(Signal(...))` would give, at a third of the cost.

Enters: columns of forecasts under one epoch. Leaves: one JSON object each, as bytes. Does not know: partitions, Kafka.

A record is put together from three pieces. Its head is what one series always says under this epoch, its middle what
all candles of one close share; both are kept as text. Its tail holds the numbers, written for all records at once into
a page of bytes (n, W): every number is 16 characters wide, ten digits and an exponent, after a blank where it is
positive, which JSON allows. The price at the close alone is written with all its digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.activation import Epoch
from models.decode import Columns
from models.events import SCHEMA_VERSION, Direction, Skill, encode
from models.forecast import Forecast
from models.series import parse_key
from models.serving import ServingBundle

Floats = NDArray[np.float64]
T = TypeVar("T")

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


class SignalWriter:
    """Writes the signals of one epoch."""

    def __init__(self, epoch: Epoch, bundle: ServingBundle, always_direct: bool) -> None:
        self._epoch = epoch
        self._bundle = bundle
        self._always_direct = always_direct
        self._heads = _Kept(self._head)  # by key
        self._shown = _Kept(self._shows_direction)
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
        heads = map(self._heads.__getitem__, keys)
        middles = self._middles(keys, candles, forecast, now_ms)
        closes = encode(candles.close.tolist())[1:-1].split(b",")
        tails = self._tails(volatility, forecast)
        return list(map(b"".join, zip(heads, middles, closes, tails, strict=True)))

    def _head(self, key: bytes) -> bytes:
        exchange, symbol, timeframe = parse_key(key)
        spec = self._bundle.spec
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
            "proven": self._proven(symbol),
            "model": self._epoch.model,
            "bundle": self._epoch.bundle,
            "epoch": self._epoch.number,
        }
        return encode(fields)[:-1] + b","

    def _proven(self, symbol: str) -> tuple[Skill, ...]:
        return self._epoch.proven if symbol in self._bundle.symbols else ()

    def _middles(self, keys: list[bytes], candles: Columns, forecast: Forecast, now_ms: int) -> Iterator[bytes]:
        """Times, origin and direction, up to the price at the close."""
        spec = self._bundle.spec

        def middle(of: tuple[int, str, int]) -> bytes:
            close_time_ms, origin, side = of
            fields = {
                "close_time_ms": close_time_ms,
                "target_time_ms": close_time_ms + spec.horizon_bars * spec.timeframe_ms,
                "direction": _DIRECTIONS[side],
                "origin": origin,
                "predicted_at_ms": now_ms,
            }
            return encode(fields)[1:-1] + b',"close":'

        sides = self._sides(keys, forecast.direction)
        of_each = zip(candles.close_time_ms.tolist(), candles.origin.tolist(), sides, strict=True)
        return map(_Kept(middle).__getitem__, of_each)

    def _sides(self, keys: list[bytes], direction: NDArray[np.int8]) -> list[int]:
        """Flat unless direction is proven for the symbol, or the owner of this process wants it shown anyway."""
        if "direction" not in self._epoch.proven and not self._always_direct:
            return [0] * len(keys)
        sides: list[int] = (direction * np.array([self._shown[key] for key in keys])).tolist()
        return sides

    def _shows_direction(self, key: bytes) -> bool:
        return self._always_direct or "direction" in self._proven(parse_key(key).symbol)

    def _tails(self, volatility: Floats, forecast: Forecast) -> list[bytes]:
        """All the other numbers."""
        numbers = np.array([volatility, *(getattr(forecast, name) for name in NUMBERS)])  # (12, n)
        page = np.empty((numbers.shape[1], len(self._blank)), np.uint8)  # (n, W)
        page[:] = self._blank
        for place, cells in zip(self._places, written(numbers), strict=True):
            page[:, place : place + WIDTH] = cells
        tails: list[bytes] = page.view(f"S{page.shape[1]}")[:, 0].tolist()
        return tails


class _Kept(dict[Any, T]):
    """Values, each made when it is first asked for."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make

    def __missing__(self, of: Any) -> T:
        value = self[of] = self._make(of)
        return value


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
