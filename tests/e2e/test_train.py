"""What is promised of jobs: each comes to one verdict and one end, whatever is killed, and a bad one harms nobody."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin.records_to_delete import RecordsToDelete

from models.bundle import digest
from models.events import JobEvent, RetrainJob, Verdict, decode_job_event, encode
from models.jobs import state_of
from streaming.clients import new_admin, new_producer, started
from streaming.committed import committed_offsets
from streaming.embedded_kafka import EmbeddedKafka
from streaming.job_folder import JobFolder
from streaming.job_log import JobLog, ask, read_events
from streaming.models_topic import activate, publish, read_models, reads
from streaming.read import read_topic
from streaming.replay import replay
from streaming.topics import topic_partitions
from tests.e2e.calm import MINUTE_MS, calm_market, poor_champion
from tests.e2e.system import System, Worker, run
from tests.eventually import eventually
from tests.models.make_bundle import make_bundle

pytestmark = pytest.mark.timeout(300)

SERIES, SLOTS, TRAINED = 4, 2_700, 2_200
TABLE = calm_market(SERIES, SLOTS)
TRAIN_UNTIL_MS, JUDGE_UNTIL_MS = int(TABLE.close_time_ms[TRAINED - 1]), int(TABLE.close_time_ms[-1])
NICE = 2
QUICK = {
    "NICE": str(NICE),
    "SESSION_TIMEOUT_S": "3",
    "RETRY_DELAY_S": "0.05",
    "POLL_S": "0.1",
    "QUIET_S": "5",
    "EPOCHS": "4",
}


@pytest.fixture
def system(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Topics where a poor champion serves."""
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=2) as system:
        sha256, _ = run(publish(system.settings, poor_champion(), reads))
        run(activate(system.settings, sha256, "test", 0))
        yield system


def trainer(system: System, name: str, *arguments: str, **settings: str) -> Worker:
    """A process of the role, quick to notice things."""
    env = {f"CANDLEWICK_TRAIN__{key}": value for key, value in (QUICK | settings).items()}
    return system.worker(name, *(arguments or ("-m", "candlewick", "run", "train")), **env)


def job(name: str, **fields: Any) -> RetrainJob:
    wanted: dict[str, Any] = {"train_until_ms": TRAIN_UNTIL_MS, "judge_until_ms": JUDGE_UNTIL_MS, "model": "default-1m"}
    return RetrainJob(job=name, why="drift", asked_ms=TRAIN_UNTIL_MS, **wanted | fields)


def events(system: System, name: str) -> list[JobEvent]:
    return run(read_events(system.settings, name)).get(name, [])


def wait_event(system: System, name: str, fits: Callable[[JobEvent], bool], timeout_s: float = 90) -> JobEvent:
    """The first event of a job that fits, as soon as it is there."""

    async def first() -> JobEvent:
        async with asyncio.timeout(timeout_s):
            async for record in read_topic(system.settings, "job-events", at_end=lambda: None):
                event = decode_job_event(record.value)
                if event.job == name and fits(event):
                    return event
        raise AssertionError("a log that is followed does not end")

    return run(first())


def wait_end(system: System, name: str, timeout_s: float = 90) -> JobEvent:
    return wait_event(system, name, lambda event: event.state in ("finished", "refused", "failed"), timeout_s)


def children(worker: Worker, word: str) -> list[int]:
    """Processes that this one started to run `candlewick WORD`."""
    found = []
    for tasks in Path(f"/proc/{worker.pid}/task").glob("*/children"):
        found += [int(pid) for pid in tasks.read_text().split() if runs(int(pid), word)]
    return found


