"""What becomes of a job in its process when things go wrong, on real Kafka; children are never started."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from models.errors import CandlewickError
from models.events import JobEvent, RetrainJob, Verdict
from models.spec import Spec
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.job import Job
from streaming.job_log import JobLog, read_events
from streaming.models_topic import Warrant, activate, publish, read_models, reads
from streaming.replay import replay
from streaming.settings import Settings
from streaming.topics import init_topics
from tests.e2e.market import market
from tests.e2e.system import run, settings_of
from tests.models.make_bundle import make_bundle

TABLE = market(series=2, slots=30)
NEWEST_MS = int(TABLE.close_time_ms[-1])
JOB = RetrainJob(
    job="a", model="default-1m", why="drift", asked_ms=1, train_until_ms=NEWEST_MS,
    judge_until_ms=NEWEST_MS + 360 * 60_000,
)  # fmt: skip


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    """Topics with some candles, and a model that serves."""
    settings = settings_of(kafka.bootstrap, topic_prefix, tmp_path, partitions=1)
    run(init_topics(settings))
    run(replay(settings, TABLE))
    serve(settings, seed=1)
    return settings


def serve(settings: Settings, seed: int) -> str:
    sha256, _ = run(publish(settings, make_bundle(lookback=8, hidden=8, seed=seed), reads))
    run(activate(settings, sha256, "by hand"))
    return sha256


def finish(settings: Settings, job: RetrainJob = JOB) -> list[JobEvent]:
    """Do a job to its end; what was said of it."""

    async def finished() -> None:
        async with started(new_producer(settings)) as producer:
            await Job(settings, JobLog(settings, producer, job), job).finish()

    run(finished())
    return run(read_events(settings, job.job))[job.job]


def trained_on(settings: Settings, dataset: str) -> Settings:
    quick = settings.train.model_copy(update={"dataset": dataset, "retry_delay_s": 0.001})
    return settings.model_copy(update={"train": quick})


@pytest.mark.parametrize("there", [False, True], ids=["absent", "no dataset"])
def test_job_whose_dataset_cannot_be_read_fails_after_three_attempts_and_ends(
    settings: Settings, tmp_path: Path, there: bool
) -> None:
    folder = tmp_path / "candles"
    if there:
        folder.mkdir()
    said = finish(trained_on(settings, str(folder)))
    assert [event.state for event in said] == ["progress", "progress", "failed"]
    assert said[-1].attempt == 3
    assert "candles is no dataset" in said[-1].text


@pytest.mark.parametrize("number", [errno.EACCES, errno.ETIMEDOUT])
def test_job_whose_store_refuses_or_is_silent_fails_as_well_for_that_is_not_kafka(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(self: object, path: str, **options: Any) -> None:
        raise OSError(number, "not today")

    monkeypatch.setattr(MemoryFileSystem, "ls", refuse)
    end = finish(trained_on(settings, "memory://somewhere"))[-1]
    assert (end.state, end.attempt) == ("failed", 3)
    assert "memory://somewhere cannot be read" in end.text


def judge(settings: Settings, champion: str, challenger: str) -> None:
    """Say a verdict, as a trainer does that dies before it acts on it."""
    verdict = Verdict(
        promote=True, challenger=challenger, champion=champion, from_ms=1, until_ms=2, rows=1, blocks=6,
        sentence="so says the test",
    )  # fmt: skip

    async def say() -> None:
        async with started(new_producer(settings)) as producer:
            await JobLog(settings, producer, JOB).say("verdict", "promote", bundle=challenger, verdict=verdict)

    run(say())


def test_job_whose_champion_was_replaced_after_its_verdict_activates_nothing_and_says_why(settings: Settings) -> None:
    (champion,) = served(settings)
    challenger, _ = run(publish(settings, make_bundle(lookback=8, hidden=8, seed=2), reads))
    judge(settings, champion, challenger)
    by_hand = serve(settings, seed=3)
    end = finish(settings)[-1]
    assert end.state == "failed"
    assert f"judged against {champion[:12]}, and {by_hand[:12]} serves by now" in end.text
    assert served(settings) == [champion, by_hand]


def test_job_that_acted_on_its_verdict_and_died_ends_well_whatever_serves_by_now(settings: Settings) -> None:
    (champion,) = served(settings)
    challenger, _ = run(publish(settings, make_bundle(lookback=8, hidden=8, seed=2), reads))
    judge(settings, champion, challenger)
    run(activate(settings, challenger, "gate", warrant=Warrant(JOB.job, {})))
    by_hand = serve(settings, seed=3)
    end = finish(settings)[-1]
    assert (end.state, end.text.split()[0]) == ("finished", "promoted:")
    assert served(settings) == [champion, challenger, by_hand]


def served(settings: Settings) -> list[str]:
    return [each.activation.bundle for each in run(read_models(settings, reads)).activations]


def test_job_reads_no_more_bars_than_its_training_has_memory_for_and_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    async def export(self: Job, file: Path, spec: Spec, since_ms: int, until_ms: int) -> None:
        asked.append((until_ms - since_ms) // spec.timeframe_ms)
        raise CandlewickError("no more than this is wanted here")

    monkeypatch.setattr(Job, "_checked", Job._champion)  # there are too few candles for a whole job
    monkeypatch.setattr(Job, "_export", export)
    little = settings.train.model_copy(update={"memory_mb": 1_320, "attempts": 1, "quiet_s": 0.01})
    said = finish(settings.model_copy(update={"train": little}))
    assert asked == [4 * (1 << 20) // (300 * 2)]
    assert f": {asked[0]:,} bars of 2 series, more do not fit into 1,320 MB" in "".join(event.text for event in said)
