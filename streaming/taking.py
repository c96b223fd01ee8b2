"""Records of all partitions side by side, where aiokafka's own `getmany` empties one partition before the next.

Enters: a consumer that fetches. Leaves: records by partition. Does not know: what is done with them.

A series' candles must be taken one after another, so a batch is worked off in turns of one candle a series. A backlog
of one partition after another would make turns of a few dozen series instead of hundreds, at three times the cost.

This reaches into aiokafka, which the project holds to one minor version.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchError, FetchResult
from aiokafka.errors import ConsumerStoppedError

from streaming.raw_records import Found, take_waiting

MUCH_LEFT = 1_000
"""Records of a partition that the others do not run away from; live, there never are as many."""
IN_STEP_S = 0.5
"""As long as this the others wait for it, once a batch; its broker may be away."""
Taken: TypeAlias = dict[TopicPartition, list[Any]]
"""Records with `key`, `value`, `offset` and `timestamp`; whose partition it is, only the dictionary says."""


async def take(
    consumer: AIOKafkaConsumer, about: int, wait_ms: int, of: Collection[TopicPartition] | None = None
) -> Taken:
    """Take what has been fetched, else wait for the first to come.

    Of each partition in proportion to what it has left, so that all of them come to their end together; `about` may be
    exceeded by one record a partition. Once the first record is in hand nothing here waits: all that is returned was
    taken in one step of the event loop. What is taken of some partitions only (`of`, not empty) lets the others wait:
    no more of them is fetched than lies here already.
    """
    with consumer._subscription.fetch_context():  # without it, minutes of backlog are taken for minutes of idleness
        taken = _fetched(consumer, about, of)
    return taken or await consumer.getmany(*(of or ()), timeout_ms=wait_ms, max_records=about)


def fetch_ahead(consumer: AIOKafkaConsumer) -> None:
    """Fetch a partition as soon as it is empty here; by itself aiokafka first waits for all others of its broker."""
    consumer._fetcher._prefetch_backoff = 0.0


async def take_raw(consumer: AIOKafkaConsumer, about: int, wait_ms: int) -> dict[TopicPartition, Found]:
    """The same, as the records lie in what was fetched; all of a consumer's records must be taken so.

    A partition of which much is left and nothing lies here yet is waited for, within a bound: else the others would run
    away from it. That takes a consumer which fetches ahead.

    Raises:
        KafkaError: whatever `getmany` raises.
    """
    if consumer._closed:
        raise ConsumerStoppedError
    with consumer._subscription.fetch_context():
        await _in_step(consumer)
        _raise_what_is_wrong(consumer)  # of one partition, though the others go on
        taken = _found(consumer, about)
        if not taken:
            await _more(consumer, wait_ms / 1000)
            taken = {} if consumer._closed else _found(consumer, about)
    return taken


def standing(
    consumer: AIOKafkaConsumer, done: Mapping[TopicPartition, int], busy: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """Where partitions stand: after the last record that is done or, of those whose records are not just being worked
    on (`busy`), where the consumer reads on, which may be past the end of a transaction."""
    return {tp: at if tp in busy else max(at, _reads_on_at(consumer, tp)) for tp, at in done.items()}


def _reads_on_at(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int:
    """The consumer's position; 0 while it has none."""
    subscription = consumer._subscription.subscription
    if subscription is None or subscription.assignment is None or tp not in subscription.assignment.tps:
        return 0
    state = subscription.assignment.state_value(tp)
    return int(state.position) if state.has_valid_position else 0


async def _in_step(consumer: AIOKafkaConsumer) -> None:
    deadline = time.monotonic() + IN_STEP_S
    while _is_outrun(consumer) and (left_s := deadline - time.monotonic()) > 0:
        await _more(consumer, left_s)


async def _more(consumer: AIOKafkaConsumer, timeout_s: float) -> None:
    """Wait until something is fetched."""
    more = consumer._fetcher._create_fetch_waiter()
    await asyncio.wait([more], timeout=timeout_s)
    if more.done():
        more.result()  # raises what makes fetching impossible
    else:
        more.cancel()


