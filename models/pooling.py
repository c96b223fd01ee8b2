"""Partial sums of one target close into one record, once every live partition has passed it.

Enters: partial `Scores` in the order of the log, and a monotonic clock. Leaves: pooled ones, in order of their target.
Does not know: Kafka, drift.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum, inf
from typing import NamedTuple

from models.events import Scores
from models.series import timeframe_ms

LIVE_CLOSES = 60
"""A partition that sent nothing for so many closes is not waited for."""
SETTLE_S = 10.0
"""So long a model is not pooled for the first time: partitions nobody has heard of cannot be waited for."""


class _Part(NamedTuple):
    scores: Scores
    offset: int


class _Model:
    def __init__(self, met_s: float) -> None:
        self.met_s = met_s
        self.newest: dict[int, _Part] = {}  # by partition
        self.open: dict[int, dict[tuple[int, str, str], _Part]] = {}  # by target; by partition, bundle and epoch
        self.since_s: dict[int, float] = {}  # by target: its first partial
        self.pooled_ms = -1  # newest target that is done


class Pool:
    """Of all models. After a restart it is fed from `rewind_offset` on, and is then what it was."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._models: dict[str, _Model] = {}
        self.late = 0  # partials with outcomes that came after their close

    def add(self, partial: Scores, offset: int, now_s: float) -> None:
        """Take a partial record; the first of a partition, bundle and target counts."""
        model = self._models.setdefault(partial.model, _Model(now_s))
        partition, target = partial.partition or 0, partial.target_time_ms
        if partition not in model.newest or target >= model.newest[partition].scores.target_time_ms:
            model.newest[partition] = _Part(partial, offset)
        if target <= model.pooled_ms:
            self.late += partial.outcomes > 0
            return
        model.since_s.setdefault(target, now_s)
        parts = model.open.setdefault(target, {})
        parts.setdefault((partition, partial.bundle, str(partial.epoch)), _Part(partial, offset))

    def note(self, pooled: Scores, now_s: float) -> None:
        """A pooled record is in the log: its close is done, whoever pooled it."""
        model = self._models.setdefault(pooled.model, _Model(now_s))
        self._done(model, pooled.target_time_ms)

    def due(self, now_s: float) -> Iterator[Scores]:
        """Give every close that all live partitions have passed, or that has waited too long, the oldest first."""
        for model in self._models.values():
            for target in sorted(model.open):
                waited_s = now_s - model.since_s[target]
                if waited_s < self._timeout_s and not (now_s - model.met_s >= SETTLE_S and _passed(model, target)):
                    break
                yield from _pooled(model.open[target])
                self._done(model, target)

    def _done(self, model: _Model, target: int) -> None:
        model.pooled_ms, model.met_s = max(model.pooled_ms, target), -inf
        for old in [open_ for open_ in model.open if open_ <= model.pooled_ms]:
            del model.open[old], model.since_s[old]

    def rewind_offset(self, otherwise: int) -> int:
        """The offset from which the state can be rebuilt: open closes, and how far each live partition has come."""
        offsets = [otherwise]
        now_ms = max((part.scores.target_time_ms for model in self._models.values() for part in model.newest.values()),
                     default=0)  # fmt: skip
        for model in self._models.values():
            offsets += [part.offset for parts in model.open.values() for part in parts.values()]
            if _live(model, now_ms):  # else nobody serves it any more
                offsets += [part.offset for part in _live(model, model.pooled_ms)]
        return min(offsets)


def _live(model: _Model, target: int) -> list[_Part]:
    """The newest record of each partition that is near enough to a target."""
    parts = list(model.newest.values())
    if not parts:
        return []
    oldest = target - LIVE_CLOSES * timeframe_ms(parts[0].scores.timeframe)
    return [part for part in parts if part.scores.target_time_ms >= oldest]


def _passed(model: _Model, target: int) -> bool:
    return all(part.scores.target_time_ms >= target for part in _live(model, target))


def _pooled(parts: dict[tuple[int, str, str], _Part]) -> Iterator[Scores]:
    """One record a bundle and epoch; none where nothing was summed."""
    some = [part.scores for part in parts.values() if part.scores.outcomes]
    for bundle, epoch in sorted({(scores.bundle, scores.epoch) for scores in some}, key=str):
        yield pool([scores for scores in some if (scores.bundle, scores.epoch) == (bundle, epoch)])


def pool(parts: list[Scores]) -> Scores:
    """The sum of records of one model, bundle, epoch and target; the same to the last bit in whatever order."""
    one = parts[0]
    return Scores(
        model=one.model, bundle=one.bundle, epoch=one.epoch, timeframe=one.timeframe, horizon_bars=one.horizon_bars,
        target_time_ms=one.target_time_ms, partition=None, partitions=len(parts),
        outcomes=sum(part.outcomes for part in parts),
        return_crps=fsum(part.return_crps for part in parts),
        return_crps_ewma=fsum(part.return_crps_ewma for part in parts),
        range_crps=fsum(part.range_crps for part in parts),
        range_crps_har=fsum(part.range_crps_har for part in parts),
        return_pit=fsum(part.return_pit for part in parts),
        range_pit=fsum(part.range_pit for part in parts),
        return_covered=sum(part.return_covered for part in parts),
        range_covered=sum(part.range_covered for part in parts),
    )  # fmt: skip
