"""Requests for prediction waiting for their model call, and the signals that come of it.

Enters: candles that may speak, with their features. Leaves: encoded signals by partition, in the order of the requests.
Does not know: why others were withheld, or where the signals go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.activation import Epoch
from models.continuity import Verdict
from models.decode import Columns
from models.events import DeadLetter, Message
from models.forecast import Forecast
from models.series_table import SeriesTable
from models.serving import ServingBundle
from models.signal_block import SignalBlock
from models.signal_writer import SignalWriter
from models.window import WindowRing

CAPACITY = 2_048
"""Requests whose signals are written together."""


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
    signals: list[SignalBlock] = field(default_factory=list)  # in order
    dead_letters: list[DeadLetter] = field(default_factory=list)
    withheld: Counter[str] = field(default_factory=Counter)  # by reason
    ignored: Counter[str] = field(default_factory=Counter)  # by reason
    signalled: Counter[str] = field(default_factory=Counter)  # by model
    candles: int = 0  # good records of revision 0 that speak, absent ones included

    def messages(self, partition: int) -> Iterator[Message]:
        """The signals of one partition, in order."""
        for block in self.signals:
            yield from block.messages(partition)

    def count(self, turn: Columns, verdict: Verdict) -> None:
        """Count what is out of the ordinary, but at or below the resume offset: there it was counted before."""
        for reason in ("duplicate", "out_of_order", "undeclared_gap"):
            self.ignored[reason] += int((getattr(verdict, reason) & turn.speaks).sum())
        stale = verdict.duplicate | verdict.out_of_order
        self.withheld["absent"] += int((turn.absent & turn.speaks & ~stale).sum())


class Pending:
    """Requests under one epoch; it calls the model chunk by chunk, and once full it writes by itself."""

    def __init__(
        self, epoch: Epoch, bundle: ServingBundle, table: SeriesTable, ring: WindowRing, always_direct: bool
    ) -> None:
        self.epoch = epoch
        self.bundle = bundle
        self._table = table
        self._ring = ring
        self._writer = SignalWriter(epoch, bundle, table, always_direct)
        spec = bundle.spec
        chunk = min(bundle.predictor.chunk, CAPACITY)
        self._windows = np.empty((chunk, spec.lookback_bars, len(spec.features)), np.float32)
        self._gathered = 0
        self._raw: list[NDArray[np.float32]] = []  # what the model said of requests that still wait
        self._requests: list[Request] = []
        self._size = 0

    def add(self, request: Request, served: Served) -> None:
        """Gather the windows as they are now; the series may advance afterwards."""
        while request.size:
            room = min(CAPACITY - self._size, len(self._windows) - self._gathered)
            now = request if request.size <= room else request.take(slice(room))
            into = self._windows[self._gathered : self._gathered + now.size]
            self._ring.gather(now.candles.row, self.bundle.spec.lookback_bars, self.bundle.columns, into)
            self._requests.append(now)
            self._gathered += now.size
            self._size += now.size
            if self._gathered == len(self._windows):
                self._ask()
            if self._size == CAPACITY:
                self.flush(served)
            request = request.take(slice(now.size, None))

    def _ask(self) -> None:
        """Call the model while the windows are in the cache."""
        if self._gathered:
            self._raw.append(self.bundle.predictor.predict(self._windows[: self._gathered]))
            self._gathered = 0

    def flush(self, served: Served) -> None:
        """Predict what waits, and add its signals."""
        if not self._size:
            return
        self._ask()
        request, raw = _joined(self._requests), np.concatenate(self._raw)
        close = request.candles.close
        forecast = self.bundle.interpreter.interpret(raw, close, request.volatility, request.features)
        served.signalled[self.epoch.model] += self._size
        self._requests, self._raw, self._size = [], [], 0
        self._emit(request, forecast, served)

    def _emit(self, request: Request, forecast: Forecast, served: Served) -> None:
        candles = request.candles
        text, ends = self._writer.write(candles, request.volatility, forecast, served.now_ms)
        texts, partition = self._table.texts, self._table.partition[candles.row]
        served.signals.append(
            SignalBlock(text, ends, texts.keys, texts.key_ends, candles.row, partition, candles.close_time_ms)
        )


def _joined(requests: list[Request]) -> Request:
    if len(requests) == 1:
        return requests[0]
    columns = (np.concatenate(column) for column in zip(*(request.candles for request in requests), strict=True))
    return Request(
        Columns(*columns),
        np.concatenate([request.features for request in requests]),
        np.concatenate([request.volatility for request in requests]),
    )
