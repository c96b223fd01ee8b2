"""The embedded broker, on the real thing: start, attach, stop, crash, and no orphans."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from streaming.embedded_folder import is_locked
from streaming.embedded_kafka import BrokerConfig, BrokerError, EmbeddedKafka, running_broker
from streaming.embedded_ready import check_round_trip
from streaming.kafka_jars import default_cache
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parents[2]
MakeBroker = Callable[[], EmbeddedKafka]

OWNER = """
import sys
from pathlib import Path
from streaming.embedded_kafka import BrokerConfig, EmbeddedKafka
from streaming.embedded_ready import check_round_trip

with EmbeddedKafka(BrokerConfig(Path(sys.argv[1]), Path(sys.argv[2]))) as broker:
    try:
        print(broker.pid, flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        check_round_trip(broker.bootstrap, 20)
        print("broker untouched", flush=True)
"""


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[MakeBroker]:
    """Brokers of one folder, of this test alone, not started. The test may hurt them."""
    with contextlib.ExitStack() as stack:

        def make() -> EmbeddedKafka:
            broker = EmbeddedKafka(BrokerConfig(tmp_path / "broker", default_cache()))
            stack.callback(broker.stop)
            return broker

        yield make


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another Python process that owns a ready broker in `tmp_path / "broker"`; its first line is Java's pid."""
    command = [sys.executable, "-c", OWNER, str(tmp_path / "broker"), str(default_cache())]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_refused(bootstrap: str) -> bool:
    host, port = bootstrap.split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except ConnectionRefusedError:
        return True
    return False


async def create_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def read_all(bootstrap: str, topic: str) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, 0)
        values: list[bytes] = []
        while await consumer.position(partition) < end:
            values += [record.value for record in (await consumer.getmany(timeout_ms=1000)).get(partition, [])]
        return values


def test_start_on_shared_broker_takes_and_returns_records(kafka: EmbeddedKafka, topic_prefix: str) -> None:
    async def produce_and_read() -> list[bytes]:
        await create_topic(kafka.bootstrap, topic_prefix + "records")
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
            for value in (b"one", b"two"):
                await producer.send_and_wait(topic_prefix + "records", value)
        return await read_all(kafka.bootstrap, topic_prefix + "records")

    assert kafka.owned
    assert kafka.failure() is None
    assert asyncio.run(produce_and_read()) == [b"one", b"two"]


def test_start_again_while_alive_changes_nothing(kafka: EmbeddedKafka) -> None:
    pid, bootstrap = kafka.pid, kafka.bootstrap

    assert kafka.start() is kafka
    assert (kafka.pid, kafka.bootstrap) == (pid, bootstrap)


class SaysStarted:
    """A process whose log has the line, and where nobody takes a record."""

    def log(self) -> str:
        return "Kafka Server started"

    def end(self) -> None:
        return None


def test_start_is_not_ready_by_the_word_of_its_log_alone(tmp_path: Path) -> None:
    broker = EmbeddedKafka(BrokerConfig(tmp_path, default_cache()))
    with pytest.raises(BrokerError, match="Kafka was not ready"):
        broker._await_ready(SaysStarted(), "127.0.0.1:1", time.monotonic() + 0.1)  # type: ignore[arg-type]


def test_unknown_topic_is_not_created_by_writing_to_it(kafka: EmbeddedKafka, topic_prefix: str) -> None:
    async def write() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, request_timeout_ms=3000) as producer:
            await producer.send_and_wait(topic_prefix + "typo", b"lost")

    with pytest.raises(UnknownTopicOrPartitionError):
        asyncio.run(write())


def test_second_start_on_folder_attaches_and_its_stop_leaves_the_broker(
    make_broker: MakeBroker, tmp_path: Path
) -> None:
    first, second = make_broker(), make_broker()
    with ThreadPoolExecutor() as pool:
        list(pool.map(EmbeddedKafka.start, (first, second)))  # at once: one of them owns

    assert sorted((first.owned, second.owned)) == [False, True]
    assert first.bootstrap == second.bootstrap == running_broker(tmp_path / "broker")
    guest = second if first.owned else first
    assert guest.pid is None
    guest.stop()
    check_round_trip(first.bootstrap, 20)


def test_stop_ends_broker_and_frees_folder_and_port(make_broker: MakeBroker, tmp_path: Path) -> None:
    broker = make_broker().start()
    pid = broker.pid
    assert pid is not None

    broker.stop()

    assert is_gone(pid)
    assert not is_locked(tmp_path / "broker" / "lock")
    assert is_refused(broker.bootstrap)
    assert running_broker(tmp_path / "broker") is None
    broker.stop()  # harmless


def test_kill_under_load_loses_and_doubles_nothing_and_keeps_the_port(make_broker: MakeBroker, tmp_path: Path) -> None:
    broker = make_broker().start()
    before = broker.bootstrap
    expected = [b"%d" % number for number in range(3000)]

    async def produce() -> None:
        async with AIOKafkaProducer(bootstrap_servers=before, acks="all", enable_idempotence=True) as producer:
            for value in expected[:1000]:
                await producer.send("records", value)
            await producer.flush()
            later = [await producer.send("records", value) for value in expected[1000:]]  # in flight at the crash
            await asyncio.to_thread(broker.kill)
            assert running_broker(tmp_path / "broker") is None
            await asyncio.to_thread(broker.start)
            await asyncio.gather(*later)

    asyncio.run(create_topic(before, "records"))
    asyncio.run(produce())

    assert broker.bootstrap == before
    assert asyncio.run(read_all(before, "records")) == expected


def test_start_random_cluster_id_beginning_with_a_dash_is_no_option(
    make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xfb" * 16))  # "-" in URL-safe base64

    assert make_broker().start().owned


def test_failure_broker_died_by_itself_says_so_and_start_brings_it_back(make_broker: MakeBroker) -> None:
    broker = make_broker().start()
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)

    assert "SIGKILL" in str(eventually(broker.failure))
    broker.start()
    check_round_trip(broker.bootstrap, 20)


def test_owner_killed_takes_its_broker_with_it(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    pid = int(read_line(owner))
    bootstrap = running_broker(tmp_path / "broker")
    assert bootstrap is not None

    owner.kill()  # -9: it can clean nothing up

    eventually(lambda: is_gone(pid))
    eventually(lambda: not is_locked(tmp_path / "broker" / "lock"))
    assert is_refused(bootstrap)
    assert running_broker(tmp_path / "broker") is None


def test_ctrl_c_reaches_the_owner_but_not_the_broker(owner: subprocess.Popen[str]) -> None:
    pid = int(read_line(owner))

    os.killpg(owner.pid, signal.SIGINT)  # as a terminal does: to the whole group

    assert read_line(owner) == "broker untouched"
    assert owner.wait(60) == 0
    assert is_gone(pid)
