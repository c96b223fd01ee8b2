"""What people and jobs do with the topic `models`: publish a bundle, activate it, roll back, look.

Enters: bundles as bytes, names of bundles. Leaves: records on `models`. Does not know: who serves.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.activation import Slot, Timeline
from models.bundle import digest, unpack
from models.bundle_log import Accepted, BundleLog, CompleteBundle, chunks
from models.errors import CandlewickError, InvalidBundle, InvalidMessage
from models.events import Activation, Origin, encode
from models.series import off_grid_ms
from models.spec import Spec
from streaming.clients import new_producer, new_reader, started
from streaming.model_log import with_activation
from streaming.settings import Settings
from streaming.stretch import records, whole
from streaming.tail import newest_close, wall_ms
from streaming.topics import require_topics, topic_partitions

logger = logging.getLogger(__name__)

LIVE_LEAD_MS = 5_000
"""A live swap is announced so long ahead, so that every replica has it in time."""
_LIVE: frozenset[Origin] = frozenset({"live", "repaired"})


@dataclass
class ModelsView:
    """The topic as it is now: whole bundles, accepted activations, and what was wrong.

    Golden outputs are not looked at: that takes torch, and the machine that is to serve.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    specs: dict[str, Spec | InvalidBundle] = field(default_factory=dict)
    activations: list[Accepted] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)  # offset, reason
    timeline: Timeline = field(default_factory=Timeline)

    def resolve(self, name: str) -> str:
        """The hash that a hash, its unique beginning or a file stands for.

        Raises:
            CandlewickError: none on the topic, or several.
        """
        if Path(name).is_file():
            name = digest(Path(name).read_bytes())
        found = [sha256 for sha256 in self.blobs if sha256.startswith(name)]
        if len(found) != 1:
            raise CandlewickError(
                f"{name!r} names {len(found)} bundles on the topic: "
                + ("publish it first with `candlewick models publish FILE`" if not found else "write more of its hash")
            )
        return found[0]

    def spec(self, sha256: str) -> Spec:
        """The spec of a bundle on the topic.

        Raises:
            InvalidBundle: it is not fit to serve.
        """
        spec = self.specs[sha256]
        if isinstance(spec, InvalidBundle):
            raise spec
        return spec


@dataclass(frozen=True)
class Warrant:
    """What an activation rests on, where no person takes it upon himself."""

    job: str
    report: dict[str, Any]  # the gate's verdict


Check = Callable[[bytes], Spec]
"""Holds a blob to what a bundle must be; raises InvalidBundle."""


def runs(blob: bytes) -> Spec:
    """Judged as every replica judges it, golden output included; takes torch."""
    from models.serving import make_ready

    return make_ready(blob, device="cpu").spec


def reads(blob: bytes) -> Spec:
    """Everything short of running it."""
    return unpack(blob).spec


async def read_models(settings: Settings, check: Check = runs) -> ModelsView:
    """Read the topic from its beginning to its present end.

    Raises:
        Stalled: Kafka gave nothing for a minute.
    """
    view, log = ModelsView(), BundleLog()
    await require_topics(settings, "models")
    async with started(new_reader(settings)) as reader:
        async for _, batch in records(reader, await whole(reader, topic_partitions(settings, "models"))):
            for record in batch:
                try:
                    _take(view, log.apply(record.offset, record.key, record.value, dict(record.headers)), check)
                except (InvalidMessage, InvalidBundle) as error:
                    view.refused.append((record.offset, str(error)))
    return view


def _take(view: ModelsView, result: CompleteBundle | Accepted | None, check: Check) -> None:
    if isinstance(result, CompleteBundle):
        view.blobs[result.sha256] = result.blob
        view.specs[result.sha256] = _spec_of(result, check)
    elif isinstance(result, Accepted):
        view.timeline = with_activation(view.timeline, result, view.spec(result.activation.bundle))
        view.activations.append(result)


