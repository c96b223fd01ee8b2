"""Each way the embedded broker can refuse to start, by really making it refuse: the words, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streaming.embedded_folder import is_locked, open_lock, try_lock
from streaming.embedded_kafka import BrokerConfig, BrokerError, EmbeddedKafka
from streaming.kafka_jars import default_cache
from streaming.up import running
from tests.eventually import eventually

pytestmark = pytest.mark.kafka


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "broker"


def refusal(config: BrokerConfig) -> str:
    """Start a broker that must not start."""
    broker = EmbeddedKafka(config)
    with pytest.raises(BrokerError) as refused:
        broker.start()
    assert not broker.owned
    return str(refused.value)


def test_start_heap_too_small_says_out_of_memory(folder: Path) -> None:
    told = refusal(BrokerConfig(folder, default_cache(), heap_mb=16))

    assert "ran out of memory" in told
    assert "raise its heap" in told
    assert not is_locked(folder / "lock")


def test_start_wanted_port_taken_names_it(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = refusal(BrokerConfig(folder, default_cache(), port=port))

    assert f"port {port} of 127.0.0.1 is taken by another program; choose another" in told
    assert not is_locked(folder / "lock")


def test_start_folder_locked_without_broker_says_in_use(folder: Path) -> None:
    lock = open_lock(folder)
    try:
        assert try_lock(lock)
        told = refusal(BrokerConfig(folder, default_cache(), start_timeout_s=0.2))
    finally:
        os.close(lock)

    assert f"the folder {folder} is in use by another process, but no broker answers there" in told


@pytest.mark.parametrize("begun", ["nothing", "meta.properties", "broker.log"], ids=["at once", "prepared", "starting"])
def test_start_given_up_ends_at_once_and_leaves_nothing(folder: Path, begun: str) -> None:
    broker = EmbeddedKafka(BrokerConfig(folder, default_cache()))
    with ThreadPoolExecutor(1) as thread:
        starting = thread.submit(broker.start)
        eventually(lambda: begun == "nothing" or any(folder.rglob(begun)), 60)
        broker.give_up()
        error = starting.exception(60)
    assert isinstance(error, BrokerError)
    assert "asked to stop while starting" in str(error) or begun == "nothing"
    assert not broker.owned
    assert not is_locked(folder / "lock")


def test_start_given_up_while_another_process_holds_the_folder_waits_no_longer(folder: Path) -> None:
    lock = open_lock(folder)
    try:
        assert try_lock(lock)
        broker = EmbeddedKafka(BrokerConfig(folder, default_cache(), start_timeout_s=3_600))
        broker.give_up()
        with pytest.raises(BrokerError, match="asked to stop"):
            broker.start()
    finally:
        os.close(lock)


def test_running_broker_cancelled_while_it_starts_is_given_up(folder: Path) -> None:
    """As by a Ctrl-C in `candlewick up`."""
    broker = EmbeddedKafka(BrokerConfig(folder, default_cache()))

    async def story() -> None:
        async def start() -> None:
            async with running(broker):
                raise AssertionError("it was cancelled before")

        task = asyncio.create_task(start())
        while not folder.exists():  # noqa: ASYNC110 - a folder sets no event
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(asyncio.wait_for(story(), 60))
    assert not broker.owned
    assert not is_locked(folder / "lock")


def test_start_unwritable_folder_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    told = refusal(BrokerConfig(tmp_path / "file" / "broker", default_cache()))

    assert f"folder {tmp_path}/file/broker cannot be written: Not a directory; choose another" in told


def test_start_unwritable_file_in_the_folder_names_it(folder: Path) -> None:
    (folder / "server.properties").mkdir(parents=True)

    told = refusal(BrokerConfig(folder, default_cache()))

    assert "could not be started" in told
    assert str(folder / "server.properties") in told
    assert not is_locked(folder / "lock")


def test_start_no_java_says_where_it_looked(folder: Path, tmp_path: Path) -> None:
    told = refusal(BrokerConfig(folder, default_cache(), java_home=tmp_path / "none"))

    assert f"no Java for this platform: looked in {tmp_path}/none. Set JAVA_HOME to a Java 17 or later" in told


def test_start_foreign_java_says_it_cannot_run(folder: Path, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_bytes(b"\x7fELF of another machine")
    java.chmod(0o755)

    told = refusal(BrokerConfig(folder, default_cache(), java_home=tmp_path))

    assert "Java cannot run on this platform" in told
    assert "set JAVA_HOME to a Java 17 or later" in told


def test_bootstrap_never_started_is_a_programming_error(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="never started"):
        _ = EmbeddedKafka(BrokerConfig(folder, default_cache())).bootstrap
