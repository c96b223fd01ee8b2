"""What a consumer group has committed.

Enters: a group, and partitions or all. Leaves: offsets with their metadata. Does not know: what they are for.

The group's coordinator may just be made, loaded or moved. Kafka then says so for a moment, and aiokafka raises it or
passes over it; a commit that a person waits for must not fail for that, so it is asked for again, within a bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import tenacity
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError
from aiokafka.structs import OffsetAndMetadata

from models.errors import CandlewickError

PATIENCE_S = 10.0
"""A coordinator loads thousands of commits in well under a second; after a broker died, another takes seconds."""

Offsets = dict[TopicPartition, OffsetAndMetadata]


class _UntoldError(CandlewickError):
    pass


async def committed_offsets(
    admin: AIOKafkaAdminClient, group: str, tps: Sequence[TopicPartition] | None = None
) -> Offsets:
    """Look up the commits of partitions, -1 where there is none; without partitions: all that the group ever made.

    Raises:
        CandlewickError: Kafka answered without saying it, for as long as is waited.
        KafkaError: Kafka failed, for as long as is waited.
    """
    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(
            (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError, _UntoldError)
        ),
        stop=tenacity.stop_after_delay(PATIENCE_S),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
        reraise=True,
    ):
        with attempt:
            return await _ask(admin, group, tps)
    raise AssertionError("tenacity returns or raises")


async def _ask(admin: AIOKafkaAdminClient, group: str, tps: Sequence[TopicPartition] | None) -> Offsets:
    committed: Offsets = await admin.list_consumer_group_offsets(group, partitions=list(tps) if tps else None)
    if untold := [f"{tp.topic}[{tp.partition}]" for tp in tps or () if tp not in committed]:
        # A coordinator that is moving or loading says so for the whole group; aiokafka passes over it, and what looks
        # like a group without commits would do all of its log again. One that knows of no commit says -1.
        raise _UntoldError(f"Kafka does not say what {group} committed of {', '.join(untold)}; it may in a moment")
    return committed