def _spec_of(complete: CompleteBundle, check: Check) -> Spec | InvalidBundle:
    try:
        return check(complete.blob)
    except InvalidBundle as refusal:
        return refusal


async def publish(settings: Settings, blob: bytes, check: Check = runs) -> tuple[str, bool]:
    """Put a bundle on the topic, chunk by chunk; give its hash, and whether anything had to be sent.

    Raises:
        InvalidBundle: it is not fit to serve, so it is not sent.
    """
    check(blob)
    sha256 = digest(blob)
    view = await read_models(settings, check)
    if sha256 in view.blobs:
        return sha256, False
    async with started(new_producer(settings)) as producer:
        for chunk in chunks(blob, uuid.uuid4().hex):
            await producer.send_and_wait(
                settings.topic("models"), chunk.value, chunk.key, partition=0, headers=chunk.headers
            )  # fmt: skip
    return sha256, True


async def activate(
    settings: Settings,
    name: str,
    reason: str,
    effective_from_ms: int | None = None,
    warrant: Warrant | None = None,
) -> tuple[int, Activation]:
    """Let a bundle serve from a close on; give the epoch and the activation: those of the job, if it has them already.

    Raises:
        CandlewickError: the bundle is not on the topic, or not fit to serve.
    """
    view = await read_models(settings, reads if warrant else runs)  # the gate has run what it lets pass
    if warrant and (done := [each for each in view.activations if each.activation.job == warrant.job]):
        return done[0]
    sha256 = view.resolve(name)
    spec = view.spec(sha256)
    slot = view.timeline.slots.get(spec.model)
    if slot not in (None, Slot(spec.timeframe_ms, spec.horizon_bars)):
        raise CandlewickError(f"model {spec.model} serves {slot}; give this bundle a model name of its own")
    if effective_from_ms is None:
        effective_from_ms = spec.trained_until_ms if slot is None else await next_close(settings, spec.timeframe_ms)
    activation = Activation(
        model=spec.model,
        bundle=sha256,
        effective_from_ms=effective_from_ms,
        reason=reason,
        report=warrant.report if warrant else None,
        job=warrant.job if warrant else None,
    )
    return await _announce(settings, activation), activation


async def rollback(settings: Settings, model: str, reason: str) -> tuple[int, Activation]:
    """Let the bundle before the present one serve again, from the next close on.

    Raises:
        CandlewickError: the model has no earlier bundle.
    """
    view = await read_models(settings)
    served = [accepted.activation.bundle for accepted in view.activations if accepted.activation.model == model]
    earlier = [sha256 for sha256 in served if sha256 != served[-1]]
    if not earlier:
        known = ", ".join(sorted(view.timeline.slots)) or "none"
        raise CandlewickError(f"model {model!r} has no earlier bundle to go back to (models on the topic: {known})")
    return await activate(settings, earlier[-1], reason)


async def _announce(settings: Settings, activation: Activation) -> int:
    key = f"activation/{activation.model}/{uuid.uuid4().hex}".encode()
    async with started(new_producer(settings)) as producer:
        sent = await producer.send_and_wait(settings.topic("models"), encode(activation), key, partition=0)
    return int(sent.offset)


async def next_close(settings: Settings, timeframe_ms: int, clock: Callable[[], int] = wall_ms) -> int:
    """The close after the newest of this timeframe in `candles`; while that is live, also at least 5 s from now.

    UTC milliseconds; 0 where there is none: whatever comes first. A candle that closes in the future by the clock (UTC
    ms) does not count, or one of the year 2100 would put off every swap till then.
    """
    newest = await newest_close(settings, timeframe_ms, clock)
    if newest is None:
        return 0
    close_ms = newest.close_time_ms + timeframe_ms
    if newest.origin in _LIVE:
        lead_ms = clock() + LIVE_LEAD_MS
        close_ms = max(close_ms, lead_ms + -off_grid_ms(lead_ms, timeframe_ms) % timeframe_ms)
    return close_ms
