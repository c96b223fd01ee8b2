"""Sums of scores of one partition, target close by target close, until the close has been passed.

Enters: scores of signals. Leaves: one record of `scores` a (model, bundle, target), the same to the last bit in
whatever order its outcomes came. Does not know: series, candles, Kafka.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import fsum
from typing import NamedTuple

from models.events import SCHEMA_VERSION, Message, Signal, encode
from models.outcome_writer import SUMMED, Summed

NOTHING: Summed = (0.0,) * len(SUMMED)
MAX_HEADS = 1_000

_Closed = tuple[Signal, int, int, Summed]
"""Any of its signals, target, how many outcomes, their sums."""
_write_tail = (",".join(f'"{name}":%b' for name in ("target_time_ms", "outcomes", *SUMMED)) + "}").encode().__mod__


class _Seen(NamedTuple):
    """What a model last was, as far as this partition has heard."""

    signal: Signal
    timeframe_ms: int


class Sums:
    """Of one partition."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._open: dict[tuple[str, int], list[tuple[Signal, int, Summed]]] = {}  # by model and target
        self._models: dict[str, _Seen] = {}
        self._passed: dict[str, int] = {}  # by model: newest target that was said to have passed
        self._heads: dict[tuple[str, str, int | None], bytes] = {}

    def see(self, signal: Signal, length_ms: int) -> None:
        """Note what serves under a model's name."""
        seen = self._models.get(signal.model)
        if seen is None or seen.signal.bundle != signal.bundle or seen.signal.epoch != signal.epoch:
            self._models[signal.model] = _Seen(signal, length_ms)

    def add(self, signal: Signal, offset: int, values: Summed) -> None:
        """Add the scores of a signal that lies at this offset; its model was seen."""
        key = (signal.model, signal.target_time_ms)
        if key in self._open:
            self._open[key].append((signal, offset, values))
        else:
            self._open[key] = [(signal, offset, values)]

    def horizon_bars(self, length_ms: int) -> int:
        """The longest horizon of models of this timeframe; 0 while none was seen."""
        of_these = [seen.signal.horizon_bars for seen in self._models.values() if seen.timeframe_ms == length_ms]
        return max(of_these, default=0)

    def rewind_offset(self, otherwise: int) -> int:
        """The smallest offset of a signal that is in an open sum."""
        return min((offset for each in self._open.values() for _, offset, _ in each), default=otherwise)

    def close(self, clock_ms: Mapping[int, int]) -> list[Message]:
        """Give the sums of the targets before the clock of their timeframe, as records of `scores`.

        Where nothing is to be summed at the last of them, the record says 0 outcomes: that the partition has passed.
        """
        before = {model: clock_ms.get(seen.timeframe_ms, 0) for model, seen in self._models.items()}
        done = [(target, model) for model, target in self._open if target < before[model]]
        closed: list[_Closed] = []
        for target, model in sorted(done):
            closed += _summed(self._open.pop((model, target)))
            self._passed[model] = max(target, self._passed.get(model, 0))
        for model, seen in self._models.items():
            passed = before[model] - seen.timeframe_ms
            if passed > self._passed.get(model, 0):
                self._passed[model] = passed
                closed.append((seen.signal, passed, 0, NOTHING))
        return self._written(closed) if closed else []

    def forget(self, clock_ms: Mapping[int, int]) -> None:
        """Drop what was given before a restart."""
        self.close(clock_ms)

    def _written(self, closed: list[_Closed]) -> list[Message]:
        """All at once: what `encode(Scores(...))` would give, at a third of the cost."""
        signals, targets, outcomes, values = zip(*closed, strict=True)
        *crps, on_return, on_range = zip(*values, strict=True)
        columns = [targets, outcomes, *crps, list(map(int, on_return)), list(map(int, on_range))]
        texts = zip(*(encode(column)[1:-1].split(b",") for column in columns), strict=True)
        return [
            Message(f"{signal.model}/{self._partition}".encode(), self._head(signal) + _write_tail(text), target)
            for signal, target, text in zip(signals, targets, texts, strict=True)
        ]

    def _head(self, signal: Signal) -> bytes:
        identity = (signal.model, signal.bundle, signal.epoch)
        if identity not in self._heads:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            same = {name: getattr(signal, name) for name in ("model", "bundle", "epoch", "timeframe", "horizon_bars")}
            named = {"v": SCHEMA_VERSION, **same, "partition": self._partition, "partitions": 1}
            self._heads[identity] = encode(named)[:-1] + b","
        return self._heads[identity]


def _summed(each: list[tuple[Signal, int, Summed]]) -> Iterator[_Closed]:
    """One a bundle and epoch, of which there are two only where replicas did not agree."""
    if len(each) == 1:
        signal, _, values = each[0]
        yield signal, signal.target_time_ms, 1, values
        return
    for bundle, epoch in sorted({(signal.bundle, signal.epoch) for signal, _, _ in each}, key=str):
        mine = [one for one in each if (one[0].bundle, one[0].epoch) == (bundle, epoch)]
        columns = zip(*(values for _, _, values in mine), strict=True)
        signal = mine[0][0]
        yield signal, signal.target_time_ms, len(mine), tuple(fsum(column) for column in columns)
