"""Signals as JSON, many at once: the same records that `encode(Signal(...))` would give, at a tenth of the cost.

Enters: columns of forecasts under one epoch. Leaves: one JSON object each, side by side. Does not know: partitions,
Kafka.

A record is put together from three pieces. Its head is what one series always says under this epoch, its middle what
all candles of one close share; both are kept as text. Its tail holds the numbers. The price at the close alone is
written with all its digits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.activation import Epoch
from models.candle_kernel import ORIGINS
from models.decode import Columns
from models.events import SCHEMA_VERSION, Direction, Skill, encode
from models.forecast import Forecast
from models.series import Series
from models.series_table import SeriesTable, Texts
from models.serving import ServingBundle
from models.signal_kernel import NOT_A_NUMBER, WIDTH, write_signals

Floats = NDArray[np.float64]
NUMBERS = (
    "location", "scale", "range_location", "range_scale", "har_location", "har_scale", "probability_up",
    "expected_return_bps", "expected_range_bps", "interval_low", "interval_high",
)  # fmt: skip
"""Columns of a forecast that differ from record to record."""
_DIRECTIONS: dict[int, Direction] = {1: "long", -1: "short", 0: "flat"}
_SIDES = 3
_PRICE_CHARS = 25
"""As many at most has a number with all its digits, `-1.2345678901234567e-308`, and a comma."""


class _Kept(NamedTuple):
    """What is said of each row of the table, for as long as no series comes."""

    of: Texts  # of the table then
    text: NDArray[np.uint8]  # the heads, side by side
    ends: NDArray[np.int64]  # (rows,)
    shown: NDArray[np.int8]  # (rows,) 1 where direction is shown


class SignalWriter:
    """Writes the signals of one epoch."""

    def __init__(self, epoch: Epoch, bundle: ServingBundle, table: SeriesTable, always_direct: bool) -> None:
        self._epoch = epoch
        self._bundle = bundle
        self._table = table
        self._always_direct = always_direct
        self._kept: _Kept | None = None
        names = [f'"{name}":' for name in ("volatility", *NUMBERS)]
        blank = "," + ",".join(name + WIDTH * " " for name in names) + "}"
        self._tail = np.frombuffer(blank.encode(), np.uint8)
        self._places = np.array([blank.index(name) + len(name) for name in names])

    def write(
        self, candles: Columns, volatility: Floats, forecast: Forecast, now_ms: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """One JSON object a candle, side by side, and where each ends.

        Raises:
            ValueError: a number is NaN.
        """
        kept, count = self._heads(), len(candles.row)
        middle, texts = self._middles(candles, kept.shown[candles.row] * forecast.direction, now_ms)
        middles, middle_ends = np.frombuffer(b"".join(texts), np.uint8), np.cumsum([len(text) for text in texts])
        prices = np.frombuffer(encode(candles.close.tolist()), np.uint8)[1:-1]
        numbers = np.array([volatility, *(getattr(forecast, name) for name in NUMBERS)])  # (12, n)
        most = int(np.diff(kept.ends, prepend=0).max()) + max(map(len, texts)) + _PRICE_CHARS + len(self._tail)
        out, ends = np.empty(count * most, np.uint8), np.empty(count, np.int64)
        length = write_signals(
            out, ends, kept.text, kept.ends, candles.row, middles, middle_ends, middle, prices,
            self._tail, self._places, numbers,
        )  # fmt: skip
        if length == NOT_A_NUMBER:
            raise ValueError(
                "a signal holds NaN; features, weights and prices are finite, so this is a mistake of ours"
            )
        return out[:length], ends

    def _heads(self) -> _Kept:
        texts = self._table.texts
        if self._kept is None or self._kept.of is not texts:
            heads = [self._head(series) for series in self._table.series]
            shown = [self._shows_direction(series.symbol) for series in self._table.series]
            text, ends = np.frombuffer(b"".join(heads), np.uint8), np.cumsum([len(head) for head in heads])
            self._kept = _Kept(texts, text, ends, np.array(shown, np.int8))
        return self._kept

    def _head(self, series: Series) -> bytes:
        spec = self._bundle.spec
        fields = {
            "v": SCHEMA_VERSION,
            **series._asdict(),
            "horizon_bars": spec.horizon_bars,
            "dof": spec.distribution.dof,
            "ewma_scale": spec.baselines.return_scale,
            "ewma_dof": spec.baselines.return_dof,
            "interval_coverage": spec.calibration.interval_coverage,
            "proven": self._proven(series.symbol),
            "model": self._epoch.model,
            "bundle": self._epoch.bundle,
            "epoch": self._epoch.number,
        }
        return encode(fields)[:-1] + b","

    def _proven(self, symbol: str) -> tuple[Skill, ...]:
        return self._epoch.proven if symbol in self._bundle.symbols else ()

    def _shows_direction(self, symbol: str) -> bool:
        """Only what is proven for the symbol, unless the owner of this process wants it shown anyway."""
        return self._always_direct or "direction" in self._proven(symbol)

    def _middles(self, candles: Columns, side: NDArray[np.int8], now_ms: int) -> tuple[NDArray[np.int64], list[bytes]]:
        """Times, origin and direction, up to the price at the close: which text each takes, and the texts.

        Neighbours mostly say the same, since series close together.
        """
        said = (candles.close_time_ms * len(ORIGINS) + candles.origin) * _SIDES + (side + 1)
        new = np.ones(len(said), np.bool_)
        np.not_equal(said[1:], said[:-1], out=new[1:])
        return np.cumsum(new) - 1, [self._middle(number, now_ms) for number in said[new].tolist()]

    def _middle(self, number: int, now_ms: int) -> bytes:
        rest, side = divmod(number, _SIDES)
        close_time_ms, origin = divmod(rest, len(ORIGINS))
        spec = self._bundle.spec
        fields = {
            "close_time_ms": close_time_ms,
            "target_time_ms": close_time_ms + spec.horizon_bars * spec.timeframe_ms,
            "direction": _DIRECTIONS[side - 1],
            "origin": ORIGINS[origin],
            "predicted_at_ms": now_ms,
        }
        return encode(fields)[1:-1] + b',"close":'
