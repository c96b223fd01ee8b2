from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from aiokafka import TopicPartition

from models.decode import Batch
from models.outcomes import Rewind
from models.policy import DAY_MS, HOUR_MS
from streaming.frontier import Frontier
from streaming.pairs import AHEAD_RECORDS, WAITING_SIGNALS, PairSource
from streaming.pool import policy_of
from streaming.resuming import batch_of
from streaming.rewind import Resume, encode_rewind, plan, remembered
from streaming.settings import DriftSettings, KafkaSettings, Settings

CANDLES, SIGNALS = TopicPartition("t.candles", 3), TopicPartition("t.signals", 3)


class Desk:
    """Remembers what it was told; a test says how many signals wait."""

    def __init__(self) -> None:
        self.waits = 0
        self.gone: list[tuple[int, int]] = []
        self.orphans: list[tuple[int, int]] = []
        self.served: list[tuple[Batch, Batch, dict[int, int]]] = []

    def begin(self, partition: int, rewind: Rewind) -> None:
        raise AssertionError

    def forget(self, partitions: Collection[int]) -> None:
        raise AssertionError

    def waiting(self, partition: int) -> int:
        return self.waits

    def rewinds(self) -> dict[int, Rewind]:
        return {3: Rewind(1, 2, 3)}

    def let_go(self, partition: int, offset: int) -> None:
        self.gone.append((partition, offset))

    def forget_orphans(self, partition: int, offset: int) -> None:
        self.orphans.append((partition, offset))

    async def serve(self, candles: Batch, signals: Batch, settled: dict[int, int]) -> None:
        self.served.append((candles, signals, settled))


class Record:
    def __init__(self, offset: int) -> None:
        self.offset, self.key, self.value = offset, b"k%d" % offset, b"v%d" % offset


def source_at(tmp_path: Path, candles: int, signals: int) -> tuple[PairSource, Desk]:
    """A source that owns one partition and has read so far."""
    settings = Settings(_env_file=None, kafka=KafkaSettings(topic_prefix="t."), data_dir=tmp_path)  # type: ignore[call-arg]
    desk = Desk()
    source = PairSource(settings, desk)
    source._positions = {CANDLES: candles, SIGNALS: signals}
    source._plans = {CANDLES: Resume(0, 0), SIGNALS: Resume(0, 0)}
    source._settled = {3: 0}
    return source, desk


def test_source_within_reach_reads_everything(tmp_path: Path) -> None:
    source, _ = source_at(tmp_path, AHEAD_RECORDS, 0)
    assert source._within_reach() is None


def test_source_far_ahead_of_what_is_settled_reads_only_signals(tmp_path: Path) -> None:
    source, _ = source_at(tmp_path, AHEAD_RECORDS + 1, 0)
    assert source._within_reach() == [SIGNALS]
    source._settled[3] = 1
    assert source._within_reach() is None


def test_source_rebuilding_is_not_ahead_of_what_was_settled_before(tmp_path: Path) -> None:
    source, _ = source_at(tmp_path, AHEAD_RECORDS + 1, 0)
    source._plans[CANDLES] = Resume(0, 1)
    assert source._within_reach() is None


@pytest.mark.parametrize("position", [0, AHEAD_RECORDS + 1])
def test_source_with_too_many_signals_waiting_reads_only_candles_however_far(tmp_path: Path, position: int) -> None:
    source, desk = source_at(tmp_path, position, 0)
    desk.waits = WAITING_SIGNALS + 1
    assert source._within_reach() == [CANDLES]


def test_candles_are_settled_once_the_signals_of_the_frontier_are_read(tmp_path: Path) -> None:
    source, _ = source_at(tmp_path, 50, 99)
    source._frontiers = {3: Frontier(candles=80, signals=100, logged=120)}
    assert source._newly_settled() == {}
    source._positions[SIGNALS] = 100
    assert source._newly_settled() == {3: 50}
    source._settled[3] = 50
    assert source._newly_settled() == {}
    source._positions[CANDLES] = 90
    assert source._newly_settled() == {3: 80}
    assert source._frontiers == {}


