from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from models.errors import CandlewickError
from tests.eventually import eventually
from training.walk_forward_pool import MOST_DEATHS, run_all

ROOT = Path(__file__).parents[2]


class Job(NamedTuple):
    folder: Path
    name: str
    deaths: int  # how often it takes its worker with it


def work(job: Job) -> None:
    died = len(list(job.folder.glob(f"{job.name}.died*")))
    if died < job.deaths:
        (job.folder / f"{job.name}.died{died}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with (job.folder / job.name).open("a") as file:
        file.write("done\n")


def fail(job: Job) -> None:
    raise CandlewickError(f"{job.name} cannot be done")


def test_run_all_does_every_task_once_and_tells_of_each(tmp_path: Path) -> None:
    jobs = [Job(tmp_path, f"job-{number}", 0) for number in range(5)]
    told: list[Job] = []
    run_all(work, jobs, 2, told.append)
    assert sorted(told) == jobs
    assert [(tmp_path / job.name).read_text() for job in jobs] == ["done\n"] * 5


def test_run_all_without_a_task_starts_nothing(tmp_path: Path) -> None:
    told: list[Job] = []
    run_all(fail, [], 2, told.append)
    assert told == []


def test_run_all_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    jobs = [Job(tmp_path, "good", 0), Job(tmp_path, "bad", MOST_DEATHS)]
    told: list[Job] = []
    run_all(work, jobs, 1, told.append)
    assert {job.name for job in told} == {"good", "bad"}
    assert len(told) == 2


def test_run_all_worker_that_is_killed_again_and_again_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CandlewickError, match=r"died 3 times.*What is done is kept.*--jobs 1, or with fewer symbols"):
        run_all(work, [Job(tmp_path, "bad", MOST_DEATHS + 1)], 2, lambda job: None)


def test_run_all_task_that_fails_ends_the_rest_with_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(CandlewickError, match="bad cannot be done"):
        run_all(fail, [Job(tmp_path, "bad", 0)], 1, lambda job: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_run_all_interrupted_leaves_no_worker(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys, time, pathlib, os, signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # not as under nohup
        "from streaming.command_line import ended_like_ctrl_c\n"
        "from training.walk_forward_pool import run_all\n"
        "def wait(folder):\n"
        "    (folder / f'{os.getpid()}.pid').touch()\n"
        "    time.sleep(600)\n"
        "with ended_like_ctrl_c():\n"
        "    run_all(wait, [pathlib.Path(sys.argv[1])], 1, print)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE) as parent:
        try:
            worker = int(eventually(lambda: list(tmp_path.glob("*.pid")), 60)[0].stem)
            (os.killpg if number == signal.SIGINT else os.kill)(parent.pid, number)  # Ctrl-C reaches the whole group
            _, said = parent.communicate(timeout=60)
        finally:
            parent.kill()
    assert parent.returncode == (-number if number == signal.SIGINT else 128 + number), said.decode()
    eventually(lambda: not Path(f"/proc/{worker}").exists(), 30)
