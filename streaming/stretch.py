"""Stretches of partitions: every record from one offset on and before another, then no more.

Enters: a reader without a group, offsets. Leaves: records, or the candles they hold, batch by batch. Does not know: who
wants them.

The position says when an end is reached, never the last record: the end of a transaction takes an offset too, and is
no record. A stretch is read for as long as it takes; what is bounded is how long nothing of it comes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.decode import Columns, Records, decode_batch
from models.errors import CandlewickError
from models.series_table import SeriesTable
from streaming.raw_records import keep_bytes, side_by_side
from streaming.taking import fetch_ahead, take_raw

logger = logging.getLogger(__name__)

POLL_MS = 200
BATCH_RECORDS = 20_000
STALL_S = 60.0
"""An unfinished transaction, which hides what follows, is undone within 20 s by the common settings."""

Stretches: TypeAlias = Mapping[TopicPartition, tuple[int, int]]
"""First offset of each partition, and the one after its last."""
Taken = TypeVar("Taken")


class Stalled(CandlewickError):  # noqa: N818 - a state, named as one
    """Nothing comes any more, and the end is not reached."""


async def whole(reader: AIOKafkaConsumer, tps: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
    """All that partitions hold now."""
    begins, ends = await reader.beginning_offsets(tps), await reader.end_offsets(tps)
    return {tp: (begins[tp], ends[tp]) for tp in tps}


async def records(reader: AIOKafkaConsumer, stretches: Stretches) -> AsyncIterator[tuple[TopicPartition, list[Any]]]:
    """Every record, in batches of one partition each.

    Raises:
        Stalled: nothing came for a minute.
    """

    async def take(left: Collection[TopicPartition]) -> dict[TopicPartition, list[Any]]:
        taken: dict[TopicPartition, list[Any]] = await reader.getmany(
            *left, timeout_ms=POLL_MS, max_records=BATCH_RECORDS
        )
        return taken

    async for taken in _taken(reader, stretches, take):
        for tp, found in taken.items():
            yield tp, [record for record in found if record.offset < stretches[tp][1]]


async def candles(
    reader: AIOKafkaConsumer, stretches: Stretches, table: SeriesTable
) -> AsyncIterator[tuple[Records, Columns]]:
    """Every valid candle, and the records they come from, in batches of one partition each.

    Some five times as fast as one record after another; series met for the first time are given rows in the table.

    Raises:
        Stalled: nothing came for a minute.
    """
    keep_bytes()
    fetch_ahead(reader)
    async for taken in _taken(reader, stretches, lambda _: take_raw(reader, BATCH_RECORDS, POLL_MS)):
        for tp, found in taken.items():
            mine = found.take(0, int(np.searchsorted(found.offsets, stretches[tp][1])))
            if len(mine.offsets):
                batch = side_by_side({tp: mine}, {tp.partition: 0})
                yield batch, decode_batch(table, batch)[0]


async def _taken(
    reader: AIOKafkaConsumer, stretches: Stretches, take: Callable[[Collection[TopicPartition]], Awaitable[Taken]]
) -> AsyncIterator[Taken]:
    """What `take` takes until every end is reached; time that the caller spends between two takes is no stall."""
    left = {tp: end for tp, (first, end) in stretches.items() if first < end}
    if not left:
        return
    reader.assign(list(left))
    for tp in left:
        reader.seek(tp, stretches[tp][0])
    at, idle_s = {tp: stretches[tp][0] for tp in left}, 0.0
    while left:
        began_s, stood = time.monotonic(), at
        try:
            async with asyncio.timeout(STALL_S):
                taken = await take(left)
                at = {tp: await reader.position(tp) for tp in left}
        except TimeoutError as error:
            raise _stalled(at, left) from error
        idle_s = 0.0 if at != stood else idle_s + time.monotonic() - began_s
        if idle_s > STALL_S:
            raise _stalled(at, left) from TimeoutError()
        yield taken
        for tp in [tp for tp, end in left.items() if at[tp] >= end]:
            del left[tp]
            reader.pause(tp)
    await _tell_lost(reader, stretches)


def _stalled(at: Mapping[TopicPartition, int], left: Mapping[TopicPartition, int]) -> Stalled:
    stuck = ", ".join(f"{tp.topic}[{tp.partition}]@{at[tp]} of {end}" for tp, end in left.items())
    return Stalled(
        f"no progress for {STALL_S:g} s at {stuck}; is Kafka up? "
        "A writer that died in a transaction hides what follows until that times out"
    )


async def _tell_lost(reader: AIOKafkaConsumer, stretches: Stretches) -> None:
    """Say aloud what was deleted while it was read: the reader went on behind it, and nobody would know."""
    begins = await reader.beginning_offsets(list(stretches))
    for tp, (first, _) in stretches.items():
        if begins[tp] > first:
            logger.warning(
                "the log's oldest records were deleted while it was read; some may be missing at=%s[%d] from=%d to=%d",
                tp.topic, tp.partition, first, begins[tp],
            )  # fmt: skip
