"""Every replica's reader of `models`: from the beginning, without a group, one record after another.

Enters: the topic. Leaves: a timeline of valid activations, bundles made ready, and the fence: how far has been read.
Does not know: candles.

Bundles are validated in a thread as soon as they are whole, so that the activation that follows finds the work done and
the swap is the rebinding of one reference.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from threading import Lock
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from models.activation import Slot, Timeline, epoch_of
from models.bundle_log import Accepted, BundleLog, CompleteBundle
from models.errors import CandlewickError, InvalidBundle, InvalidMessage
from models.events import Activation
from models.serving import ServingBundle, make_ready
from models.spec import Spec
from streaming import metrics
from streaming.clients import close_all, new_reader, start
from streaming.settings import Settings

logger = logging.getLogger(__name__)

READY_BUNDLES = 16
"""Networks kept ready; an older one is made ready again when a close needs it (3 to 16 ms)."""
MAX_BLOBS_BYTES = 1 << 30
"""Of blobs in memory; beyond it the oldest go, and closes under them are withheld as `bundle_retired`."""


class Shelf:
    """Valid bundles by hash: all their bytes within a bound, and the latest used of them ready. Thread-safe."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._ready: OrderedDict[str, ServingBundle] = OrderedDict()
        self._lock = Lock()

    def put(self, bundle: ServingBundle, blob: bytes) -> None:
        """Add a validated bundle; those that came first go, used or not, so that every replica lets go of the same."""
        with self._lock:
            self._bytes += len(blob) - len(self._blobs.pop(bundle.sha256, b""))
            self._blobs[bundle.sha256] = blob
            self._keep(bundle)
            while self._bytes > MAX_BLOBS_BYTES:
                gone, bytes_ = self._blobs.popitem(last=False)
                self._bytes -= len(bytes_)
                self._ready.pop(gone, None)
                logger.warning("bundle forgotten, too many in memory bundle=%s", gone[:12])

    def get(self, sha256: str) -> ServingBundle | None:
        """A bundle ready to serve; None when its bytes are gone."""
        with self._lock:
            ready = self._ready.get(sha256)
            blob = self._blobs.get(sha256)
        if ready is None:
            if blob is None:
                return None
            ready = make_ready(blob, sha256, self._device)
        with self._lock:
            if sha256 in self._blobs:
                self._keep(ready)
        return ready

    def _keep(self, bundle: ServingBundle) -> None:
        self._ready[bundle.sha256] = bundle
        self._ready.move_to_end(bundle.sha256)
        while len(self._ready) > READY_BUNDLES:
            self._ready.popitem(last=False)


def with_activation(timeline: Timeline, accepted: Accepted, spec: Spec) -> Timeline:
    """The timeline after one more activation of a bundle that is fit to serve.

    Raises:
        InvalidBundle: the bundle is not of the model that the activation names, or changes what the model is.
    """
    offset, activation = accepted
    slot = Slot(spec.timeframe_ms, spec.horizon_bars)
    if activation.model != spec.model or timeline.slots.get(activation.model, slot) != slot:
        raise InvalidBundle(
            f"activation at offset {offset} of {activation.model}: bundle {activation.bundle[:12]} is of model "
            f"{spec.model}, {slot}; a model keeps its name, timeframe and horizon for ever"
        )
    return timeline.with_epoch(epoch_of(activation, offset), slot)


