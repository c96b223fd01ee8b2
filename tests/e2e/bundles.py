"""Bundles for tests of swapping: good ones, and every way to make a bad one, put on the topic past all checks.

Enters: a producer. Leaves: chunks and activations on `models`. Does not know: who reads them.
"""

from __future__ import annotations

import hashlib
import re
import struct
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer

from models.bundle_log import chunks
from models.events import Activation, encode
from tests.models.make_bundle import make_bundle

MODEL = "default-1m"
LOOKBACKS = (8, 16, 12)


def good(seed: int) -> bytes:
    """A bundle like no other: even how far it looks back changes."""
    return make_bundle(seed=seed, lookback=LOOKBACKS[seed % len(LOOKBACKS)], hidden=8)


@dataclass
class Desk:
    """Writes to `models` as anybody could who may write there, and keeps account of what must follow."""

    producer: AIOKafkaProducer
    topic: str
    valid: list[tuple[int, int, str]] = field(default_factory=list)  # epoch, effective_from_ms, bundle
    refused: list[int] = field(default_factory=list)  # offsets of activations that must not hold

    def covering(self, close_time_ms: int) -> tuple[int, str]:
        """Epoch and bundle that must serve a close: the newest valid word that covers it."""
        epoch, _, bundle = max(each for each in self.valid if each[1] <= close_time_ms)
        return epoch, bundle

    async def put(self, blob: bytes, name: str | None = None, leave_out: int = 0) -> str:
        """Publish bytes under their hash or another name, leaving out the last of the chunks."""
        name = name or hashlib.sha256(blob).hexdigest()
        whole = list(chunks(blob, uuid.uuid4().hex))
        for chunk in whole[: len(whole) - leave_out]:
            key = re.sub(rb"^bundle/[0-9a-f]+/", f"bundle/{name}/".encode(), chunk.key)
            await self.producer.send_and_wait(self.topic, chunk.value, key, partition=0, headers=chunk.headers)
        return name

    async def say(self, value: bytes) -> int:
        """Write an activation, whatever it says; returns its offset."""
        key = f"activation/{MODEL}/{uuid.uuid4().hex}".encode()
        sent = await self.producer.send_and_wait(self.topic, value, key, partition=0)
        return int(sent.offset)

    async def activate(self, bundle: str, from_ms: int) -> None:
        """Let a good bundle serve."""
        epoch = await self.say(encode(_activation(bundle, from_ms)))
        self.valid.append((epoch, from_ms, bundle))

    async def activate_in_vain(self, bundle: str, from_ms: int) -> None:
        """Name a bundle that must not serve."""
        self.refused.append(await self.say(encode(_activation(bundle, from_ms))))


def _activation(bundle: str, from_ms: int) -> Activation:
    return Activation(model=MODEL, bundle=bundle, effective_from_ms=from_ms, reason="test")


async def truncated(desk: Desk, seed: int) -> str:
    """The file ends too early, and is honestly named by the hash of what is left."""
    return await desk.put(good(seed)[:-100])


async def incomplete(desk: Desk, seed: int) -> str:
    """The last chunk never came."""
    return await desk.put(make_bundle(seed=seed, lookback=8, hidden=200), leave_out=1)


async def other_bytes(desk: Desk, seed: int) -> str:
    """One byte is not the one that the name promises."""
    blob = bytearray(good(seed))
    name = hashlib.sha256(blob).hexdigest()
    blob[-1] ^= 1
    return await desk.put(bytes(blob), name)


async def not_a_number(desk: Desk, seed: int) -> str:
    """A weight is NaN."""
    return await desk.put(_with_last_float(good(seed), float("nan")))


async def other_weights(desk: Desk, seed: int) -> str:
    """Finite weights, but not those that gave the golden output."""
    blob = good(seed)
    return await desk.put(_with_float(blob, _data_offset(blob, b'"head.bias"'), 3.0))


async def other_shapes(desk: Desk, seed: int) -> str:
    """The spec promises a larger network than the tensors make."""
    return await desk.put(good(seed).replace(b'\\"hidden\\":8', b'\\"hidden\\":9', 1))


async def foreign_model(desk: Desk, seed: int) -> str:
    """A bundle fit to serve, but of another model."""
    return await desk.put(make_bundle(seed=seed, lookback=8, hidden=8, model="other-1m"))


async def foreign_horizon(desk: Desk, seed: int) -> str:
    """A bundle of this model that answers another question."""
    return await desk.put(make_bundle(seed=seed, lookback=8, hidden=8, horizon=5))


async def never_published(_: Desk, seed: int) -> str:
    """A name and nothing behind it."""
    return hashlib.sha256(b"%d" % seed).hexdigest()


CORRUPT: tuple[Callable[[Desk, int], Awaitable[str]], ...] = (
    truncated, incomplete, other_bytes, not_a_number, other_weights, other_shapes, foreign_model, foreign_horizon,
    never_published,
)  # fmt: skip


def _data_offset(blob: bytes, tensor: bytes) -> int:
    """Where a tensor's data begins, from the header."""
    length = int.from_bytes(blob[:8], "little")
    entry = blob[blob.index(tensor) :]
    start = entry[entry.index(b'"data_offsets":[') + 16 :].split(b",")[0]
    return 8 + length + int(start)


def _with_float(blob: bytes, at: int, value: float) -> bytes:
    return blob[:at] + struct.pack("<f", value) + blob[at + 4 :]


def _with_last_float(blob: bytes, value: float) -> bytes:
    return _with_float(blob, len(blob) - 4, value)