def runs(pid: int, word: str) -> bool:
    """Whether a process is there, no zombie, and runs `candlewick WORD`."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return f"candlewick\0{word}\0".encode() in command


def lag(system: System) -> int:
    """Records of `retrain-jobs` that the group has not committed."""

    async def committed() -> int:
        async with started(new_admin(system.settings)) as admin:
            offsets = await committed_offsets(admin, system.settings.group("train"))
        ends = await system.ends("retrain-jobs")
        return sum(ends.values()) - sum(max(0, int(offset.offset)) for offset in offsets.values())

    return run(committed())


def assert_promoted_once(system: System, name: str) -> None:
    """One verdict counts, one activation came of it, and it is the last word on the model."""
    said = events(system, name)
    state = state_of(said)
    assert state.end is not None
    assert state.end.state == "finished", state.end.text
    assert state.verdict is not None
    assert state.verdict.verdict is not None
    assert state.verdict.verdict.promote, state.verdict.text
    view = run(read_models(system.settings, reads))
    mine = [each for each in view.activations if each.activation.job == name]
    assert [each.activation.bundle for each in mine] == [state.verdict.bundle]
    assert view.timeline.epochs("default-1m")[-1].number == mine[0].offset
    report = mine[0].activation.report
    assert report is not None
    assert report["proven"] == list(state.verdict.verdict.proven)
    assert digest(view.blobs[mine[0].activation.bundle]) == state.verdict.verdict.challenger
    eventually(lambda: lag(system) == 0)


def test_job_is_done_once_though_child_and_trainer_are_killed_at_every_step(system: System) -> None:
    name = "killed-often"
    run(replay(system.settings, TABLE.until(TRAIN_UNTIL_MS)))
    run(ask(system.settings, job(name)))
    run(ask(system.settings, job(name)))  # asked for twice, done once
    first = trainer(system, "first").wait_ready()
    (child,) = eventually(lambda: children(first, "train"), 60)
    eventually(lambda: os.getpriority(os.PRIO_PROCESS, child) == os.getpriority(os.PRIO_PROCESS, 0) + NICE)
    os.kill(child, signal.SIGKILL)
    failure = wait_event(system, name, lambda event: event.attempt == 2)
    assert "was killed by SIGKILL" in failure.text

    (child,) = eventually(lambda: children(first, "train"), 60)
    first.kill()  # the trainer, while its child trains
    eventually(lambda: not runs(child, "train"))
    second = trainer(system, "second").wait_ready()
    wait_event(system, name, lambda event: event.share == 1.0)
    second.kill()  # trained, and not judged, for the candles to judge on are still to come
    run(replay(system.settings, TABLE))
    third = trainer(system, "third").wait_ready()
    wait_event(system, name, lambda event: event.state == "verdict")
    third.kill()  # judged and published, perhaps activated
    trainer(system, "fourth").wait_ready()
    wait_end(system, name)

    assert_promoted_once(system, name)
    said = events(system, name)
    assert [event.state for event in said].count("verdict") == 1
    assert len([event for event in said if event.text.startswith("reading")]) == 3  # the third run's result was kept
    (listed,) = system.lines("jobs")
    assert (listed["job"], listed["state"], listed["verdict"]["promote"]) == (name, "finished", True)


def test_lost_partition_ends_the_child_and_the_job_is_done_by_who_got_it(system: System) -> None:
    name = "handed-over"
    run(replay(system.settings, TABLE))
    run(ask(system.settings, job(name)))
    slow = trainer(system, "slow", EPOCHS="1000").wait_ready()
    wait_event(system, name, lambda event: event.state == "progress" and (event.share or 0) > 0)
    (child,) = children(slow, "train")
    os.kill(child, signal.SIGSTOP)  # else it may be done before the partition has moved
    slow.signal(signal.SIGSTOP)  # as on a machine that hangs: the group gives its partitions away
    trainer(system, "quick").wait_ready()
    wait_event(system, name, lambda event: "taken up again" in event.text)
    assert runs(child, "train")
    os.kill(child, signal.SIGCONT)
    slow.signal(signal.SIGCONT)
    eventually(lambda: not runs(child, "train"), 30)
    assert wait_end(system, name).state == "finished"
    assert_promoted_once(system, name)
    assert slow.terminate() == 0


def verdict(challenger: str, promote: bool) -> Verdict:
    return Verdict(
        promote=promote, challenger=challenger, champion=digest(poor_champion()), from_ms=0, until_ms=1, rows=1,
        blocks=1, proven=("range",), sentence="so says the test",
    )  # fmt: skip


def test_first_verdict_of_a_trainer_that_died_before_it_activated_is_acted_on_and_only_once(system: System) -> None:
    name = "judged"
    run(replay(system.settings, TABLE.until(TRAIN_UNTIL_MS)))
    good, _ = run(publish(system.settings, make_bundle(seed=1, lookback=8, hidden=8), reads))
    other, _ = run(publish(system.settings, make_bundle(seed=2, lookback=8, hidden=8), reads))

    async def say_twice() -> None:
        async with started(new_producer(system.settings)) as producer:
            log = JobLog(system.settings, producer, job(name))
            await log.say("verdict", "the first one", bundle=good, verdict=verdict(good, promote=True))
            await log.say("verdict", "of a second owner", bundle=other, verdict=verdict(other, promote=True))

    run(say_twice())
    run(ask(system.settings, job(name)))
    trainer(system, "trainer").wait_ready()
    wait_end(system, name)
    assert_promoted_once(system, name)
    activation = run(read_models(system.settings, reads)).activations[-1].activation
    assert activation.effective_from_ms == TRAIN_UNTIL_MS + MINUTE_MS

    async def say_again() -> None:
        async with started(new_producer(system.settings)) as producer:
            topic = system.settings.topic("models")
            await producer.send_and_wait(topic, encode(activation), b"activation/default-1m/again", partition=0)

    run(say_again())  # as the other owner would, had it been quicker
    assert_promoted_once(system, name)


BAD_JOBS = {
    "unknown": (job("unknown", model="nobody-1m"), "no model is called 'nobody-1m' (models that serve: default-1m)"),
    "backwards": (job("backwards", judge_until_ms=TRAIN_UNTIL_MS), "is not after train_until_ms"),
    "hasty": (job("hasty", judge_until_ms=TRAIN_UNTIL_MS + 59 * MINUTE_MS), "59 bars between"),
    "endless": (job("endless", judge_until_ms=2**53), "more than a year after train_until_ms"),
    "seen": (
        job("seen", train_until_ms=60_000, judge_until_ms=6_060_000),
        "before the end of the champion's own training",
    ),
    "far": (job("far", train_until_ms=2**52, judge_until_ms=2**52 + 10**9), "more than a year after the newest candle"),
    "early": (job("early", train_until_ms=TRAIN_UNTIL_MS - 300 * MINUTE_MS), "candles that training needs are not"),
}


def test_jobs_that_cannot_be_done_are_refused_with_their_reason_and_nothing_is_activated(system: System) -> None:
    run(replay(system.settings, TABLE))
    sha256, _ = run(publish(system.settings, make_bundle(lookback=8, hidden=8, trained_until_ms=120_000), reads))
    run(activate(system.settings, sha256, "test", 0))
    run(send(system, b"no job", b'{"v": 1}', encode(job("newer", v=2)), b"[" * 10_000))
    for bad, _ in BAD_JOBS.values():
        run(ask(system.settings, bad))
    worker = trainer(system, "trainer").wait_ready()
    for name, (_, reason) in BAD_JOBS.items():
        end = wait_end(system, name)
        assert end.state == "refused", end.text
        assert reason in end.text
    eventually(lambda: lag(system) == 0)
    assert worker.stderr.count("no job at=") == 4
    assert [each.activation.bundle for each in run(read_models(system.settings, reads)).activations][1:] == [sha256]
    assert worker.terminate() == 0


async def send(system: System, *values: bytes) -> None:
    async with started(new_producer(system.settings)) as producer:
        for value in values:
            await producer.send_and_wait(system.settings.topic("retrain-jobs"), value)


def test_job_whose_candles_are_gone_from_the_topic_is_refused_before_it_waits(system: System) -> None:
    run(replay(system.settings, TABLE))
    run(forget(system, 600))
    run(ask(system.settings, job("gone", judge_until_ms=JUDGE_UNTIL_MS + 10**9)))
    trainer(system, "trainer").wait_ready()
    end = wait_end(system, "gone")
    assert end.state == "refused"
    assert "candles that training needs are not in the log: it begins at" in end.text


async def forget(system: System, closes: int) -> None:
    """Delete the first closes of every partition, as a topic's retention would."""
    ends = await system.ends("candles")
    partitions = topic_partitions(system.settings, "candles")
    async with started(new_admin(system.settings)) as admin:
        await admin.delete_records({tp: RecordsToDelete(ends[tp.partition] * closes // SLOTS) for tp in partitions})


def test_challenger_that_is_not_a_number_is_refused_and_serving_goes_on(system: System) -> None:
    run(replay(system.settings, TABLE))
    wanted = job("nan")
    champion = run(read_models(system.settings, reads)).timeline.epochs("default-1m")[-1].bundle
    folder = JobFolder(system.folder, wanted)
    folder.make()
    blob = make_bundle(lookback=8, hidden=8)[:-4] + b"\x00\x00\xc0\x7f"  # the last weight is NaN
    file = folder.bundle(digest(blob))
    file.write_bytes(blob)
    folder.keep(file, champion)  # as an attempt would leave it that trained to such an end
    run(ask(system.settings, wanted))
    trainer(system, "trainer").wait_ready()
    end = wait_end(system, "nan")
    assert end.state == "refused"
    assert "NaN" in end.text
    view = run(read_models(system.settings, reads))
    assert len(view.activations) == 1
    assert digest(blob) not in view.blobs


NO_ROOM = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
RUN_TRAIN = "sys.argv = ['candlewick', 'run', 'train']; runpy.run_module('candlewick', run_name='__main__')"


def test_job_without_room_on_the_disk_fails_after_three_attempts_with_the_end_of_its_log(system: System) -> None:
    run(replay(system.settings, TABLE))
    run(ask(system.settings, job("no-room")))
    worker = trainer(system, "trainer", "-c", NO_ROOM + RUN_TRAIN).wait_ready()
    end = wait_end(system, "no-room")
    assert (end.state, end.attempt) == ("failed", 3)
    assert "File too large" in end.text
    assert "free some space" in end.text
    assert list((system.folder / "jobs" / "no-room").glob("*.csv")) == []
    assert worker.code is None
    assert len(run(read_models(system.settings, reads)).activations) == 1
    assert worker.terminate() == 0
