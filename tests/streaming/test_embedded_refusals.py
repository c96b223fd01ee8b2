"""Each way the embedded broker can refuse to start, by really making it refuse: the words, and that nothing is left."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from streaming.embedded_folder import is_locked, open_lock, try_lock
from streaming.embedded_kafka import BrokerConfig, BrokerError, EmbeddedKafka
from streaming.kafka_jars import default_cache

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
