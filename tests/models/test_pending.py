from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.continuity import Verdict
from models.decode import Columns
from models.events import Signal, decode_signal
from models.features import CATALOGUE
from models.pending import CAPACITY, Pending, Request, Served
from models.series_table import SeriesTable
from models.window import WindowRing
from tests.models.candle_records import BTC, ETH, MINUTE, START_SLOT
from tests.models.small_bundles import LOOKBACK, OLD, epoch


def columns(rows: NDArray[np.intp], slot: int = 0) -> Columns:
    n = len(rows)
    close = 100.0 + rows.astype(np.float64)
    return Columns(
        rows, np.arange(n), np.ones(n, np.bool_), np.full(n, (START_SLOT + slot) * MINUTE), close, close, close, close,
        np.ones(n), np.zeros(n, np.bool_), np.zeros(n, np.int64), np.zeros(n, np.int64),
    )  # fmt: skip


class World:
    """Two series on two partitions, with windows of noise."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)
        self.table = SeriesTable()
        for partition, series in ((5, BTC), (2, ETH)):
            self.table.add(series.key, partition)
        self.ring = WindowRing(self.table.capacity, len(CATALOGUE))
        self.pending = Pending(epoch(7, OLD), OLD, self.table, self.ring, always_direct=False)
        self.served = Served(now_ms=99)

    def ask(self, slot: int, times: int = 1) -> None:
        """A new candle of both series, asked about so many times over."""
        rows = np.array([0, 1])
        features = self.rng.normal(size=(2, len(CATALOGUE))).astype(np.float32)
        self.ring.push(rows, features)
        again = np.tile(rows, times)
        self.pending.add(Request(columns(again, slot), features[again], np.full(len(again), 1e-3)), self.served)

    def signals(self, partition: int) -> list[Signal]:
        return [decode_signal(message.value) for message in self.served.messages(partition)]


def test_pending_says_nothing_until_it_is_flushed_or_full() -> None:
    world = World()
    world.ask(0)
    assert world.served.signals == []
    world.pending.flush(world.served)
    assert {partition: len(world.signals(partition)) for partition in (5, 2, 0)} == {5: 1, 2: 1, 0: 0}
    world.pending.flush(world.served)
    assert world.served.signalled == {"default-1m": 2}


def test_pending_keeps_the_window_of_the_moment_it_was_asked() -> None:
    world, windows = World(), []
    for slot in range(LOOKBACK + 5):
        world.ask(slot)
        windows.append(world.ring.gather(np.array([0]), LOOKBACK, OLD.columns)[0])
    world.pending.flush(world.served)
    raw = OLD.predictor.predict(np.stack(windows))
    np.testing.assert_allclose([signal.location for signal in world.signals(5)], raw[:, 0], atol=1e-5)
    assert [signal.close_time_ms // MINUTE - START_SLOT for signal in world.signals(5)] == list(range(LOOKBACK + 5))


@pytest.mark.parametrize("times", [CAPACITY // 2 - 1, CAPACITY // 2, CAPACITY // 2 + 1, CAPACITY + 3])
def test_pending_of_more_than_it_holds_calls_the_model_in_between(times: int) -> None:
    world = World()
    world.ask(0, times)
    assert sum(world.served.signalled.values()) == 2 * times // CAPACITY * CAPACITY
    world.pending.flush(world.served)
    for partition, series in ((5, BTC), (2, ETH)):
        signals = world.signals(partition)
        assert len(signals) == times
        assert {(signal.symbol, signal.close, signal.predicted_at_ms) for signal in signals} == {
            (series.symbol, 100.0 + (series == ETH), 99)
        }
        np.testing.assert_allclose([signal.location for signal in signals], signals[0].location, atol=1e-5)


def test_pending_messages_carry_key_and_event_time() -> None:
    world = World()
    world.ask(4)
    world.pending.flush(world.served)
    (message,) = world.served.messages(2)
    assert (message.key, message.timestamp_ms) == (ETH.key, (START_SLOT + 4) * MINUTE)


def test_served_counts_what_is_out_of_the_ordinary_where_it_speaks() -> None:
    turn = columns(np.arange(4))._replace(
        speaks=np.array([True, True, True, False]), absent=np.array([True, False, True, True])
    )
    nothing = np.zeros(4, np.bool_)
    verdict = Verdict(
        advances=nothing,
        restarts=nothing,
        duplicate=np.array([True, False, False, False]),
        out_of_order=np.array([False, True, False, True]),
        undeclared_gap=np.array([False, False, True, True]),
    )
    served = Served(now_ms=0)
    served.count(turn, verdict)
    assert served.ignored == {"duplicate": 1, "out_of_order": 1, "undeclared_gap": 1}
    assert served.withheld == {"absent": 1}
