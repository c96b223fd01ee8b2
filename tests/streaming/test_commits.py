from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from streaming.commits import Commits

Committed = dict[int, OffsetAndMetadata]


class Group:
    """A consumer whose commits do what a test says, one after the other; then they succeed."""

    def __init__(self, *answers: Callable[[], Awaitable[None]]) -> None:
        self.answers = list(answers)
        self.committed: list[Committed] = []

    async def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        if self.answers:
            await self.answers.pop(0)()
        self.committed.append({tp.partition: offset for tp, offset in offsets.items()})


def refuse(error: Exception) -> Callable[[], Awaitable[None]]:
    async def answer() -> None:
        raise error

    return answer


def at(offset: int, rewind: int) -> OffsetAndMetadata:
    return OffsetAndMetadata(offset, f"rewind={rewind}")


def test_flush_commits_the_newest_offset_of_each_partition_with_its_rewind_once() -> None:
    group = Group()
    commits = Commits(group, "candles")
    commits.add(0, 10, 3)
    commits.add(0, 20, 7)
    commits.add(1, 5, 5)

    asyncio.run(commits.flush(1))
    asyncio.run(commits.flush(1))

    assert group.committed == [{0: at(20, 7), 1: at(5, 5)}]


@pytest.mark.parametrize("error", [CommitFailedError(), IllegalStateError("not assigned"), KafkaError("gone")])
def test_flush_that_fails_is_made_up_for_by_the_next(error: Exception) -> None:
    group = Group(refuse(error))
    commits = Commits(group, "candles")
    commits.add(0, 10, 3)

    asyncio.run(commits.flush(1))
    assert group.committed == []
    asyncio.run(commits.flush(1))

    assert group.committed == [{0: at(10, 3)}]


def test_flush_that_hears_nothing_ends_within_its_bound_and_is_made_up_for() -> None:
    async def story() -> list[Committed]:
        group = Group(asyncio.Event().wait)  # type: ignore[arg-type]  # waits for ever
        commits = Commits(group, "candles")
        commits.add(0, 10, 3)
        await commits.flush(0.01)
        await commits.flush(1)
        return group.committed

    assert asyncio.run(story()) == [{0: at(10, 3)}]


def test_keep_only_forgets_partitions_that_went_also_after_a_failed_flush() -> None:
    group = Group(refuse(CommitFailedError()))
    commits = Commits(group, "candles")
    commits.add(0, 10, 3)
    commits.add(1, 11, 4)
    asyncio.run(commits.flush(1))

    commits.keep_only({1})
    asyncio.run(commits.flush(1))

    assert group.committed == [{1: at(11, 4)}]


def test_flush_keeps_what_was_added_while_it_waited_and_is_not_overtaken() -> None:
    async def story() -> list[Committed]:
        slow = asyncio.Event()
        group = Group(slow.wait)  # type: ignore[arg-type]
        commits = Commits(group, "candles")
        commits.add(0, 10, 3)
        first = asyncio.create_task(commits.flush(5))
        await asyncio.sleep(0)
        commits.add(0, 20, 4)
        second: asyncio.Task[Any] = asyncio.create_task(commits.flush(5))
        await asyncio.sleep(0)
        slow.set()
        await asyncio.gather(first, second)
        return group.committed

    assert asyncio.run(story()) == [{0: at(10, 3)}, {0: at(20, 4)}]
