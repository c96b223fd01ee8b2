from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.bundle import digest
from models.events import RetrainJob
from streaming.job_folder import KEPT, FolderFailed, JobFolder

JOB = RetrainJob(job="a-job", model="default-1m", why="drift", asked_ms=0, train_until_ms=1, judge_until_ms=2)
BLOB = b"as good as any"


def trained(folder: JobFolder, champion: str = "champion") -> Path:
    folder.make()
    file = folder.bundle(digest(BLOB))
    file.write_bytes(BLOB)
    folder.keep(file, champion)
    return file


def test_trained_of_an_earlier_run_is_found_by_the_next(tmp_path: Path) -> None:
    file = trained(JobFolder(tmp_path, JOB))
    assert JobFolder(tmp_path, JOB).trained("champion") == file


def test_trained_of_another_job_by_this_name_or_champion_is_not_used(tmp_path: Path) -> None:
    trained(JobFolder(tmp_path, JOB))
    other = RetrainJob(job="a-job", model="default-1m", why="drift", asked_ms=0, train_until_ms=1, judge_until_ms=3)
    assert JobFolder(tmp_path, other).trained("champion") is None
    assert JobFolder(tmp_path, JOB).trained("another") is None


def test_trained_that_is_cut_short_changed_or_gone_is_not_used(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path, JOB)
    assert folder.trained("champion") is None
    file = trained(folder)
    for wrong in (BLOB[:-1], BLOB + b"!", b""):
        file.write_bytes(wrong)
        assert folder.trained("champion") is None
    file.unlink()
    assert folder.trained("champion") is None
    file.write_bytes(BLOB)
    assert folder.trained("champion") == file
    (folder.path / "trained.json").write_bytes(b"{")
    assert folder.trained("champion") is None


def test_two_runs_of_a_job_never_write_the_same_file(tmp_path: Path) -> None:
    one, two = JobFolder(tmp_path, JOB), JobFolder(tmp_path, JOB)
    mine = {one.train_candles, one.judge_candles, one.champion, one.log}
    assert not mine & {two.train_candles, two.judge_candles, two.champion, two.log}


def test_make_keeps_the_latest_folders_only(tmp_path: Path) -> None:
    for age in range(KEPT + 3):
        old = tmp_path / "jobs" / f"job-{age}"
        old.mkdir(parents=True)
        (old / "some.log").write_text("words")
        os.utime(old, (1_000_000 - age, 1_000_000 - age))
    JobFolder(tmp_path, JOB).make()
    left = sorted(path.name for path in (tmp_path / "jobs").iterdir())
    assert left == sorted(["a-job", *(f"job-{age}" for age in range(KEPT - 1))])


def test_make_bears_with_folders_that_another_trainer_removes_meanwhile(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "gone").symlink_to(tmp_path / "nowhere")  # listed, and yet not there
    JobFolder(tmp_path, JOB).make()
    assert (jobs / "a-job").is_dir()


def test_leave_removes_candles_and_leaves_the_rest(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path, JOB)
    file = trained(folder)
    for path in (folder.train_candles, folder.judge_candles):
        path.write_text("many rows")
    folder.keep_champion(BLOB)
    folder.leave()
    folder.leave()
    assert sorted(path.name for path in folder.path.iterdir()) == sorted([file.name, folder.log.name, "trained.json"])


def test_folder_that_cannot_be_made_says_so_and_the_mend(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("a file lies in the way")
    with pytest.raises(FolderFailed, match="name another place"):
        JobFolder(tmp_path, JOB).make()


def test_make_of_another_job_leaves_a_folder_alone_while_a_run_is_in_it(tmp_path: Path) -> None:
    waits = JobFolder(tmp_path, JOB)
    file = trained(waits)
    os.utime(waits.path, (1_000_000, 1_000_000))
    others = [RetrainJob(job=f"other-{n}", model="m", why="drift", asked_ms=0, train_until_ms=1, judge_until_ms=2)
              for n in range(KEPT + 1)]  # fmt: skip
    for other in others[:-1]:
        JobFolder(tmp_path, other).make()
    assert waits.trained("champion") == file
    assert waits.log.exists()
    waits.leave()
    JobFolder(tmp_path, others[-1]).make()
    assert not waits.path.exists()


def test_make_removes_the_inputs_of_runs_that_were_killed_and_of_no_other(tmp_path: Path) -> None:
    elsewhere = RetrainJob(job="other", model="m", why="drift", asked_ms=0, train_until_ms=1, judge_until_ms=2)
    killed, works, gone = JobFolder(tmp_path, JOB), JobFolder(tmp_path, JOB), JobFolder(tmp_path, elsewhere)
    for folder in (killed, works, gone):
        folder.make()
        for path in (folder.train_candles, folder.judge_candles):
            path.write_text("many rows")
        folder.keep_champion(BLOB)
    for folder in (killed, gone):
        assert folder._lock is not None
        os.close(folder._lock)  # as the system does when a process is killed
    JobFolder(tmp_path, JOB).make()
    left = {path.name for folder in (killed.path, gone.path) for path in folder.iterdir()}
    assert left >= {works.train_candles.name, works.judge_candles.name, works.champion.name, killed.log.name}
    for folder in (killed, gone):
        assert not left & {folder.train_candles.name, folder.judge_candles.name, folder.champion.name}