class ModelLog(Service):
    """Supervised by the Faust worker."""

    mundane_level = "debug"

    def __init__(
        self,
        settings: Settings,
        validators: Executor,
        on_epoch: Callable[[Activation], None] = lambda activation: None,
    ) -> None:
        self._settings = settings
        self._validators = validators
        self._on_epoch = on_epoch
        self._tp = TopicPartition(settings.topic("models"), 0)
        self._log = BundleLog()
        self._validations: dict[str, asyncio.Task[Spec | InvalidBundle]] = {}
        self._clients: list[Any] = []
        self._position = 0
        self._moved = asyncio.Condition()
        self.shelf = Shelf(settings.predict.device)
        self.timeline = Timeline()
        self.started_at_end = asyncio.Event()  # everything that was there at the start has been applied
        super().__init__()

    async def on_start(self) -> None:
        """Begin at the first record that is left."""
        self._reader = new_reader(self._settings, fetch_max_wait_ms=500)
        self._ends = new_reader(self._settings)  # never fetches, so that the fence never waits for a long poll
        for client in (self._reader, self._ends):
            await start(client)
            self._clients.append(client)
        self._reader.assign([self._tp])
        await self._reader.seek_to_beginning(self._tp)

    async def on_stop(self) -> None:
        """Close the clients."""
        for validation in self._validations.values():
            validation.cancel()
        await close_all(self._clients)

    async def fence(self) -> Timeline:
        """Ask where the log ends now, wait until all before it is applied, and give the timeline that holds then.

        Raises:
            CandlewickError: Kafka did not answer, or the log was not read so far, within the bound.
        """
        bound_s = self._settings.predict.fence_timeout_s
        try:
            async with asyncio.timeout(bound_s):
                end = await self._end()
                async with self._moved:
                    await self._moved.wait_for(lambda: self._position >= end)
        except TimeoutError as error:
            raise CandlewickError(
                f"{self._tp.topic} was not read to its end within {bound_s:g} s, so which model serves is unknown; "
                "is Kafka up? (CANDLEWICK_PREDICT__FENCE_TIMEOUT_S)"
            ) from error
        return self.timeline

    async def _end(self) -> int:
        while True:  # within the fence's bound
            try:
                return int((await self._ends.end_offsets([self._tp]))[self._tp])
            except KafkaError as error:
                logger.warning("cannot hear where models ends error=%r", error)
                await asyncio.sleep(0.2)

    @Service.task
    async def _read(self) -> None:
        end = await self._end()
        await self._moved_to(int((await self._ends.beginning_offsets([self._tp]))[self._tp]))
        while not self.should_stop:
            if self._position >= end:
                self.started_at_end.set()
            fetched = await self._reader.getmany(self._tp, timeout_ms=200)
            for record in fetched.get(self._tp, ()):
                await self._apply(record)
            await self._moved_to(await self._reader.position(self._tp))

    async def _moved_to(self, position: int) -> None:
        if position != self._position:
            async with self._moved:
                self._position = position
                self._moved.notify_all()

    async def _apply(self, record: Any) -> None:
        try:
            result = self._log.apply(record.offset, record.key, record.value, dict(record.headers))
            if isinstance(result, CompleteBundle):
                self._validations[result.sha256] = asyncio.create_task(self._validate(result))
            elif isinstance(result, Accepted):
                await self._activate(result)
        except (InvalidMessage, InvalidBundle) as error:
            metrics.bundles_refused.inc()
            logger.error("refused at=%s[0]@%d reason=%s", self._tp.topic, record.offset, error)

    async def _validate(self, complete: CompleteBundle) -> Spec | InvalidBundle:
        loop = asyncio.get_running_loop()
        device = self._settings.predict.device
        try:
            bundle = await loop.run_in_executor(
                self._validators, make_ready, complete.blob, complete.sha256, device
            )  # fmt: skip
        except InvalidBundle as refusal:
            metrics.bundles_refused.inc()
            logger.error("bundle refused bundle=%s reason=%s", complete.sha256[:12], refusal)
            return refusal
        self.shelf.put(bundle, complete.blob)
        return bundle.spec

    async def _activate(self, accepted: Accepted) -> None:
        activation = accepted.activation
        spec = await self._validations[activation.bundle]
        if isinstance(spec, InvalidBundle):
            logger.error("refused at=%s[0]@%d reason=%s", self._tp.topic, accepted.offset, spec)  # counted when judged
            return
        self.timeline = with_activation(self.timeline, accepted, spec)
        self._on_epoch(activation)
        metrics.epoch.labels(activation.model).set(accepted.offset)
        logger.info(
            "activated model=%s bundle=%s epoch=%d effective_from_ms=%d reason=%s",
            activation.model, activation.bundle[:12], accepted.offset, activation.effective_from_ms, activation.reason,
        )  # fmt: skip
