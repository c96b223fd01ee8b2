"""Candles in, signals out: what `predict` does with a batch, with no Kafka in it. Offline prediction runs it too.

Enters: a batch of raw records and the timeline of activations. Leaves: encoded signals, dead letters, counts, and the
offset from which all of it could be rebuilt. Does not know: topics, networks, clocks. One thread owns it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.activation import Epoch, Timeline
from models.continuity import Continuity
from models.decode import Batch, Columns, Records, Reject, decode_batch
from models.events import DeadLetter
from models.features import CATALOGUE, Candles, FeatureState, step
from models.liveness import Liveness
from models.pending import Pending, Request, Served
from models.series_table import SeriesTable
from models.serving import ServingBundle
from models.window import WindowRing

MAX_COPIED_VALUE, MAX_COPIED_KEY = 512 << 10, 64 << 10
"""Bytes that a dead letter carries along; in base64 they stay below what Kafka takes in one record."""


class Engine:
    """Holds the state of every series of the partitions it was given."""

    def __init__(
        self, bundle: Callable[[str], ServingBundle | None], topic: str = "candles", always_direct: bool = False
    ) -> None:
        self._bundle = bundle
        self._topic = topic
        self._always_direct = always_direct
        self.table = SeriesTable()
        self._continuity = Continuity(self.table.capacity)
        self._features = FeatureState(self.table.capacity)
        self._ring = WindowRing(self.table.capacity, len(CATALOGUE))
        self._liveness = Liveness(self.table, self._continuity)
        self._pending: dict[str, Pending] = {}  # by model
        self.newest_close_ms: dict[str, int] = {}  # by model: up to here signals were given

    def serve(self, batch: Batch | Records, timeline: Timeline, now_ms: int) -> Served:
        """Take a batch: decode, advance each series candle by candle, predict for those that may speak.

        Args:
            batch: records of any number of series and partitions.
            timeline: the activations that hold for this batch.
            now_ms: goes into `predicted_at_ms` and decides nothing.
        """
        served = Served(now_ms=now_ms)
        records = batch.side_by_side() if isinstance(batch, Batch) else batch
        columns, rejects = decode_batch(self.table, records)
        served.dead_letters = self._dead_letters(records, rejects)
        self._make_room()
        columns = originals(columns, served)
        served.candles = int(columns.speaks.sum())
        for turn in turns(columns):
            self._advance(turn, timeline, served)
        for pending in self._pending.values():
            pending.flush(served)
        self._liveness.hear(columns.row)
        return served

    def _advance(self, turn: Columns, timeline: Timeline, served: Served) -> None:
        """One turn, a candle a series at most: order, features, windows, requests."""
        slots = turn.close_time_ms // self.table.timeframe_ms[turn.row]
        verdict = self._continuity.accept(turn.row, slots, turn.absent, turn.offset)
        if not verdict.calm:
            served.count(turn, verdict)
            self._features.reset(turn.row[verdict.restarts])
            self._ring.reset(turn.row[verdict.restarts])
            turn = turn.take(verdict.advances)
            if not len(turn.row):
                return
        features, volatility = step(self._features, turn.row, self._candles(turn))
        self._ring.push(turn.row, features)
        if not turn.speaks.all():
            turn, features, volatility = turn.take(turn.speaks), features[turn.speaks], volatility[turn.speaks]
        self._request(Request(turn, features, volatility), timeline, served)

    def _candles(self, turn: Columns) -> Candles:
        lengths = self.table.timeframe_ms[turn.row]
        return Candles(turn.close_time_ms, lengths, turn.open, turn.high, turn.low, turn.close, turn.volume)

    def _request(self, request: Request, timeline: Timeline, served: Served) -> None:
        """Hand what may speak to the bundles that cover it, for every model of its timeframe."""
        for timeframe_ms, mine in groups(request, self.table.timeframe_ms[request.candles.row]):
            models = timeline.models_of(timeframe_ms)
            if not models:
                served.withheld["no_bundle"] += mine.size
            for model in models:
                for epoch, together in by_epoch(mine, timeline.epochs(model)):
                    self._predict_later(together, epoch, served)

    def _predict_later(self, request: Request, epoch: Epoch | None, served: Served) -> None:
        if epoch is None:
            served.withheld["no_bundle"] += request.size
            return
        pending = self._pending_under(epoch, served)
        if pending is None:
            served.withheld["bundle_retired"] += request.size
            return
        spec = pending.bundle.spec
        reasons = self._continuity.withheld(request.candles.row, spec.warm_up_bars, spec.lookback_bars)
        if reasons:
            held = np.logical_or.reduce([*reasons.values()])
            served.withheld.update({reason: int(mask.sum()) for reason, mask in reasons.items()})
            request = request.take(~held)
        if request.size:
            pending.add(request, served)
            newest = int(request.candles.close_time_ms.max())
            self.newest_close_ms[epoch.model] = max(newest, self.newest_close_ms.get(epoch.model, newest))

    def _pending_under(self, epoch: Epoch, served: Served) -> Pending | None:
        """What waits under this epoch; a swap first lets go what waits under another, so signals keep their order."""
        pending = self._pending.get(epoch.model)
        if pending is not None and pending.epoch == epoch:
            return pending
        bundle = self._bundle(epoch.bundle)
        if bundle is None:
            return None
        if pending is not None:
            pending.flush(served)
        pending = self._pending[epoch.model] = Pending(epoch, bundle, self.table, self._ring, self._always_direct)
        return pending

    def forget(self, partitions: Collection[int]) -> None:
        """Drop the state of partitions that went to another process."""
        rows = self.table.drop(partitions)
        self._continuity.reset(rows)
        self._features.reset(rows)
        self._ring.reset(rows)
        self._liveness.forget(rows)

    def rewind_offsets(self) -> dict[int, int]:
        """By partition, the smallest offset that any live series needs so that its state can be rebuilt."""
        return self._liveness.rewind_offsets()

    def _make_room(self) -> None:
        capacity = self.table.capacity
        if capacity > len(self._continuity.last_slot):
            self._continuity.grow(capacity)
            self._features.grow(capacity)
            self._ring.grow(capacity)

    def _dead_letters(self, records: Records, rejects: list[Reject]) -> list[DeadLetter]:
        return [self._dead_letter(records, at, reason) for at, reason in rejects if records.speaks[at]]

    def _dead_letter(self, records: Records, at: int, reason: str) -> DeadLetter:
        key, value = records.key(at), records.value(at)
        if len(value or b"") > MAX_COPIED_VALUE or len(key or b"") > MAX_COPIED_KEY:
            reason += f"; too large to copy ({len(key or b''):,} and {len(value or b''):,} bytes): read it at its place"
            key = value = None
        return DeadLetter(
            value_base64=_base64(value),
            key_base64=_base64(key),
            reason=reason,
            topic=self._topic,
            partition=int(records.partitions[at]),
            offset=int(records.offsets[at]),
        )


def originals(columns: Columns, served: Served) -> Columns:
    """Leave out later revisions: they are counted and change nothing."""
    revised = columns.revision != 0
    if not revised.any():
        return columns
    served.ignored["revision"] += int((revised & columns.speaks).sum())
    return columns.take(~revised)


def turns(columns: Columns) -> Iterator[Columns]:
    """Cut a batch so that each turn holds a series at most once, and a series' candles keep their order."""
    rows = columns.row
    if not len(rows):
        return
    order = _stable_order(rows)
    starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    lengths = np.diff(starts, append=len(rows))
    if lengths.max() == 1:
        yield columns
        return
    turn = np.empty_like(order)
    turn[order] = np.arange(len(rows)) - np.repeat(starts, lengths)
    columns = columns.take(_stable_order(turn))
    ends = np.cumsum(np.bincount(turn))
    for start, end in zip((0, *ends[:-1].tolist()), ends.tolist(), strict=True):
        yield columns.take(slice(start, end))  # a view


def _stable_order(numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """Numbers of 16 bits are sorted by radix, at a fraction of the cost."""
    return np.argsort(numbers.astype(np.uint16) if numbers.max() < 1 << 16 else numbers, kind="stable")


def by_epoch(request: Request, epochs: Sequence[Epoch]) -> Iterator[tuple[Epoch | None, Request]]:
    """Split by the epoch that covers each close, the earliest first; None where none does."""
    starts = [epoch.effective_from_ms for epoch in epochs]
    for begun, together in groups(request, np.searchsorted(starts, request.candles.close_time_ms, side="right")):
        yield (epochs[begun - 1] if begun else None), together


def groups(request: Request, by: NDArray[np.int64]) -> Iterator[tuple[int, Request]]:
    """Split by the value of a column; most often there is only one."""
    if request.size and (by == by[0]).all():
        yield int(by[0]), request
        return
    for value in np.unique(by).tolist():
        yield value, request.take(by == value)


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()
