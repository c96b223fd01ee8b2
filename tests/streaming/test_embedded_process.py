"""The watched process, with a few lines of shell in the place of Java."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streaming import embedded_process
from streaming.embedded_folder import is_locked, open_lock, try_lock
from streaming.embedded_process import BrokerProcess
from tests.eventually import eventually

Start = Callable[[str], BrokerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Run a shell script as the broker of the locked folder `tmp_path`."""
    with contextlib.ExitStack() as stack:

        def start(script: str) -> BrokerProcess:
            lock = open_lock(tmp_path)
            try:
                assert try_lock(lock)
                process = BrokerProcess(["/bin/sh", "-c", script], tmp_path, lock)
            finally:
                os.close(lock)
            stack.callback(process.kill)
            return process

        yield start


def test_process_alive_holds_the_lock_alone(start: Start, tmp_path: Path) -> None:
    process = start("exec sleep 100")

    assert process.end() is None
    assert is_locked(tmp_path / "lock")
    process.stop()
    eventually(lambda: not is_locked(tmp_path / "lock"))


def test_process_killed_frees_the_lock_while_the_owner_has_not_noticed(start: Start, tmp_path: Path) -> None:
    process = start("exec sleep 100")

    os.kill(process.pid, 9)

    eventually(lambda: not is_locked(tmp_path / "lock"))
    assert "SIGKILL" in str(eventually(process.end))


def test_process_deaf_to_sigterm_is_ended_by_force(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_process, "_STOP_S", 0.2)
    process = start("trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    eventually(lambda: "deaf" in process.log())

    process.stop()

    assert process.end() is not None
    eventually(lambda: not is_locked(tmp_path / "lock"))


def test_process_ended_by_itself_tells_its_last_words(start: Start) -> None:
    process = start("echo out; echo 'OutOfMemoryError: Java heap space' >&2; exit 3")

    assert "ran out of memory" in str(eventually(process.end))
    assert process.log().splitlines() == ["out", "OutOfMemoryError: Java heap space"]


def test_log_of_an_earlier_run_is_not_this_runs(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broker.log").write_text("Kafka Server started\n")
    process = start("echo fresh; exec sleep 100")

    eventually(lambda: "fresh" in process.log())
    assert process.log() == "fresh\n"


def test_log_grown_big_is_set_aside(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broker.log").write_bytes(b"x" * (5 << 20) + b"x")
    process = start("echo fresh; exec sleep 100")

    eventually(lambda: process.log() == "fresh\n")
    assert (tmp_path / "broker.log.1").stat().st_size == (5 << 20) + 1


def test_process_stopped_leaves_no_sleeping_watcher(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold the folder for a second after the owner's end."""
    slept = tmp_path / "slept"
    own = tmp_path / "bin" / "sleep"  # what the watcher finds by that name
    own.parent.mkdir()
    own.write_text(f'#!/bin/sh\ntouch "{slept}"\nPATH={os.environ["PATH"]}\nexec sleep "$@"\n')
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(own.parent), prepend=os.pathsep)
    process = start(f"PATH={os.environ['PATH'].partition(os.pathsep)[2]}; trap 'sleep 0.3; exit' TERM; echo on; "
                    "while :; do sleep 0.05; done")  # fmt: skip
    eventually(lambda: "on" in process.log())

    process.stop()

    assert not slept.exists()
