"""`burst`: candles of all series close together; how long until the last signal is safe, and until it is read.

From the moment the load begins to send until the worker has Kafka's acknowledgement of the last signal, and until a
consumer holds it, which shares its core with the broker and the load. Without the model, which would only add its own
time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.figures import Figure
from benchmarks.rig import NULL_WORKER, Rig, Subject, rig, send
from benchmarks.workload import Size, Workload
from streaming.clients import new_producer, new_reader, started
from streaming.topics import topic_partitions

COMMAND = "python -m benchmarks burst --json"
PAUSE_S = (0.05, 0.15)
"""Between bursts, drawn anew each time, so that they fall on every phase of commits and polls."""
_TIMEOUT_S = 30.0


async def run(size: Size) -> list[Figure]:
    """Measure; takes about two minutes at full size."""
    workload = Workload(size, size.silent_closes + size.bursts)
    async with rig(workload, backlog=size.silent_closes) as bench:
        await bench.rewind(size.silent_closes)
        async with bench.process("null-model", (*NULL_WORKER, "--say-acknowledged")) as subject:
            await subject.ready()
            seconds = await _bursts(bench, subject)
    return list(_figures(size, seconds))


async def _bursts(bench: Rig, subject: Subject) -> list[tuple[float, float]]:
    size, pauses = bench.workload.size, random.Random(0)
    producer = new_producer(bench.settings, linger_ms=0)
    reader = new_reader(bench.settings, fetch_max_wait_ms=50)
    tps = topic_partitions(bench.settings, "signals")
    seconds = []
    async with started(producer), started(reader):
        reader.assign(tps)
        await reader.seek_to_end(*tps)
        for close in range(size.silent_closes, size.silent_closes + size.bursts):
            await asyncio.sleep(pauses.uniform(*PAUSE_S))
            async with asyncio.timeout(_TIMEOUT_S):
                seconds.append(await _burst(bench, subject, producer, reader, close))
    return seconds


async def _burst(
    bench: Rig, subject: Subject, producer: AIOKafkaProducer, reader: AIOKafkaConsumer, close: int
) -> tuple[float, float]:
    """Seconds until the last signal was acknowledged, and until it was read."""
    messages = bench.workload.messages(close, close + 1)
    began = time.monotonic()
    acknowledged = asyncio.create_task(_acknowledged(subject, bench.workload.size.series))
    sending = asyncio.create_task(send(producer, bench.settings, messages))
    left = bench.workload.size.series
    while left:
        left -= sum(map(len, (await reader.getmany(timeout_ms=50)).values()))
    read = time.monotonic() - began
    await sending
    return await acknowledged - began, read


async def _acknowledged(subject: Subject, signals: int) -> float:
    """The worker's own word of when it had the last acknowledgement; the clock is the machine's."""
    assert subject.process.stdout
    while signals:
        count, at_s = (await subject.process.stdout.readline()).split()
        signals -= int(count)
    return float(at_s)


def _figures(size: Size, seconds: Sequence[tuple[float, float]]) -> Iterator[Figure]:
    names = (("burst.p99_ms", "acknowledged"), ("burst.read_p99_ms", "read"))
    for (name, until), of in zip(names, zip(*seconds, strict=True), strict=True):
        median, p90, p99, most = np.percentile(np.array(of) * 1e3, [50, 90, 99, 100])
        yield Figure(
            name, float(p99), "ms",
            f"{size.series} candles sent to the last signal {until}, no model, {len(seconds)} bursts; "
            f"median {median:.1f}, p90 {p90:.1f}, most {most:.1f}", COMMAND,
        )  # fmt: skip
