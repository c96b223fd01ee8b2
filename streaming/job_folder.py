"""The files of a job on this machine: what it trains on, what came of it, and the end of old ones.

Enters: a folder and a job. Leaves: paths, and a challenger that an earlier attempt finished. Does not know: Kafka.

Two processes may be at one job for a moment, when a partition changes hands. So what is not whole has a name that no
other process uses, and what is whole is named by its hash. Each run holds a lock on its log, which the system frees
where the run was killed: so others know whose files are in use, and whose were left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from models.bundle import digest
from models.errors import CandlewickError
from models.events import RetrainJob, encode
from models.whole_file import unwritable

KEPT = 5
"""Folders of jobs that stay to be looked at; beside them those that a run is in."""


class FolderFailed(CandlewickError):  # noqa: N818 - an outcome, named as one
    """The folder cannot be written; the disk may be full."""


class _Trained(msgspec.Struct):
    job: RetrainJob
    champion: str  # whose shape it has
    bundle: str


_decode = msgspec.json.Decoder(_Trained).decode


class JobFolder:
    """One job's folder. What it holds of candles and messages belongs to this run alone."""

    def __init__(self, data_dir: Path, job: RetrainJob) -> None:
        self._jobs = data_dir / "jobs"
        self._job = job
        self.path = self._jobs / job.job
        self.log = self.path / f"{uuid.uuid4().hex[:8]}.log"
        self.train_candles, self.judge_candles, self.champion = _inputs(self.log)
        self._done = self.path / "trained.json"
        self._lock: int | None = None  # on the log, from `make` to `leave`

    def make(self) -> None:
        """Make it; remove the oldest of the others, and what runs that were killed have left behind.

        Raises:
            FolderFailed: it cannot be written.
        """
        with self._written():
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            self.log.touch()
            if self._lock is None:
                self._lock = os.open(self.log, os.O_RDWR)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
        others = sorted((path for path in self._jobs.iterdir() if path != self.path), key=_made_at)
        for old in others[: max(0, len(others) + 1 - KEPT)]:
            if not any(map(_runs, old.glob("*.log"))):
                shutil.rmtree(old, ignore_errors=True)
        for log in self._jobs.glob("*/*.log"):
            if not _runs(log):
                _remove(_inputs(log))

    def trained(self, champion: str) -> Path | None:
        """The challenger that an earlier attempt at this very job trained to the end, if it is still whole."""
        try:
            done = _decode(self._done.read_bytes())
            file = self.bundle(done.bundle)
            whole = (done.job, done.champion, digest(file.read_bytes())) == (self._job, champion, done.bundle)
        except (OSError, msgspec.MsgspecError):
            return None
        return file if whole else None

    def keep(self, challenger: Path, champion: str) -> None:
        """Remember that training is done: whole, or not at all.

        Raises:
            FolderFailed: it cannot be written.
        """
        partial = self.log.with_suffix(".partial")
        with self._written():
            partial.write_bytes(encode(_Trained(self._job, champion, challenger.stem)))
            partial.replace(self._done)

    def keep_champion(self, blob: bytes) -> Path:
        """Put what serves now beside its challenger.

        Raises:
            FolderFailed: it cannot be written.
        """
        with self._written():
            self.champion.write_bytes(blob)
        return self.champion

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FolderFailed(unwritable(self.path, error)) from error

    def bundle(self, sha256: str) -> Path:
        """Where `candlewick train --out` of this folder puts a bundle."""
        return self.path / f"{sha256}.safetensors"

    def leave(self) -> None:
        """Nobody works here any more. Candles are large, and on the topic anyway."""
        _remove(_inputs(self.log))
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _inputs(log: Path) -> tuple[Path, Path, Path]:
    """What the run of a log trains and judges on: candles for either, and the champion."""
    folder, run = log.parent, log.stem
    return folder / f"train-{run}.csv", folder / f"judge-{run}.csv", folder / f"champion-{run}.safetensors"


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def _runs(log: Path) -> bool:
    """Whether the run of a log still goes on, on this machine."""
    try:
        with log.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it was removed just now
        return False
    return False


def _made_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another trainer has just removed it
        return 0.0
