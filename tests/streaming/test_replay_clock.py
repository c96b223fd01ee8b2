"""The clock of a replayed world, told by hand who has committed what and where jobs stand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from models.events import JobEvent, RetrainJob
from streaming.job_feed import Jobs, Pooled
from streaming.replay import Turn
from streaming.replay_clock import CLOSES_AHEAD, ReplayClock
from streaming.settings import KafkaSettings, Settings
from tests.models.make_scores import make_scores

MINUTE_MS = 60_000
TRAIN_MS = 100 * MINUTE_MS
JOB = RetrainJob(job="j", model="m", why="drift", asked_ms=0, train_until_ms=TRAIN_MS, judge_until_ms=2 * TRAIN_MS)
WAIT_S = 20


class Admin:
    """Answers what a test has made each role commit of the one partition, and remembers how often it was asked."""

    def __init__(self) -> None:
        self.committed = {"predict": 0, "monitor": 0}
        self.asked = 0
        self._asked_often = asyncio.Event()

    async def list_consumer_group_offsets(self, group: str, partitions: object) -> object:
        self.asked += 1
        if self.asked >= 6:  # of both roles, again and again
            self._asked_often.set()
        done = self.committed[group.removeprefix("t.")]
        return {TopicPartition("t.candles", 0): OffsetAndMetadata(done, f"settled={done}")}

    async def asked_often(self) -> None:
        await asyncio.wait_for(self._asked_often.wait(), WAIT_S)


class World:
    """A clock, and all that it looks at."""

    def __init__(self, folder: Path) -> None:
        self.admin, self.jobs, self.pooled = Admin(), Jobs(), Pooled()
        self.said: list[str | None] = []
        settings = Settings(_env_file=None, kafka=KafkaSettings(topic_prefix="t."), data_dir=folder)  # type: ignore[call-arg]
        self.clock = ReplayClock(settings, self.admin, self.jobs, self.pooled, self.said.append)

    def send(self, closes: int) -> None:
        for close in range(1, closes + 1):
            self.clock.sent(turn(close), {0: close})

    def commit(self, closes: int) -> None:
        self.admin.committed = dict.fromkeys(self.admin.committed, closes)


def turn(close: int) -> Turn:
    return Turn(close * MINUTE_MS, close * MINUTE_MS, 1, {})


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    async def in_a_world(story: Callable[[World], Awaitable[None]]) -> None:
        await story(World(tmp_path))

    return lambda story: asyncio.run(in_a_world(story))


Play = Callable[[Callable[[World], Awaitable[None]]], None]


def test_clock_lets_200_closes_go_and_asks_nobody(play: Play) -> None:
    async def story(world: World) -> None:
        world.send(CLOSES_AHEAD - 1)
        await world.clock.passed(turn(CLOSES_AHEAD))
        assert (CLOSES_AHEAD, world.admin.asked) == (200, 0)

    play(story)


@pytest.mark.parametrize("slowest", ["predict", "monitor"])
def test_clock_keeps_the_201st_close_until_the_slowest_role_has_done_the_first(play: Play, slowest: str) -> None:
    async def story(world: World) -> None:
        world.send(CLOSES_AHEAD)
        world.commit(1)
        world.admin.committed[slowest] = 0
        passing = asyncio.create_task(world.clock.passed(turn(CLOSES_AHEAD + 1)))
        await world.admin.asked_often()
        assert not passing.done()
        world.commit(1)
        await asyncio.wait_for(passing, WAIT_S)

    play(story)


def test_clock_waits_for_the_detectors_too(play: Play) -> None:
    async def story(world: World) -> None:
        world.pooled.take(make_scores(0))
        world.pooled.take(make_scores(CLOSES_AHEAD + 1, partition=3))
        passing = asyncio.create_task(world.clock.passed(turn(1)))
        await asyncio.sleep(0)
        assert not passing.done()
        world.pooled.take(make_scores(1))
        await asyncio.wait_for(passing, WAIT_S)

    play(story)


def test_clock_stands_while_a_job_holds_it_says_why_and_goes_on_after_its_end(play: Play) -> None:
    async def story(world: World) -> None:
        world.jobs.ask(JOB)
        world.send(101)  # the last close of training, and the one that shows it to be there
        world.commit(101)
        passing = asyncio.create_task(world.clock.passed(turn(102)))
        await asyncio.sleep(0)
        assert world.said == ["a challenger trains; the replay stands still"]
        assert not passing.done()
        world.jobs.tell(JobEvent(job="j", model="m", state="finished", text="", at_ms=0))
        await asyncio.wait_for(passing, WAIT_S)
        assert world.said[-1] is None

    play(story)


def test_clock_is_caught_up_once_all_that_was_sent_is_committed(play: Play) -> None:
    async def story(world: World) -> None:
        world.send(3)
        world.commit(2)
        waiting = asyncio.create_task(world.clock.caught_up())
        await world.admin.asked_often()
        assert not waiting.done()
        world.commit(3)
        await asyncio.wait_for(waiting, WAIT_S)

    play(story)
