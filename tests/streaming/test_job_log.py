"""Asking for a job by hand and looking at jobs, as a person does, on real Kafka."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from models.errors import CandlewickError
from models.events import RetrainJob, encode
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.job_log import JobLog, Telling, ask, parse_job, print_jobs, read_jobs, retrain
from streaming.models_topic import activate, publish, reads
from streaming.replay import replay
from streaming.settings import Settings
from streaming.topics import init_topics
from tests.e2e.market import market
from tests.e2e.system import run, settings_of
from tests.models.make_bundle import make_bundle

MINUTE_MS = 60_000
TABLE = market(series=2, slots=30)
NEWEST_MS = int(TABLE.close_time_ms[-1])
JOB = RetrainJob(job="a", model="default-1m", why="drift", asked_ms=1, train_until_ms=1, judge_until_ms=2)


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    settings = settings_of(kafka.bootstrap, topic_prefix, tmp_path, partitions=2)
    run(init_topics(settings))
    return settings


def serve(settings: Settings, horizon: int = 3) -> None:
    sha256, _ = run(publish(settings, make_bundle(lookback=8, hidden=8, horizon=horizon), reads))
    run(activate(settings, sha256, "test", 0))


def test_retrain_by_hand_trains_to_the_newest_close_and_judges_the_360_after_it(settings: Settings) -> None:
    serve(settings)
    run(replay(settings, TABLE))
    job = run(retrain(settings, "default-1m", None, None, seed=7))
    assert (job.train_until_ms, job.judge_until_ms) == (NEWEST_MS, NEWEST_MS + 360 * MINUTE_MS)
    assert (job.why, job.seed, job.asked_ms) == ("person", 7, NEWEST_MS)
    assert run(read_jobs(settings)) == {job.job: job}
    assert parse_job(encode(job)) == job
    again = run(retrain(settings, "default-1m", 5 * MINUTE_MS, 9 * MINUTE_MS, seed=7))
    assert (again.train_until_ms, again.judge_until_ms) == (5 * MINUTE_MS, 9 * MINUTE_MS)
    assert again.job != job.job


def test_retrain_by_hand_of_a_long_horizon_judges_on_as_many_closes_as_the_gate_must_have(settings: Settings) -> None:
    serve(settings, horizon=20)
    run(replay(settings, TABLE))
    job = run(retrain(settings, "default-1m", None, None, seed=7))
    assert job.judge_until_ms - job.train_until_ms == 28 * 20 * MINUTE_MS


def test_retrain_of_a_model_nobody_serves_or_without_candles_names_the_mend(settings: Settings) -> None:
    with pytest.raises(CandlewickError, match="train and activate one first"):
        run(retrain(settings, "default-1m", None, None, 0))
    serve(settings)
    with pytest.raises(CandlewickError, match="no candles"):
        run(retrain(settings, "default-1m", None, None, 0))
    assert run(read_jobs(settings)) == {}


def test_jobs_are_listed_with_the_last_that_counts_of_each(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async def tell() -> None:
        async with started(new_producer(settings)) as producer:
            log = JobLog(settings, producer, JOB)
            await log.say("accepted", "begun", attempt=1)
            await log.say("refused", "no such model", attempt=1)
            await log.say("progress", "too late", attempt=1)
            await producer.send_and_wait(settings.topic("job-events"), b"{", b"a")
            await producer.send_and_wait(settings.topic("retrain-jobs"), b"{", b"a")

    run(ask(settings, JOB))
    run(ask(settings, RetrainJob(job="b", model="m", why="schedule", asked_ms=2, train_until_ms=1, judge_until_ms=2)))
    run(tell())
    run(print_jobs(settings, as_json=True))
    one, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert (one["job"], one["state"], one["text"], one["verdict"]) == ("a", "refused", "no such model", None)
    assert (other["job"], other["state"]) == ("b", "asked")
    run(print_jobs(settings, as_json=False))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]


@pytest.mark.parametrize(
    "value", [None, b"", b"{}", encode(JOB).replace(b'"a"', b'"../a"'), encode(JOB).replace(b'"a"', b'"a\\n"')]
)
def test_parse_job_of_what_is_none_refuses_it(value: bytes | None) -> None:
    with pytest.raises(CandlewickError):
        parse_job(value)


class Heard:
    """In place of a log: what was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, float]] = []

    async def say(self, state: str, text: str, *, share: float, **_: Any) -> None:
        self.said.append((text, share))


@pytest.mark.parametrize(
    ("said", "text", "share"),
    [
        ({"epoch": 1, "of": 4}, "epoch 1 of at most 4", 0.25),
        ({"epoch": 4, "of": 4}, "epoch 4 of at most 4", 0.99),
        ({"epoch": 4, "of": 4, "member": 1, "members": 2}, "epoch 4 of at most 4, network 1 of 2", 0.5),
        ({"epoch": 4, "of": 4, "member": 2, "members": 2}, "epoch 4 of at most 4, network 2 of 2", 0.99),
    ],
)
def test_telling_of_the_last_epoch_of_any_network_is_not_yet_all_of_the_training(
    said: dict[str, Any], text: str, share: float
) -> None:
    heard = Heard()

    async def tell() -> None:
        telling = Telling(cast(JobLog, heard), 1)
        telling.tell(said)
        await telling.end()

    run(tell())
    assert heard.said == [(text, share)]
