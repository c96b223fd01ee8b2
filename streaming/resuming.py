"""Where a group takes up partitions that it was given, and what its last owner left in the commits.

Enters: partitions, and records that were fetched. Leaves: offsets to begin at, the numbers remembered, and batches
that say which of their records speak. Does not know: what any of it is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from models.decode import Batch
from models.errors import CandlewickError
from streaming.committed import committed_offsets
from streaming.rewind import Resume, plan, remembered
from streaming.taking import Taken


class TakenUp(NamedTuple):
    """One partition."""

    plan: Resume
    remembered: dict[str, int]
    end: int  # of the log, now


async def take_up(
    admin: AIOKafkaAdminClient, lookup: AIOKafkaConsumer, group: str, tps: Sequence[TopicPartition]
) -> dict[TopicPartition, TakenUp]:
    """Look up where to begin; `lookup` is a consumer that does not fetch.

    Raises:
        CandlewickError: Kafka does not say what was committed, or a commit lies beyond the end of its log.
    """
    if not tps:
        return {}
    committed = await committed_offsets(admin, group, tps)
    beginnings, ends = await lookup.beginning_offsets(tps), await lookup.end_offsets(tps)
    found = {}
    for tp in tps:
        offset, metadata = committed[tp]
        try:
            planned = plan(offset, metadata, beginnings[tp], ends[tp])
        except ValueError as error:
            raise CandlewickError(
                f"{tp.topic}[{tp.partition}]: {error} Then stop every process of the group and reset it: "
                "kafka-consumer-groups.sh --bootstrap-server HOST:PORT --reset-offsets --to-earliest "
                f"--group {group} --topic {tp.topic} --execute"
            ) from error
        found[tp] = TakenUp(planned, remembered(metadata), ends[tp])
    return found


def batch_of(records: Taken, topic: str, plans: Mapping[TopicPartition, Resume]) -> Batch:
    """The records of one topic; those from `resume` on speak."""
    mine = {tp: of_one for tp, of_one in records.items() if tp.topic == topic}
    flat = [record for of_one in mine.values() for record in of_one]
    offsets = np.array([record.offset for record in flat], np.int64)
    partitions = [tp.partition for tp, of_one in mine.items() for _ in of_one]
    resumes = np.array([plans[tp].resume for tp, of_one in mine.items() for _ in of_one], np.int64)
    keys, values = [record.key for record in flat], [record.value for record in flat]
    return Batch(keys, values, partitions, offsets, offsets >= resumes)