def _raise_what_is_wrong(consumer: AIOKafkaConsumer) -> None:
    """All but that it was closed while it waited: then there is nothing any more, and whoever closed it knows."""
    consumer._coordinator.check_errors()
    fetcher = consumer._fetcher
    for tp, error in list(fetcher._records.items()):
        if isinstance(error, FetchError):
            del fetcher._records[tp]  # so that it is fetched again
            fetcher._notify(fetcher._wait_consume_future)
            error.check_raise()


def _found(consumer: AIOKafkaConsumer, about: int) -> dict[TopicPartition, Found]:
    here = _here(consumer, None)
    wanted = _shares(consumer, here, about)
    taken = {}
    for tp, result in here.items():
        if not result.has_more():
            _let_fetch(consumer, tp)
            continue
        taken[tp], was_all = take_waiting(result._partition_records, wanted[tp])
        result._update_position()
        if was_all:
            _let_fetch(consumer, tp)
    return {tp: found for tp, found in taken.items() if len(found.offsets)}


def _is_outrun(consumer: AIOKafkaConsumer) -> bool:
    """Whether nothing lies here of a partition of which much is left."""
    subscription = consumer._subscription.subscription
    if subscription is None or subscription.assignment is None or consumer._closed:
        return False
    assignment = subscription.assignment
    missing = (assignment.state_value(tp) for tp in assignment.tps if tp not in consumer._fetcher._records)
    return any(
        state.has_valid_position and not state.paused and (state.lso or 0) - state.position >= MUCH_LEFT
        for state in missing
    )


def _fetched(consumer: AIOKafkaConsumer, about: int, of: Collection[TopicPartition] | None) -> Taken:
    here = _here(consumer, of)
    wanted = _shares(consumer, here, about)
    taken = {tp: _drained(consumer, tp, result, wanted[tp]) for tp, result in here.items()}
    return {tp: records for tp, records in taken.items() if records}


def _here(consumer: AIOKafkaConsumer, of: Collection[TopicPartition] | None) -> dict[TopicPartition, FetchResult]:
    return {
        tp: result
        for tp, result in consumer._fetcher._records.items()
        if isinstance(result, FetchResult) and (of is None or tp in of)
    }


def _shares(
    consumer: AIOKafkaConsumer, here: Mapping[TopicPartition, FetchResult], about: int
) -> dict[TopicPartition, int]:
    left = {tp: _left(consumer, tp, result) for tp, result in here.items()}
    total = sum(left.values())
    return {tp: -(-about * records // total) for tp, records in left.items()}


def _left(consumer: AIOKafkaConsumer, tp: TopicPartition, result: FetchResult) -> int:
    """How many records of the log lie ahead, 1 at least."""
    if not (result.check_assignment(tp) and result.has_more()):
        return 1  # sought or taken away since it was fetched
    return max(1, (consumer.highwater(tp) or 0) - int(result._partition_records.next_fetch_offset))


def _drained(consumer: AIOKafkaConsumer, tp: TopicPartition, result: FetchResult, wanted: int) -> list[Any]:
    """What getmany does for one partition, at half its cost: without steps of Python for each record."""
    taken: list[Any] = []
    if result.has_more():
        result._partition_records._consumer_record = _as_parsed
        taken = list(islice(result._partition_records._records_iterator, wanted))
        result._update_position()
    if len(taken) < wanted:  # that was all
        _let_fetch(consumer, tp)
    return taken


def _let_fetch(consumer: AIOKafkaConsumer, tp: TopicPartition) -> None:
    del consumer._fetcher._records[tp]
    consumer._fetcher._notify(consumer._fetcher._wait_consume_future)


def _as_parsed(tp: TopicPartition, record: Any) -> Any:
    """Spare a record its wrapping into aiokafka's ConsumerRecord."""
    return record
