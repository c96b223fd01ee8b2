"""The role `predict`: candles to signals.

Enters: batches of candles and the log of models. Leaves: signals, dead letters, and commits of what is safely out.
Does not know: features or networks, which are the engine's.

This is the main loop of the system:  fence -> serve -> publish -> done. A batch is published while the next is served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mode import Service

from models.activation import Timeline
from models.engine import Engine
from models.events import Activation, DeadLetter, encode
from models.pending import Served
from models.serving import check_device
from models.signal_block import SignalBlock
from streaming import kernels, metrics
from streaming.batches import BatchSource, Fetched
from streaming.channel import BatchChannel
from streaming.clients import BATCH_BYTES, close_all, new_producer, start
from streaming.memory import settle
from streaming.model_log import ModelLog
from streaming.packing import Ack, acknowledged, send_blocks
from streaming.settings import Settings
from streaming.topics import check_topics
from streaming.until import until

logger = logging.getLogger(__name__)

REQUEST_RECORDS = 4_000
"""Signals on their way at once, about: 4 MB, so that what is copied on its way to the socket stays near the cache."""


class Predict(Service):
    """Owns the engine and its one thread. Supervised by the Faust worker; `serve` is called by the agent."""

    mundane_level = "debug"

    def __init__(self, settings: Settings, channel: BatchChannel) -> None:
        self._settings = settings
        # One thread owns the engine, so that heartbeats never wait for a network; another validates newcomers.
        self._model_thread = ThreadPoolExecutor(1, "model")
        self._validators = ThreadPoolExecutor(1, "validate")
        self.models = ModelLog(settings, self._validators, self._count_late_switch)
        self._engine = Engine(self.models.shelf.get, settings.topic("candles"), settings.predict.always_direct)
        self.source = BatchSource(settings, channel.put, self._engine.forget)
        self._clients: list[Any] = []
        self.ready = asyncio.Event()
        self._publishing: asyncio.Task[None] | None = None
        super().__init__()

    async def on_start(self) -> None:
        """Read the models to their end, then join the group: no candle meets a replica that is not current.

        Raises:
            CandlewickError: Kafka cannot be reached, or lacks a topic; there is no such device.
        """
        await check_topics(self._settings, "candles", "signals", "models", "dead-letters")
        self._producer = new_producer(self._settings, linger_ms=0)
        await start(self._producer)
        self._clients.append(self._producer)
        in_thread = asyncio.get_running_loop().run_in_executor
        await in_thread(self._validators, check_device, self._settings.predict.device)
        await self.add_runtime_dependency(self.models)
        await until(self.models.started_at_end, self.models)
        await in_thread(self._model_thread, kernels.make_ready)
        settle()
        await self.add_runtime_dependency(self.source)

    async def on_stop(self) -> None:
        """Let the source finish while the producer still lives."""
        await self.source.stop()
        await asyncio.gather(self.models.stop(), close_all(self._clients))
        for thread in (self._model_thread, self._validators):
            thread.shutdown(wait=False, cancel_futures=True)

    @Service.task
    async def _say_ready(self) -> None:
        await self.models.started_at_end.wait()
        await self.source.caught_up.wait()
        self.ready.set()

    def ailment(self) -> str | None:
        """What is wrong just now, for /health."""
        return self.source.ailment() if self.ready.is_set() else "starting"

    async def serve(self, fetched: Fetched) -> None:
        """Work off one batch and start to publish what came of it; Kafka takes that in while the next is worked off."""
        began = time.perf_counter()
        timeline = await self.models.fence()
        now_ms = time.time_ns() // 1_000_000
        loop = asyncio.get_running_loop()
        served, rewinds = await loop.run_in_executor(self._model_thread, self._work, fetched, timeline, now_ms)
        if self._publishing:
            await self._publishing  # one batch at a time is on its way, so signals and commits keep their order
        self._publishing = asyncio.create_task(self._finish(fetched, served, rewinds, began))

    async def _finish(self, fetched: Fetched, served: Served, rewinds: dict[int, int], began: float) -> None:
        """After this, everything the batch led to is acknowledged by Kafka."""
        try:
            await self._publish(served)
            seconds = time.perf_counter() - began
            self.source.done(fetched, rewinds, seconds)
            self._count(served, seconds)
        except Exception as error:  # not later, with the next batch: there may be none
            await self.crash(error)
            raise

    def _work(self, fetched: Fetched, timeline: Timeline, now_ms: int) -> tuple[Served, dict[int, int]]:
        served = self._engine.serve(fetched.records, timeline, now_ms)
        return served, self._engine.rewind_offsets()

    async def _publish(self, served: Served) -> None:
        """Send everything, then wait for every acknowledgement.

        Raises:
            CandlewickError: Kafka did not acknowledge in time; the process ends, and the records are done again.
            KafkaError: Kafka refused a record; so it does again.
        """
        topic, timeout_s = self._settings.topic("signals"), self._settings.predict.kafka_timeout_s
        acks: list[Ack] = []
        for blocks in _requests(served.signals):
            await acknowledged(acks, timeout_s)
            acks = await send_blocks(self._producer, topic, blocks, BATCH_BYTES, timeout_s)
        acks += [await self._bury(letter) for letter in served.dead_letters]
        await acknowledged(acks, timeout_s)
        if served.dead_letters:  # a line each would fill the disk where a producer knows no better
            first, others = served.dead_letters[0], len(served.dead_letters) - 1
            logger.warning(
                "dead letter at=%s[%d]@%d reason=%s (and %d more of its batch)",
                first.topic, first.partition, first.offset, first.reason, others,
            )  # fmt: skip

    async def _bury(self, letter: DeadLetter) -> Ack:
        topic, partition, offset = letter.topic, letter.partition, letter.offset
        identity = f"{topic}/{partition}/{offset}".encode()
        return Ack(await self._producer.send(self._settings.topic("dead-letters"), encode(letter), identity), 1)

    def _count(self, served: Served, seconds: float) -> None:
        metrics.candles.inc(served.candles)
        metrics.dead_letters.inc(len(served.dead_letters))
        metrics.batch_candles.observe(served.candles)
        metrics.batch_seconds.observe(seconds)
        for model, count in served.signalled.items():
            metrics.signals.labels(model).inc(count)
        for reason, count in served.withheld.items():
            metrics.withheld.labels(reason).inc(count)
        for reason, count in served.ignored.items():
            metrics.ignored.labels(reason).inc(count)

    def _count_late_switch(self, activation: Activation) -> None:
        """An activation that comes after a close it covers never re-dates it; it is counted."""
        newest = self._engine.newest_close_ms.get(activation.model, -1)
        if newest >= activation.effective_from_ms:
            metrics.late_switches.inc()
            logger.warning(
                "late switch: closes up to the newest were signalled under the old bundle newest_close_ms=%d "
                "effective_from_ms=%d", newest, activation.effective_from_ms,
            )  # fmt: skip


def _requests(blocks: Sequence[SignalBlock]) -> Iterator[Sequence[SignalBlock]]:
    """Cut into what goes on its way at once."""
    first = records = 0
    for end, block in enumerate(blocks, 1):
        records += len(block.row)
        if records >= REQUEST_RECORDS:
            yield blocks[first:end]
            first, records = end, 0
    if first < len(blocks):
        yield blocks[first:]
