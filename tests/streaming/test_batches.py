"""The consumer of `candles` on a real broker: what it calls caught up."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streaming.batches import BatchSource, Fetched
from streaming.clients import new_member, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.replay import replay
from streaming.rewind import encode_rewind
from streaming.settings import Settings
from tests.e2e.market import market
from tests.e2e.system import System, run

PARTITIONS = 2


def test_source_is_caught_up_only_once_all_that_it_rebuilds_from_is_worked_off(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    with System(kafka.bootstrap, topic_prefix, tmp_path, PARTITIONS) as system:
        run(replay(system.settings, market(8, 200)))
        run(rebuild(system.settings))


async def rebuild(settings: Settings) -> None:
    ends, done = await commit_everything(settings), dict[int, int]()
    batches: asyncio.Queue[Fetched] = asyncio.Queue()
    source = BatchSource(settings, batches.put, nothing_to_forget)
    await source.start()
    try:
        async with asyncio.timeout(60):
            while done != ends:
                fetched = await batches.get()
                assert not fetched.records.speaks.any()
                assert not source.caught_up.is_set()
                source.done(fetched, {}, took_s=0.0)
                done |= fetched.ends
        assert source.caught_up.is_set()
    finally:
        await source.stop()


async def commit_everything(settings: Settings) -> dict[int, int]:
    """As a replica does that has worked off all there is, and whose windows reach back to the first record."""
    tps = [TopicPartition(settings.topic("candles"), partition) for partition in range(PARTITIONS)]
    async with started(new_member(settings, settings.group("predict"), session_timeout_s=10)) as consumer:
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        await consumer.commit({tp: OffsetAndMetadata(end, encode_rewind(0)) for tp, end in ends.items()})
    return {tp.partition: end for tp, end in ends.items()}


def nothing_to_forget(partitions: Collection[int]) -> None:
    assert not partitions
