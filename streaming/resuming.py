"""Where a group takes up partitions that it was given, and what its last owner left in the commits.

Enters: partitions. Leaves: offsets to begin at, and the numbers remembered. Does not know: what either is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from models.errors import CandlewickError
from streaming.rewind import Resume, plan, remembered


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
        CandlewickError: a commit lies beyond the end of its log.
    """
    if not tps:
        return {}
    committed = await admin.list_consumer_group_offsets(group, partitions=list(tps))
    beginnings, ends = await lookup.beginning_offsets(tps), await lookup.end_offsets(tps)
    found = {}
    for tp in tps:
        offset, metadata = committed.get(tp, (None, None))
        try:
            planned = plan(offset, metadata, beginnings[tp], ends[tp])
        except ValueError as error:
            raise CandlewickError(f"{tp.topic}[{tp.partition}]: {error}") from error
        found[tp] = TakenUp(planned, remembered(metadata), ends[tp])
    return found
