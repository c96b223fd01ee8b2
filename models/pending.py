"""Requests for prediction waiting for their model call, and the signals that come of it.

Enters: candles that may speak, with their features. Leaves: encoded signals by partition, in the order of the requests.
Does not know: why others were withheld, or where the signals go.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.activation import Epoch
from models.continuity import Verdict
from models.decode import Columns
from models.events import SCHEMA_VERSION, DeadLetter, Direction, Message, Signal, Skill, encode
from models.forecast import Forecast
from models.series_table import SeriesTable
from models.serving import ServingBundle
from models.window import WindowRing

CAPACITY = 1_024
"""Windows gathered before the model is called: 6 MB at 64 bars of 23 features, so it stays near the cache."""

_DIRECTIONS: dict[int, Direction] = {1: "long", -1: "short", 0: "flat"}


class Request(NamedTuple):
    """Candles that ask for a prediction."""

    candles: Columns
    features: NDArray[np.float32]  # (n, F) at the close, whole catalogue
    volatility: NDArray[np.float64]  # (n,)

    @property
    def size(self) -> int:
        """How many."""
        return len(self.candles.row)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Request:
        """The requests at these places."""
        return Request(self.candles.take(index), self.features[index], self.volatility[index])


@dataclass
class Served:
    """What came of a batch."""

    now_ms: int
    signals: dict[int, list[Message]] = field(default_factory=dict)  # by partition, in order
    dead_letters: list[DeadLetter] = field(default_factory=list)
    withheld: Counter[str] = field(default_factory=Counter)  # by reason
    ignored: Counter[str] = field(default_factory=Counter)  # by reason
    signalled: Counter[str] = field(default_factory=Counter)  # by model
    candles: int = 0  # good records of revision 0 that speak, absent ones included

    def count(self, turn: Columns, verdict: Verdict) -> None:
        """Count what is out of the ordinary, but at or below the resume offset: there it was counted before."""
        for reason in ("duplicate", "out_of_order", "undeclared_gap"):
            self.ignored[reason] += int((getattr(verdict, reason) & turn.speaks).sum())
        stale = verdict.duplicate | verdict.out_of_order
        self.withheld["absent"] += int((turn.absent & turn.speaks & ~stale).sum())


class Pending:
    """Requests under one epoch; full, it calls the model by itself."""

    def __init__(
        self, epoch: Epoch, bundle: ServingBundle, table: SeriesTable, ring: WindowRing, always_direct: bool
    ) -> None:
        self.epoch = epoch
        self.bundle = bundle
        self._table = table
        self._ring = ring
        self._always_direct = always_direct
        spec = bundle.spec
        self._windows = np.empty((CAPACITY, spec.lookback_bars, len(spec.features)), np.float32)
        self._requests: list[Request] = []
        self._size = 0

    def add(self, request: Request, served: Served) -> None:
        """Gather the windows as they are now; the series may advance afterwards."""
        while request.size:
            room = CAPACITY - self._size
            now = request if request.size <= room else request.take(slice(room))
            into = self._windows[self._size : self._size + now.size]
            self._ring.gather(now.candles.row, self.bundle.spec.lookback_bars, self.bundle.columns, into)
            self._requests.append(now)
            self._size += now.size
            if self._size == CAPACITY:
                self.flush(served)
            request = request.take(slice(now.size, None))

    def flush(self, served: Served) -> None:
        """Predict what waits, and add its signals."""
        if not self._size:
            return
        raw = self.bundle.predictor.predict(self._windows[: self._size])
        request = _joined(self._requests)
        close = request.candles.close
        forecast = self.bundle.interpreter.interpret(raw, close, request.volatility, request.features)
        served.signalled[self.epoch.model] += self._size
        self._requests, self._size = [], 0
        self._emit(request, forecast, served)

    def _emit(self, request: Request, forecast: Forecast, served: Served) -> None:
        rows = request.candles.row.tolist()
        closes = request.candles.close_time_ms.tolist()
        keys = self._table.keys
        partitions = self._table.partition[request.candles.row].tolist()
        for row, partition, close, signal in zip(
            rows, partitions, closes, self._signals(rows, request, forecast, served.now_ms), strict=True
        ):
            served.signals.setdefault(partition, []).append(Message(keys[row], encode(signal), close))

    def _signals(self, rows: list[int], request: Request, forecast: Forecast, now_ms: int) -> map[Signal]:
        spec, candles = self.bundle.spec, request.candles
        series = [self._table.series[row] for row in rows]
        exchanges, symbols, timeframes = zip(*series, strict=True)
        proven = [self.epoch.proven if symbol in self.bundle.symbols else () for symbol in symbols]
        return map(
            Signal,
            repeat(SCHEMA_VERSION),
            exchanges,
            symbols,
            timeframes,
            candles.close_time_ms.tolist(),
            repeat(spec.horizon_bars),
            (candles.close_time_ms + spec.horizon_bars * spec.timeframe_ms).tolist(),
            candles.close.tolist(),
            request.volatility.tolist(),
            forecast.location.tolist(),
            forecast.scale.tolist(),
            repeat(spec.distribution.dof),
            forecast.range_location.tolist(),
            forecast.range_scale.tolist(),
            forecast.ewma_scale.tolist(),
            repeat(spec.baselines.return_dof),
            forecast.har_location.tolist(),
            forecast.har_scale.tolist(),
            forecast.probability_up.tolist(),
            forecast.expected_return_bps.tolist(),
            forecast.expected_range_bps.tolist(),
            forecast.interval_low.tolist(),
            forecast.interval_high.tolist(),
            repeat(spec.calibration.interval_coverage),
            self._directions(forecast, proven),
            proven,
            repeat(self.epoch.model),
            repeat(self.epoch.bundle),
            repeat(self.epoch.number),
            candles.origin.tolist(),
            repeat(now_ms),
        )

    def _directions(self, forecast: Forecast, proven: list[tuple[Skill, ...]]) -> list[Direction]:
        """Flat unless direction is proven for the symbol, or the owner of this process wants it shown anyway."""
        return [
            _DIRECTIONS[side] if self._always_direct or "direction" in shown else "flat"
            for side, shown in zip(forecast.direction.tolist(), proven, strict=True)
        ]


def _joined(requests: list[Request]) -> Request:
    if len(requests) == 1:
        return requests[0]
    columns = (np.concatenate(column) for column in zip(*(request.candles for request in requests), strict=True))
    return Request(
        Columns(*columns),
        np.concatenate([request.features for request in requests]),
        np.concatenate([request.volatility for request in requests]),
    )
