"""A broker with a backlog of candles on one core, and whatever is under test on the other.

Enters: a workload. Leaves: processes under test, and how many records they had acknowledged when. Does not know: which
figure it is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from benchmarks.cores import cpu_seconds, stay_off_worker_core, take_worker_core
from benchmarks.workload import PARTITIONS, Workload
from models.errors import CandlewickError
from models.events import Message
from streaming.clients import connection, new_producer, new_reader, started
from streaming.models_topic import activate, publish
from streaming.packing import send_packed
from streaming.rewind import encode_rewind
from streaming.settings import Settings
from streaming.topics import topic_partitions
from streaming.up import kafka

PREDICT = ("-m", "candlewick", "run", "predict")
"""The worker as everybody runs it."""
NULL_WORKER = ("-m", "benchmarks.null_worker")
_ROOT = Path(__file__).parent.parent
_CLOSES_A_TURN = 40
_POLL_S = 0.02
_START_TIMEOUT_S = 180.0
_RUN_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Cost:
    """What one record cost while a backlog was worked off."""

    wall_s: float
    cpu_s: float


@dataclass
class Rig:
    """A broker that holds the workload."""

    settings: Settings
    workload: Workload
    folder: Path
    reader: AIOKafkaConsumer

    async def acknowledged(self, topic: str) -> int:
        """Records that a topic holds."""
        ends = await self.reader.end_offsets(topic_partitions(self.settings, topic))
        return sum(ends.values())

    async def rewind(self, close: int) -> None:
        """Let the group of `predict` have done all before this close, and remember nothing of it."""
        topic = self.settings.topic("candles")
        group = self.settings.group("predict")
        consumer = AIOKafkaConsumer(**connection(self.settings), group_id=group, enable_auto_commit=False)
        async with started(consumer):
            offsets = {
                TopicPartition(topic, partition): OffsetAndMetadata(offset, encode_rewind(0))
                for partition, offset in self.workload.offsets_at(close).items()
            }
            consumer.assign(list(offsets))
            await consumer.commit(offsets)

    @asynccontextmanager
    async def process(self, name: str, arguments: Sequence[str]) -> AsyncIterator[Subject]:
        """A Python process under test, alone on the worker's core; SIGTERM ends it."""
        log = self.folder / f"{name}.log"
        environment = os.environ | {
            "CANDLEWICK_KAFKA__BOOTSTRAP_SERVERS": str(self.settings.kafka.bootstrap_servers),
            "CANDLEWICK_KAFKA__TOPIC_PREFIX": self.settings.kafka.topic_prefix,
            "CANDLEWICK_KAFKA__PARTITIONS": str(self.settings.kafka.partitions),
            "CANDLEWICK_DATA_DIR": str(self.folder),
            "CANDLEWICK_PREDICT__DEVICE": "cpu",
        }
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, cwd=_ROOT, env=environment, stdout=PIPE, stderr=errors,
                preexec_fn=take_worker_core,
            )  # fmt: skip
        try:
            yield Subject(name, process, log)
        finally:
            if process.returncode is None:
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def cost(self, subject: Subject, topic: str, before: int, records: int) -> Cost:
        """Watch a process append so many records to a topic that held `before` when the process began.

        Returns:
            The slopes of time and of processor time over records: what comes before the first and after the last
            record is left out, and so is the grain of batches.

        Raises:
            CandlewickError: it ended, or took longer than five minutes.
        """
        samples = [(before, 0.0, 0.0)]
        deadline = time.monotonic() + _RUN_TIMEOUT_S
        while samples[-1][0] < before + records:
            await asyncio.sleep(_POLL_S)
            subject.check(deadline)
            samples.append((await self.acknowledged(topic), time.perf_counter(), cpu_seconds(subject.process.pid)))
        done, wall, cpu = np.array([sample for sample in samples if before < sample[0] <= before + records]).T
        if len(set(done)) < 3:
            raise CandlewickError(f"{records} records are too few to see what one costs")
        return Cost(float(np.polyfit(done, wall, 1)[0]), float(np.polyfit(done, cpu, 1)[0]))


@dataclass
class Subject:
    """A process under test."""

    name: str
    process: Process
    log: Path

    def check(self, deadline: float) -> None:
        """Raise when it ended or is late, with the end of what it said."""
        if self.process.returncode is not None or time.monotonic() > deadline:
            state = "is late" if self.process.returncode is None else f"ended with {self.process.returncode}"
            raise CandlewickError(f"{self.name} {state}:\n{self.log.read_text()[-2_000:]}")

    async def ready(self) -> None:
        """Wait for the first line on its standard output."""
        assert self.process.stdout
        deadline = time.monotonic() + _START_TIMEOUT_S
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), _START_TIMEOUT_S)
        except TimeoutError:
            line = b""
        if not line:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), 1.0)
            self.check(deadline)

    async def logged(self, text: str) -> None:
        """Wait until its log holds this text."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while text not in self.log.read_text():
            self.check(deadline)
            await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def rig(workload: Workload, backlog: int) -> AsyncIterator[Rig]:
    """Start a broker of its own; give it a bundle, active from the first close on, and so many closes of candles."""
    stay_off_worker_core()
    with tempfile.TemporaryDirectory(prefix="candlewick-bench-") as folder:
        settings = Settings(data_dir=Path(folder))
        own = settings.kafka.model_copy(update={"bootstrap_servers": None, "partitions": PARTITIONS})
        async with kafka(settings.model_copy(update={"kafka": own})) as (reachable, _broker):
            sha256, _ = await publish(reachable, workload.bundle())
            await activate(reachable, sha256, "benchmark", 0)
            async with started(new_producer(reachable, linger_ms=0)) as producer:
                for first in range(0, backlog, _CLOSES_A_TURN):
                    messages = workload.messages(first, min(first + _CLOSES_A_TURN, backlog))
                    await send(producer, reachable, messages)
            async with started(new_reader(reachable)) as reader:
                yield Rig(reachable, workload, Path(folder), reader)


async def send(producer: AIOKafkaProducer, settings: Settings, candles: dict[int, list[Message]]) -> None:
    """Append candles by partition, and wait for the acknowledgements."""
    topic, acks = settings.topic("candles"), []
    for partition, messages in candles.items():
        acks += await send_packed(producer, topic, partition, messages)
    await asyncio.gather(*acks)
