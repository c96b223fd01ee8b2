"""Stretches of a partition on a real broker: all of it and no more, also where the log changes meanwhile."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from models.series_table import SeriesTable
from streaming import stretch
from streaming.clients import is_of_kafka, new_admin, new_reader, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.settings import Settings
from streaming.stretch import Stalled, Stretches, candles, records, whole
from streaming.topics import init_topics
from tests.e2e.system import run, settings_of
from tests.models.candle_records import BTC, START_SLOT, make_candle
from tests.streaming.log_of_candles import said, write

CLOSES = [make_candle(BTC, START_SLOT + i).close_time_ms for i in range(10)]


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    """Ten candles of one series on the one partition."""
    settings = settings_of(kafka.bootstrap, topic_prefix, tmp_path, partitions=1)
    run(init_topics(settings))
    run(write(settings, [said(make_candle(BTC, START_SLOT + i)) for i in range(10)]))
    return settings


async def offsets(settings: Settings, stretches: Stretches) -> list[int]:
    async with started(new_reader(settings)) as reader:
        return [record.offset async for _, batch in records(reader, stretches) for record in batch]


async def closes(settings: Settings, stretches: Stretches) -> list[int]:
    async with started(new_reader(settings)) as reader:
        return [close async for _, found in candles(reader, stretches, SeriesTable()) for close in found.close_time_ms]


def test_stretch_gives_what_lies_in_it_and_nothing_else(settings: Settings) -> None:
    tp = TopicPartition(settings.topic("candles"), 0)
    assert run(offsets(settings, {tp: (3, 7)})) == [3, 4, 5, 6]
    assert run(closes(settings, {tp: (3, 7)})) == CLOSES[3:7]
    assert run(closes(settings, {tp: (7, 7)})) == []


def test_stretch_whose_beginning_was_deleted_gives_the_rest_and_says_so(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    tp = TopicPartition(settings.topic("candles"), 0)

    async def scene() -> Stretches:
        async with started(new_reader(settings)) as reader, started(new_admin(settings)) as admin:
            looked_up = await whole(reader, [tp])
            await admin.delete_records({tp: RecordsToDelete(before_offset=6)})
        return looked_up

    looked_up = run(scene())
    assert looked_up == {tp: (0, 10)}
    with caplog.at_level(logging.WARNING):
        assert run(offsets(settings, looked_up)) == [6, 7, 8, 9]
    assert "deleted while it was read" in caplog.text
    assert run(closes(settings, looked_up)) == CLOSES[6:]


def test_stretch_of_which_nothing_comes_ends_as_a_trouble_of_kafka(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretch, "STALL_S", 0.5)
    tp = TopicPartition(settings.topic("candles"), 0)
    with pytest.raises(Stalled, match=r"candles\[0\]@[0-9]+ of 11; is Kafka up\?") as caught:
        run(offsets(settings, {tp: (0, 11)}))
    assert is_of_kafka(caught.value)
    with pytest.raises(Stalled):
        run(closes(settings, {tp: (0, 11)}))
