"""Records of all partitions side by side, where aiokafka's own `getmany` empties one partition before the next.

Enters: a consumer that fetches. Leaves: records by partition, as many of each as fairness and the bound allow. Does not
know: what is done with them.

A series' candles must be taken one after another, so a batch is worked off in turns of one candle a series. A backlog
of one partition after another would make turns of a few dozen series instead of hundreds, at three times the cost.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult

Taken: TypeAlias = dict[TopicPartition, list[Any]]
"""Records with `key`, `value`, `offset` and `timestamp`; whose partition it is, only the dictionary says."""


async def take(consumer: AIOKafkaConsumer, at_most: int, wait_ms: int) -> Taken:
    """Take what has been fetched, else wait for the first to come.

    Once the first record is in hand nothing here waits: all that is returned was taken in one step of the event loop.
    """
    taken = await _share(consumer, at_most)
    return taken or await consumer.getmany(timeout_ms=wait_ms, max_records=at_most)


async def _share(consumer: AIOKafkaConsumer, at_most: int) -> Taken:
    """The same number from every partition; what some of them lack goes to whoever has more."""
    _leave_records_as_parsed(consumer)
    partitions = consumer.assignment()
    fair = max(1, at_most // max(1, len(partitions)))
    taken: Taken = {}
    for tp in partitions:
        taken |= await consumer.getmany(tp, max_records=fair)  # does not wait
    room = at_most - sum(map(len, taken.values()))
    if taken and room > 0:
        for tp, records in (await consumer.getmany(max_records=room)).items():
            taken.setdefault(tp, []).extend(records)
    return taken


def _leave_records_as_parsed(consumer: AIOKafkaConsumer) -> None:
    """Spare each fetched record its wrapping into aiokafka's ConsumerRecord: a third of the cost of fetching.

    This reaches into aiokafka, which the project holds to one minor version.
    """
    for result in consumer._fetcher._records.values():
        if isinstance(result, FetchResult) and result._partition_records is not None:
            result._partition_records._consumer_record = _as_parsed


def _as_parsed(tp: TopicPartition, record: Any) -> Any:
    return record
