"""`candlewick run predict` as a real process: how it begins, how it ends, and that nothing is lost in between."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from models.events import decode_signal
from models.features import WARM_UP_BARS
from models.spec import Network
from streaming.clients import new_member, new_producer, started
from streaming.embedded_kafka import BrokerConfig, EmbeddedKafka
from streaming.kafka_jars import default_cache
from streaming.models_topic import activate, publish
from streaming.read import read_topic
from streaming.replay import replay
from streaming.rewind import encode_rewind
from streaming.scrape import free_ports
from tests.e2e.market import market
from tests.e2e.system import System, alter_topic, run, settings_of
from tests.e2e.test_crashes import LOOKBACK, WARM_UP, at_close, serve_a_bundle
from tests.eventually import eventually
from tests.models.make_bundle import make_bundle
from tests.streaming.test_health import asked

pytestmark = pytest.mark.timeout(300)

STOP_S = 14.0
"""SIGTERM drains within 10 s, and the process is gone a second later; the rest is for a busy machine."""


@pytest.fixture
def system(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=4) as system:
        yield system


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that the test may hurt."""
    with EmbeddedKafka(BrokerConfig(folder=tmp_path / "kafka", cache=default_cache())) as broker:
        yield broker


def test_run_without_topics_ends_and_names_init(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> None:
    system = System(kafka.bootstrap, topic_prefix, tmp_path)
    worker = system.worker("no topics")
    try:
        assert worker.wait(60) == 1
    finally:
        worker.end()
    assert "run `candlewick init` first" in worker.stderr
    assert "Traceback" not in worker.stderr


def test_run_without_kafka_ends_in_one_line_that_names_the_mend(tmp_path: Path) -> None:
    worker = System("127.0.0.1:1", "none.", tmp_path).worker("no kafka")
    try:
        assert worker.wait(60) == 1
    finally:
        worker.end()
    assert "Kafka cannot be reached" in worker.stderr
    assert "Traceback" not in worker.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_run_on_a_device_that_is_not_there_ends_and_names_the_mend(system: System) -> None:
    worker = system.worker("no device", CANDLEWICK_PREDICT__DEVICE="cuda")
    assert worker.wait(60) == 1
    assert "use auto or cpu" in worker.stderr
    assert "Timeout (" not in worker.stderr  # its own end, not the one of a process that hangs


def test_replica_that_resumes_after_a_transaction_whose_end_is_all_it_reads_is_ready(system: System) -> None:
    """The end takes an offset, and no record comes of it."""
    tp = TopicPartition(system.settings.topic("candles"), 0)
    group = system.settings.group("predict")

    async def one_transaction() -> None:
        async with started(new_producer(system.settings, transactional_id=group)) as producer, producer.transaction():
            await producer.send_and_wait(tp.topic, b"poison", partition=tp.partition)
        async with started(new_member(system.settings, group, 10)) as consumer:
            consumer.assign([tp])
            await consumer.commit({tp: OffsetAndMetadata(2, encode_rewind(1))})

    run(one_transaction())
    assert run(system.ends("candles"))[0] == 2
    system.worker("resumes").wait_ready()


def test_replica_with_no_partitions_and_empty_topics_is_ready_and_takes_over(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=1) as system:
        first = system.worker("first").wait_ready()
        second = system.worker("second").wait_ready()  # one partition, two replicas: one of them has none
        serve_a_bundle(system)
        run(replay(system.settings, market(1, WARM_UP + 5)))
        system.wait_committed()
        system.assert_flawless(at_least=5)

        owner, other = sorted((first, second), key=lambda w: assigned(w.stderr), reverse=True)
        assert (assigned(owner.stderr), assigned(other.stderr)) == (1, 0)
        assert owner.terminate() == 0
        run(replay(system.settings, market(1, WARM_UP + 10)))
        system.wait_committed()
        found = system.assert_flawless(at_least=10)
        assert found["duplicates"] == 0


def assigned(log: str) -> int:
    """How many partitions a worker had after its last rebalance."""
    return int(re.findall(r"assigned partitions=(\d+)", log)[-1])


def test_replica_that_starts_late_is_current_before_its_first_signal_in_every_timeframe(system: System) -> None:
    minutes, fives = market(3, WARM_UP + 60), market(3, WARM_UP + 40, "5m")
    hours = market(2, 30, "1h")  # a timeframe that no model serves
    for table in (minutes, fives, hours):
        run(replay(system.settings, table))
    for table, timeframe_ms in ((minutes, 60_000), (fives, 300_000)):
        for seed in range(4):
            blob = make_bundle(seed, LOOKBACK, 8, model=f"default-{table.timeframe}", timeframe_ms=timeframe_ms)
            sha256, _ = run(publish(system.settings, blob))
            run(activate(system.settings, sha256, "test", int(table.close_time_ms[WARM_UP + 10 * seed - 5])))

    system.worker("late").wait_ready()
    system.wait_committed()

    found = system.assert_flawless(at_least=3 * 55 + 3 * 35)
    assert found["duplicates"] == 0
    assert len(run(epochs_in(system))) == 8  # every activation has served some close


async def epochs_in(system: System) -> set[int | None]:
    return {decode_signal(record.value).epoch async for record in read_topic(system.settings, "signals")}


def test_sigterm_under_traffic_drains_and_commits_so_that_a_restart_repeats_nothing(system: System) -> None:
    table = market(20, WARM_UP + 300)
    serve_a_bundle(system)
    worker = system.worker("before").wait_ready()
    run(replay(system.settings, table.until(int(table.close_time_ms[WARM_UP - 1]))))
    system.wait_committed()

    run(replay(system.settings, table, 60 * 100, report=at_close(WARM_UP + 100, lambda: worker.signal(signal.SIGTERM))))

    assert worker.wait(STOP_S) == 0
    assert run(system.lag()) > 0  # it left work to do
    system.worker("after").wait_ready()
    system.wait_committed()
    found = system.assert_flawless(at_least=20 * 300)
    assert found["duplicates"] == 0


def test_replicas_that_come_and_go_in_quick_succession_lose_and_bend_nothing(system: System) -> None:
    table = market(20, WARM_UP + 300)
    serve_a_bundle(system)
    base = system.worker("base").wait_ready()
    run(replay(system.settings, table.until(int(table.close_time_ms[WARM_UP - 1]))))
    system.wait_committed()
    others = [system.worker("second"), system.worker("third")]
    for other in others:
        other.wait_ready()
    eventually(lambda: len(shares(base.stderr)) >= 2)
    assert shares(base.stderr)[1] == ("0", "0")  # it keeps some of its partitions, and their state

    def upheaval() -> None:
        others[0].kill()
        base.signal(signal.SIGTERM)
        others.append(system.worker("fourth"))

    run(replay(system.settings, table, 60 * 25, report=at_close(WARM_UP + 60, upheaval)))

    assert base.wait(STOP_S) == 0
    others[2].wait_ready()
    system.wait_committed()
    assert [other.code for other in others[1:]] == [None, None]
    system.assert_flawless(at_least=20 * 300)


def shares(log: str) -> list[tuple[str, str]]:
    """After each rebalance, how many partitions were new to a worker, and how many records it went back."""
    return re.findall(r"assigned partitions=\d+ new=(\d+) rebuilds_records=(\d+)", log)


def test_batch_that_kafka_refuses_ends_the_process_and_is_done_again_by_the_next(system: System) -> None:
    table = market(20, WARM_UP + 80)
    sha256, _ = run(publish(system.settings, make_bundle(lookback=LOOKBACK, hidden=512)))  # slow: more batches queue up
    run(activate(system.settings, sha256, "test", 0))
    worker = system.worker("refused", CANDLEWICK_PREDICT__DEVICE="cpu").wait_ready()
    run(replay(system.settings, table.until(int(table.close_time_ms[WARM_UP - 1]))))
    system.wait_committed()
    run(alter_topic(system.settings, "signals", {"max.message.bytes": "15000"}))  # ten signals or so

    run(replay(system.settings, table.until(int(table.close_time_ms[WARM_UP + 39]))))  # one batch, too large
    run(replay(system.settings, table, 60 * 50))  # small ones: were they committed, they would cover the large one

    assert worker.wait(60) == 1
    assert "MessageSizeTooLarge" in worker.stderr
    run(alter_topic(system.settings, "signals", {"max.message.bytes": "1048588"}))
    system.worker("mended").wait_ready()
    system.wait_committed()
    system.assert_flawless(at_least=20 * 80)


def test_model_too_slow_for_its_traffic_is_stopped_by_the_watchdog_though_its_thread_is_busy(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    slow = make_bundle(lookback=256, network=Network(kind="lstm", hidden=512, layers=2))
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=1, stall_timeout_s=2.0, device="cpu") as system:
        sha256, _ = run(publish(system.settings, slow))
        run(activate(system.settings, sha256, "test", 0))
        run(replay(system.settings, market(10, WARM_UP_BARS + 256 + 400)))

        worker = system.worker("slow")

        assert worker.wait(90) == 1
        assert re.search(r"no progress of \S+candles\[0\]@\d+ for 2 s", worker.stderr)


def test_broker_gone_for_good_ends_a_busy_replica_and_lets_an_idle_one_stop(
    own_broker: EmbeddedKafka, tmp_path: Path
) -> None:
    impatient = {"fence_timeout_s": 3.0, "kafka_timeout_s": 3.0, "device": "cpu"}
    with (
        System(own_broker.bootstrap, "busy.", tmp_path, partitions=2, **impatient) as system,
        System(own_broker.bootstrap, "idle.", tmp_path) as elsewhere,
    ):
        sha256, _ = run(publish(system.settings, make_bundle(hidden=256)))
        run(activate(system.settings, sha256, "test", 0))
        port = free_ports(1)
        busy = system.worker("busy").wait_ready()
        idle = elsewhere.worker("idle", CANDLEWICK_METRICS_PORT=str(port)).wait_ready()
        assert asked(port, "/health")[0] == 200
        run(replay(system.settings, market(20, WARM_UP + 1_000)))
        eventually(lambda: sum(run(system.ends("signals")).values()) > 0)
        assert run(system.lag()) > 0

        own_broker.kill()

        assert busy.wait(60) == 1
        assert idle.code is None  # nothing of it is in doubt: it waits for Kafka, and says so
        eventually(lambda: asked(port, "/health")[0] == 503, 60)
        assert "Kafka has not answered" in json.loads(asked(port, "/health")[1])["roles"]["predict"]
        assert b"candlewick_lag_candles 0.0" in asked(port, "/metrics")[1]
        assert idle.terminate(STOP_S) == 0


def test_settings_of_a_system_reach_its_processes(tmp_path: Path) -> None:
    system = System("127.0.0.1:1", "seen.", tmp_path, partitions=3, stall_timeout_s=7.0)
    shown = system.lines("settings")[0]
    wanted = settings_of("127.0.0.1:1", "seen.", tmp_path, 3, session_timeout_s=3.0, commit_interval_s=0.25,
                         stall_timeout_s=7.0)  # fmt: skip
    assert shown == wanted.model_dump(mode="json")
