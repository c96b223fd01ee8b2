"""A system of real processes on a real broker, as a test drives it: workers to start and hurt, and the audit.

Enters: bootstrap servers and a folder of the test's own. Leaves: processes, all of them gone when the block ends. Does
not know: what is tested.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streaming.audit import FAULTS
from streaming.clients import new_admin, new_reader, started
from streaming.committed import committed_offsets
from streaming.settings import KafkaSettings, PredictSettings, Settings
from streaming.topics import TOPICS, init_topics, topic_partitions
from tests.eventually import eventually

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in an event loop of its own."""
    return asyncio.run(work)


def settings_of(bootstrap: str, prefix: str, folder: Path, partitions: int = 16, **predict: Any) -> Settings:
    """Settings of topics of a test's own."""
    return Settings(
        _env_file=None,  # type: ignore[call-arg]  # what a developer has in .env is none of a test's business
        kafka=KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=prefix, partitions=partitions),
        predict=PredictSettings(**predict),
        data_dir=folder,
    )


async def alter_topic(settings: Settings, name: str, changes: dict[str, str]) -> None:
    """Make a topic's configuration ours but for these changes, and wait until brokers go by it."""
    config = next(topic.config for topic in TOPICS if topic.name == name) | changes
    resource = (ConfigResourceType.TOPIC, settings.topic(name))
    async with asyncio.timeout(20), started(new_admin(settings)) as admin:
        await admin.alter_configs([ConfigResource(*resource, config)])  # the whole of it: what is not named is reset
        actual: dict[str, str] = {}
        while not actual.items() >= config.items():
            (response,) = await admin.describe_configs([ConfigResource(*resource)])
            actual = {entry[0]: entry[1] for entry in response.resources[0][4]}


class Worker:
    """One process of a role. Its stderr goes to a file, which says why a test failed."""

    def __init__(self, command: list[str], env: dict[str, str], folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._said = folder / f"{name}.out"
        with self.log.open("wb") as log, self._said.open("wb") as said:
            self._process = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=log)

    @property
    def stderr(self) -> str:
        """Everything it logged so far."""
        return self.log.read_text(errors="replace")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it said on its stdout so far, an object a line; a line that it has only begun is none yet."""
        whole, _, _ = self._said.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it said so on its stdout."""
        return '{"ready": ' in self._said.read_text()

    def wait_ready(self, timeout_s: float = 120) -> Self:
        """Wait for its ready line."""
        eventually(lambda: self.is_ready or self.code is not None, timeout_s)
        assert self.code is None, f"{self.name} ended with {self.code}:\n{self.stderr[-3000:]}"
        return self

    def kill(self) -> None:
        """SIGKILL: it can clean nothing up."""
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal and do not wait."""
        self._process.send_signal(number)

    def terminate(self, timeout_s: float = 15) -> int:
        """SIGTERM, and how it ended."""
        self._process.terminate()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end, and say how it ended."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} had not ended after {timeout_s:g} s:\n{self.stderr[-3000:]}") from None

    def end(self) -> None:
        """Make sure that it is gone."""
        if self._process.poll() is None:
            self.kill()


class System:
    """Topics of a test's own, and whatever processes it starts on them."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, partitions: int = 16, **predict: Any) -> None:
        self.folder = folder
        self._predict = {"session_timeout_s": 3.0, "commit_interval_s": 0.25} | predict
        self.settings = settings_of(bootstrap, prefix, folder, partitions, **self._predict)
        self._workers: list[Worker] = []

    @property
    def env(self) -> dict[str, str]:
        """What a process of this system finds in its environment."""
        kafka = self.settings.kafka
        mine = {
            "CANDLEWICK_KAFKA__BOOTSTRAP_SERVERS": str(kafka.bootstrap_servers),
            "CANDLEWICK_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
            "CANDLEWICK_KAFKA__PARTITIONS": str(kafka.partitions),
            "CANDLEWICK_DATA_DIR": str(self.folder),
        }
        mine |= {f"CANDLEWICK_PREDICT__{name.upper()}": str(value) for name, value in self._predict.items()}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("CANDLEWICK_", "PYTHON"))}
        # Compiled once for all processes of a test run: torch alone takes seconds.
        return clean | mine | {"PYTHONPYCACHEPREFIX": str(self.folder.parent / "pycache"), "PYTHONPATH": str(ROOT)}

    def __enter__(self) -> Self:
        run(init_topics(self.settings))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.end()

    def worker(self, name: str, *arguments: str, **extra_env: str) -> Worker:
        """Start `candlewick run predict`, or another command line of Python."""
        command = [sys.executable, *(arguments or ("-m", "candlewick", "run", "predict"))]
        started_ = Worker(command, self.env | extra_env, self.folder, name)
        self._workers.append(started_)
        return started_

    def candlewick(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "candlewick", *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command with `--json` prints, one object a line."""
        done = self.candlewick(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def audit(self, timeout_s: float = 100) -> dict[str, Any]:
        """Count what is missing, wrong or doubled, in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "streaming.audit"],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) == (not any(found[fault] for fault in FAULTS))
        return found

    def assert_flawless(self, at_least: int, timeout_s: float = 150) -> dict[str, Any]:
        """The audit finds at least so many signals due, every one of them there, and every record of them right."""
        found = self.audit(timeout_s)
        logger.info("audit %s", {name: count for name, count in found.items() if count})
        assert {fault: found[fault] for fault in FAULTS} == dict.fromkeys(FAULTS, 0), found
        assert found["expected"] >= at_least, found
        assert found["signals"] == found["expected"], found
        assert found["checked"] == found["signals"] + found["duplicates"], found
        return found

    async def lag(self, suffix: str = "") -> int:
        """Candles that the group, or the one whose name has this suffix, has not committed."""
        async with started(new_admin(self.settings)) as admin:
            committed = await committed_offsets(admin, self.settings.group("predict") + suffix)
        ends = await self.ends("candles")
        done = {tp.partition: offset.offset for tp, offset in committed.items()}
        return sum(end - max(0, done.get(partition, 0)) for partition, end in ends.items())

    async def ends(self, topic: str) -> dict[int, int]:
        """Partition to the offset after its last record."""
        async with started(new_reader(self.settings)) as reader:
            ends = await reader.end_offsets(topic_partitions(self.settings, topic))
        return {tp.partition: end for tp, end in ends.items()}

    def wait_committed(self, suffix: str = "", timeout_s: float = 90) -> None:
        """Wait until the group has committed every candle there is."""
        eventually(lambda: run(self.lag(suffix)) == 0, timeout_s)
