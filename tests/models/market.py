"""A whole small market in one log: many series on some partitions, as `predict` would read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from models.activation import Timeline
from models.decode import Batch
from models.engine import Engine
from models.events import Signal, decode_signal, encode
from models.series import Series
from tests.models.candle_records import Record, make_absent, make_candle
from tests.models.histories import History
from tests.models.random_candles import random_ohlcv

NOW_MS = 1_700_000_000_000


class Arrival(NamedTuple):
    """One record of the log."""

    record: Record
    offset: int  # in its partition


class Story(NamedTuple):
    """Where a series lives, what it says, and how much later than it happened."""

    partition: int
    history: History
    late_ms: int = 0


def market(stories: Mapping[Series, Story | tuple[int, History]], seed: int = 0) -> list[Arrival]:
    """The log of some series, in the order in which such records come."""
    told = [
        (came_ms, number, Record(series.key, value, story[0]))
        for number, (series, story) in enumerate(stories.items())
        for came_ms, value in _tell(series, Story(*story), seed + number)
    ]
    told.sort(key=lambda one: one[:2])  # stable, so each series keeps its own order
    ends: Counter[int] = Counter()
    arrivals = []
    for _, _, record in told:
        arrivals.append(Arrival(record, ends[record.partition]))
        ends[record.partition] += 1
    return arrivals


def _tell(series: Series, story: Story, seed: int) -> Iterator[tuple[int, bytes]]:
    """When each record comes, and its value; a slot told twice has the same prices."""
    history = story.history
    first = int(history.slot.min())
    ohlcv = random_ohlcv(seed, 1, int(history.slot.max()) - first + 1)[:, 0].T.tolist()
    came_ms = np.maximum.accumulate(history.slot) * series.timeframe_ms + story.late_ms
    for ms, slot, absent in zip(came_ms.tolist(), *map(np.ndarray.tolist, history), strict=True):
        if absent:
            yield ms, encode(make_absent(series, slot))
        else:
            prices = dict(zip(("open", "high", "low", "close", "volume"), ohlcv[slot - first], strict=True))
            yield ms, encode(make_candle(series, slot, **prices))


def steady(slots: int, start: int, absent: Iterable[int] = ()) -> History:
    """Slot after slot, some of them absent."""
    gone = np.zeros(slots, np.bool_)
    gone[list(absent)] = True
    return History(start + np.arange(slots), gone)


def fetch(arrivals: Sequence[Arrival], resume: Mapping[int, int] | None = None) -> Batch:
    """A batch as the consumer makes it: partition after partition, each in the order of its log."""
    arrivals = sorted(arrivals, key=lambda arrival: arrival.record.partition)
    offsets = np.array([arrival.offset for arrival in arrivals], np.int64)
    partitions = [arrival.record.partition for arrival in arrivals]
    since = np.array([(resume or {}).get(partition, 0) for partition in partitions], np.int64)
    keys, values = [arrival.record.key for arrival in arrivals], [arrival.record.value for arrival in arrivals]
    return Batch(keys, values, partitions, offsets, offsets >= since)


@dataclass
class Outcome:
    """All that an engine gave, over many batches."""

    signals: list[Signal] = field(default_factory=list)
    withheld: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    signalled: Counter[str] = field(default_factory=Counter)
    candles: int = 0
    dead: list[tuple[int, int]] = field(default_factory=list)  # partition, offset

    def of(self, series: Series, model: str | None = None) -> list[Signal]:
        """The signals of one series, in the order in which they came."""
        identity = (series.exchange, series.symbol, series.timeframe)
        return [
            signal
            for signal in self.signals
            if (signal.exchange, signal.symbol, signal.timeframe) == identity and model in (None, signal.model)
        ]


def run(
    engine: Engine,
    arrivals: Sequence[Arrival],
    timeline: Timeline,
    sizes: Iterable[int] = (),
    resume: Mapping[int, int] | None = None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Serve a log in batches of these sizes, the rest of it in one."""
    outcome, first = outcome or Outcome(), 0
    for size in (*sizes, len(arrivals)):
        batch = fetch(arrivals[first : first + size], resume)
        first += size
        served, homes = engine.serve(batch, timeline, NOW_MS), set(zip(batch.partitions, batch.keys, strict=True))
        for partition in sorted(set(batch.partitions)):
            for message in served.messages(partition):
                signal = decode_signal(message.value)
                assert message.key == Series(signal.exchange, signal.symbol, signal.timeframe).key
                assert message.timestamp_ms == signal.close_time_ms
                assert (partition, message.key) in homes
                outcome.signals.append(signal)
        outcome.withheld += served.withheld
        outcome.ignored += served.ignored
        outcome.signalled += served.signalled
        outcome.candles += served.candles
        outcome.dead += [(letter.partition, letter.offset) for letter in served.dead_letters]
    return outcome


def by_identity(signals: Iterable[Signal]) -> list[Signal]:
    """In an order that does not depend on how they came."""
    return sorted(signals, key=lambda s: (s.exchange, s.symbol, s.timeframe, s.model, s.close_time_ms))


_EXACT = ("exchange", "symbol", "timeframe", "close_time_ms", "model", "bundle", "epoch", "direction", "proven")
_OUTPUTS = ("location", "scale", "range_location", "range_scale")
_PRICES = ("close", "interval_low", "interval_high")


def assert_same_signals(found: Iterable[Signal], wanted: Iterable[Signal]) -> None:
    """The same signals within the tolerances of design.md: 1e-5 on the outputs, 1e-6 relative on prices."""
    found, wanted = by_identity(found), by_identity(wanted)
    for name in _EXACT:
        assert [getattr(signal, name) for signal in found] == [getattr(signal, name) for signal in wanted], name
    for names, rtol, atol in ((_OUTPUTS, 0.0, 1e-5), (_PRICES, 1e-6, 0.0)):
        for name in names:
            one, other = ([float(getattr(signal, name)) for signal in signals] for signals in (found, wanted))
            np.testing.assert_allclose(one, other, rtol, atol, err_msg=name)
