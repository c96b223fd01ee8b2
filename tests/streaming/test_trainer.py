"""Training processes as processes: their limits, their end, and what is heard of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streaming import trainer
from streaming.confined import confined
from streaming.trainer import ChildFailed, KafkaFailed, Limits, run_command
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
SAYS = "import json, os, resource, sys; "


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "child.log"


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let some Python run as the process that would be `candlewick WORDS`."""

    def set_code(code: str) -> None:
        def confined_code(command: list[str], nice: int, memory_mb: int) -> list[str]:
            return confined([sys.executable, "-c", code, *command[3:]], nice, memory_mb)

        monkeypatch.setattr(trainer, "confined", confined_code)

    return set_code


def run(log: Path, limits: Limits | None = None, report: Callable[[Any], None] = lambda said: None) -> dict[str, Any]:
    return asyncio.run(run_command(["words"], log, limits or Limits(), report))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_run_command_of_candlewick_itself_returns_the_object_it_prints(log: Path) -> None:
    env = {"PYTHONPATH": str(ROOT)}
    said = asyncio.run(run_command(["settings"], log, Limits(env=env)))
    assert said["kafka"]["topic_prefix"]


def test_run_command_reports_every_object_and_skips_other_lines(log: Path, instead: Callable[[str], None]) -> None:
    instead("print('hello'); print('{\"a\": 1}'); print('[2]'); print('{\"b\": 3}')")
    heard: list[Any] = []
    assert run(log, report=heard.append) == {"b": 3}
    assert heard == [{"a": 1}, {"b": 3}]


def test_run_command_gives_niceness_and_a_bound_on_memory(log: Path, instead: Callable[[str], None]) -> None:
    instead(
        SAYS + "print(json.dumps([0]) and json.dumps({'n': os.nice(0), 'm': resource.getrlimit(resource.RLIMIT_DATA)}))"
    )
    said = run(log, Limits(nice=3, memory_mb=512))
    assert said == {"n": os.nice(0) + 3, "m": [512 << 20, 512 << 20]}


def test_run_command_lets_nobody_set_memory_aside_that_counts_against_the_bound(
    log: Path, instead: Callable[[str], None]
) -> None:
    """Arrow's own allocator would, a gigabyte at its first use."""
    instead(SAYS + "import pyarrow; print(json.dumps({'pool': pyarrow.default_memory_pool().backend_name}))")
    assert run(log, Limits(memory_mb=4_096)) == {"pool": "system"}


def test_run_command_beyond_its_memory_fails_with_the_end_of_its_log(log: Path, instead: Callable[[str], None]) -> None:
    instead("bytearray(600 << 20)")
    with pytest.raises(ChildFailed, match=r"(?s)ended with 1; .*MemoryError"):
        run(log, Limits(memory_mb=256))


def test_run_command_that_fails_tells_the_last_lines_of_its_log(log: Path, instead: Callable[[str], None]) -> None:
    instead("import sys\nfor i in range(2000): print('line', i, file=sys.stderr)\nsys.exit(1)")
    with pytest.raises(ChildFailed, match="line 1999") as failed:
        run(log)
    assert "line 1987" not in str(failed.value)
    assert "line 1988" in str(failed.value)


def test_run_command_killed_from_outside_names_the_signal(log: Path, instead: Callable[[str], None]) -> None:
    instead("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ChildFailed, match="was killed by SIGKILL"):
        run(log)


def test_run_command_that_cannot_reach_kafka_says_nothing_against_the_job(
    log: Path, instead: Callable[[str], None]
) -> None:
    instead("import sys; sys.exit(75)")
    with pytest.raises(KafkaFailed):
        run(log)


@pytest.mark.parametrize("code", ["pass", "print('no object')"])
def test_run_command_that_says_nothing_fails(log: Path, instead: Callable[[str], None], code: str) -> None:
    instead(code)
    with pytest.raises(ChildFailed, match="said nothing"):
        run(log)


def test_run_command_with_a_line_without_end_fails(
    log: Path, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "LINE_BYTES", 1 << 10)
    instead("print('{' * 10_000)")
    with pytest.raises(ChildFailed, match="a line of more than 1,024 bytes"):
        run(log)


def test_run_command_that_takes_too_long_is_ended(log: Path, instead: Callable[[str], None]) -> None:
    instead(
        SAYS + "print(json.dumps({'pid': os.getpid()}), flush=True); sys.stdin = open(0); import signal; signal.pause()"
    )
    heard: list[dict[str, Any]] = []
    with pytest.raises(ChildFailed, match="was not done after"):
        run(log, Limits(seconds=8.0), heard.append)
    assert not alive(heard[0]["pid"])


STUBBORN = """
import json, os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = subprocess.Popen([sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"])
print(json.dumps({"pids": [os.getpid(), other.pid]}), flush=True)
signal.pause()
"""


def test_run_command_cancelled_ends_the_whole_group_even_where_it_ignores_sigterm(
    log: Path, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "STOP_TIMEOUT_S", 0.2)
    instead(STUBBORN)

    async def cancel() -> list[int]:
        heard: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(run_command(["words"], log, Limits(), heard.set_result))
        pids = (await heard)["pids"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return list(pids)

    pids = asyncio.run(cancel())
    assert len(pids) == 2
    eventually(lambda: not any(map(alive, pids)))


PARENT = """
import subprocess, sys
sys.path.insert(0, {root!r})
from streaming.confined import confined
code = "import signal; print('up', flush=True); signal.pause()"
child = subprocess.Popen(confined([sys.executable, "-c", code], 0, 512))
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this Linux shares time out by process alone")
def test_run_command_lowers_the_session_that_the_child_has_for_itself(
    log: Path, instead: Callable[[str], None]
) -> None:
    instead("import json; print(json.dumps({'group': open('/proc/self/autogroup').read().split()[-1]}))")
    before = Path("/proc/self/autogroup").read_text()
    assert run(log, Limits(nice=13)) == {"group": "13"}
    assert Path("/proc/self/autogroup").read_text() == before


def test_confined_child_of_a_parent_that_is_killed_is_gone() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(root=str(ROOT))], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        said = [parent.stdout.readline().strip(), parent.stdout.readline().strip()]
        (pid,) = [int(line) for line in said if line != "up"]
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not alive(pid))


def test_confined_child_whose_parent_died_first_does_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    command = confined([sys.executable, "-c", "print('done')"], 0, 512)
    command[3] = "1"  # the process that wanted it
    assert subprocess.run(command, check=False).returncode == 1
    said = capfd.readouterr()
    assert "is gone" in said.err
    assert "done" not in said.out