def test_candles_far_behind_are_let_go_while_signals_are_held(tmp_path: Path) -> None:
    source, desk = source_at(tmp_path, AHEAD_RECORDS + 7, 5)
    source._frontiers = {3: Frontier(candles=10, signals=100, logged=120)}
    assert source._newly_settled() == {}
    assert desk.gone == []
    desk.waits = WAITING_SIGNALS + 1
    assert source._newly_settled() == {}
    assert desk.gone == [(3, 7)]


def test_signals_are_given_up_only_once_every_candle_that_may_be_theirs_was_read(tmp_path: Path) -> None:
    source, desk = source_at(tmp_path, 119, 100)
    source._orphans = {3: Frontier(candles=80, signals=100, logged=120)}
    source._forget_orphans()
    assert desk.orphans == []
    source._positions[CANDLES] = 120
    source._forget_orphans()
    assert (desk.orphans, source._orphans) == ([(3, 100)], {})


def test_signals_are_given_up_after_the_desk_took_the_last_candles_that_may_be_theirs(tmp_path: Path) -> None:
    source, desk = source_at(tmp_path, 119, 100)
    source._orphans = {3: Frontier(candles=80, signals=100, logged=120)}
    served_before: list[int] = []
    desk.forget_orphans = lambda partition, offset: served_before.append(len(desk.served))  # type: ignore[method-assign]
    asyncio.run(source._serve({CANDLES: [Record(119)]}))
    assert served_before == [1]


def test_batch_of_a_topic_keeps_its_order_and_says_which_records_are_new() -> None:
    records = {CANDLES: [Record(1)], SIGNALS: [Record(5), Record(6)]}
    batch = batch_of(records, "t.signals", {SIGNALS: Resume(4, 6)})
    assert (batch.keys, batch.values, batch.partitions) == ([b"k5", b"k6"], [b"v5", b"v6"], [3, 3])
    np.testing.assert_array_equal(batch.offsets, [5, 6])
    np.testing.assert_array_equal(batch.speaks, [False, True])


def test_commits_wait_until_both_topics_of_a_partition_are_past_what_was_committed(tmp_path: Path) -> None:
    source, _ = source_at(tmp_path, 10, 5)
    noted = _Noted()
    source._commits = noted  # type: ignore[assignment]
    source._plans[SIGNALS], source._ready = Resume(0, 6), True
    source._note_commits()
    assert noted.added == {}
    source._positions[SIGNALS] = 6
    source._note_commits()
    assert noted.added == {CANDLES: (10, "rewind=1 settled=3"), SIGNALS: (6, "rewind=2")}


class _Noted:
    def __init__(self) -> None:
        self.added: dict[TopicPartition, tuple[int, str]] = {}

    def add_at(self, tp: TopicPartition, end: int, metadata: str) -> None:
        self.added[tp] = (end, metadata)


def test_rewind_note_with_more_in_it_is_read_back_whole() -> None:
    note = encode_rewind(400, **{"settled": 900, "era:default-1m": 1_700_000_000_000})
    assert remembered(note) == {"rewind": 400, "settled": 900, "era:default-1m": 1_700_000_000_000}
    assert plan(1_000, note, beginning=0, end=2_000) == Resume(400, 1_000)
    assert remembered("a tool wrote this=junk") == {}


def test_policy_of_settings_is_in_milliseconds_of_event_time() -> None:
    policy = policy_of(DriftSettings(min_new_bars=100, judge_bars=200, cool_down_hours=2, retrain_after_days=3))
    assert (policy.min_new_bars, policy.judge_bars) == (100, 200)
    assert (policy.cool_down_ms, policy.retrain_after_ms) == (2 * HOUR_MS, 3 * DAY_MS)
