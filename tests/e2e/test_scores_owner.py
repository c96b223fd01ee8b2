"""What is promised of drift when the owner of `scores` dies: the same decisions, each once, and every job asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from models.events import Drift, Message, RetrainJob, Scores, decode_drift, decode_job, decode_scores, encode
from models.watch import Surroundings, Watch
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.packing import acknowledged, send_packed
from streaming.pool import policy_of
from streaming.read import read_topic
from streaming.settings import Settings
from tests.e2e.system import System, Worker, run
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(200)

MINUTE, START = 60_000, 1_747_699_200_000
CLOSES, CHANGE = 1_200, 500
OTHER = "other-1m"


def monitor(system: System, name: str) -> Worker:
    return system.worker(
        name, "-m", "candlewick", "run", "monitor",
        CANDLEWICK_MONITOR__SESSION_TIMEOUT_S="3", CANDLEWICK_MONITOR__COMMIT_INTERVAL_S="0.1",
        CANDLEWICK_MONITOR__POOL_TIMEOUT_S="30",
    )  # fmt: skip


def partials(closes: Iterable[int]) -> list[Message]:
    """Two partitions of five outcomes each; from the change on, three of ten are covered instead of eight."""
    made = []
    for close in closes:
        for partition in (0, 1):
            covered = 4 if close < CHANGE else 1 + partition
            scores = Scores(
                model="default-1m", bundle="a" * 64, epoch=7, timeframe="1m", horizon_bars=3,
                target_time_ms=START + close * MINUTE, partition=partition, outcomes=5, return_crps=2.0,
                return_crps_ewma=2.1, range_crps=1.0, range_crps_har=1.1, return_pit=2.5, range_pit=2.5,
                return_covered=covered, range_covered=covered,
            )  # fmt: skip
            made.append(Message(f"default-1m/{partition}".encode(), encode(scores), scores.target_time_ms))
    return made


def decided_but_not_asked() -> Drift:
    """What a predecessor left who died between the two."""
    job = RetrainJob(
        job="drift-other-1m-1", model=OTHER, why="drift", asked_ms=START, train_until_ms=START + 360 * MINUTE,
        judge_until_ms=START + 720 * MINUTE,
    )  # fmt: skip
    return Drift(
        model=OTHER, bundle="b" * 64, epoch=1, timeframe="1m", target_time_ms=START, detector="range_coverage",
        level="drift", statistic=0.3, reference=0.8, since_ms=START, decision="retrain", reason="test", job=job,
    )  # fmt: skip


async def say(settings: Settings, topic: str, messages: list[Message]) -> None:
    async with started(new_producer(settings)) as producer:
        await acknowledged(await send_packed(producer, settings.topic(topic), 0, messages))


async def pooled(settings: Settings) -> list[Scores]:
    return [
        scores
        async for record in read_topic(settings, "scores")
        if (scores := decode_scores(record.value)).partition is None
    ]


async def drifts(settings: Settings) -> list[Drift]:
    return [decode_drift(record.value) async for record in read_topic(settings, "drift")]


async def jobs(settings: Settings) -> list[RetrainJob]:
    return [decode_job(record.value) async for record in read_topic(settings, "retrain-jobs")]


def reckoned(settings: Settings, log: list[Scores]) -> list[Drift]:
    """The decisions of an owner who never died."""
    watch, alone = Watch(policy_of(settings.drift)), Surroundings({}, {})
    return [drift for offset, one in enumerate(log) for drift in watch.fold(offset, one, alone)]


def test_owner_killed_before_and_after_an_alarm_decides_as_one_that_lived_and_asks_once_for_each_job(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=2) as system:
        settings = system.settings
        left = decided_but_not_asked()
        run(say(settings, "drift", [Message(OTHER.encode(), encode(left), left.target_time_ms)]))
        one = monitor(system, "one").wait_ready(120)
        run(say(settings, "scores", partials(range(CHANGE - 20))))
        eventually(lambda: len(run(pooled(settings))) > CHANGE // 2)
        one.kill()
        run(say(settings, "scores", partials(range(CHANGE - 20, CHANGE + 300))))
        two = monitor(system, "two").wait_ready(120)
        eventually(lambda: len(run(drifts(settings))) > 1, 60)
        two.kill()
        three = monitor(system, "three").wait_ready(120)
        run(say(settings, "scores", partials(range(CHANGE + 300, CLOSES))))
        eventually(lambda: len(run(pooled(settings))) >= CLOSES, 60)
        wanted = reckoned(settings, run(pooled(settings)))
        eventually(lambda: len(run(drifts(settings))) > len(wanted))

        log = run(pooled(settings))
        assert [one.target_time_ms for one in log] == [START + close * MINUTE for close in range(CLOSES)]
        assert {(one.outcomes, one.partitions) for one in log} == {(10, 2)}
        assert run(drifts(settings)) == [left, *wanted]
        asked = run(jobs(settings))
        assert sorted(job.job for job in asked) == sorted(drift.job.job for drift in (left, *wanted) if drift.job)
        assert len(asked) == 2
        assert three.terminate() == 0
        assert "Traceback" not in three.stderr
