"""The log of `models` as a pure fold: chunks become bundles, activations become epochs, all by their place in the log.

Enters: records in the order of the log. Leaves: complete blobs and activations that are valid by that order. Does not
know: whether the bytes make a good bundle, or how they came.

A bundle travels as chunks keyed `bundle/<sha256>/<publication>/<i>` with headers `n` and `size`. An activation is valid
only if its whole bundle lies before it, by bytes, never by timing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from models.bundle import MAX_BLOB_BYTES
from models.errors import InvalidBundle, InvalidMessage
from models.events import NOT_JSON, SCHEMA_VERSION, Activation, decode_activation

CHUNK_BYTES = 512 << 10
MAX_CHUNKS = MAX_BLOB_BYTES // CHUNK_BYTES
MAX_UNFINISHED, MAX_UNFINISHED_BYTES = 8, 2 * MAX_BLOB_BYTES
"""Publications begun and not complete that are remembered; beyond either bound the oldest is forgotten."""


class Chunk(NamedTuple):
    """One record of a publication."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def chunks(blob: bytes, publication: str) -> Iterator[Chunk]:
    """Cut a bundle for publishing; `publication` tells this attempt from every other of the same bundle."""
    sha256 = hashlib.sha256(blob).hexdigest()
    n = _pieces(len(blob))
    headers = [("n", str(n).encode()), ("size", str(len(blob)).encode())]
    for i in range(n):
        key = f"bundle/{sha256}/{publication}/{i}".encode()
        yield Chunk(key, blob[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES], headers)


class CompleteBundle(NamedTuple):
    """All bytes of a bundle are in the log, and they are the ones that its name promises."""

    sha256: str
    blob: bytes


class Accepted(NamedTuple):
    """An activation whose bundle lies before it."""

    offset: int
    activation: Activation


@dataclass
class _Unfinished:
    size: int  # bytes of the whole
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What is here of it."""
        return sum(map(len, self.parts.values()))


class BundleLog:
    """The state of the fold."""

    def __init__(self) -> None:
        self.complete: set[str] = set()
        self._jobs: set[str] = set()  # whose activation is known
        self._unfinished: dict[tuple[str, str], _Unfinished] = {}

    def apply(
        self, offset: int, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]
    ) -> CompleteBundle | Accepted | None:
        """Take the next record.

        A job activates once: who took over from a trainer that died may say it again, and nothing comes of that.

        Raises:
            InvalidMessage: the record is neither a chunk nor an activation of a known version.
            InvalidBundle: the bytes are not those the name promises, or an activation names a bundle that is not there.
        """
        kind, _, rest = (key or b"").decode(errors="replace").partition("/")
        if kind == "bundle":
            return self._chunk(rest, value, headers)
        if kind == "activation":
            return self._activation(offset, value)
        raise InvalidMessage(f"key {key!r} is neither bundle/... nor activation/...")

    def _chunk(self, rest: str, value: bytes | None, headers: Mapping[str, bytes]) -> CompleteBundle | None:
        try:
            sha256, publication, i = rest.split("/")
            if value is None:
                self._retire(sha256, publication)
                return None
            at, n, size = int(i), int(headers["n"]), int(headers["size"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidMessage(f"chunk {rest!r} lacks its place or its headers n and size") from error
        if not (0 <= at < n == _pieces(size) <= MAX_CHUNKS and len(value) == min(CHUNK_BYTES, size - at * CHUNK_BYTES)):
            raise InvalidMessage(f"chunk {rest!r}: {at} of {n}, {len(value)} of {size} bytes is out of bounds")
        if sha256 in self.complete:
            return None
        unfinished = self._unfinished.setdefault((sha256, publication), _Unfinished(size))
        if unfinished.size != size:
            raise InvalidMessage(f"chunk {rest!r} disagrees with the others of its publication on their size")
        unfinished.parts[at] = value
        if len(unfinished.parts) == n:
            return self._whole(sha256, publication)
        self._forget_oldest()
        return None

    def _retire(self, sha256: str, publication: str) -> None:
        """A chunk was taken back: who reads after compaction will not find the bundle, so nobody counts on it."""
        self.complete.discard(sha256)
        self._unfinished.pop((sha256, publication), None)

    def _forget_oldest(self) -> None:
        waiting = self._unfinished
        while len(waiting) > MAX_UNFINISHED or sum(each.bytes for each in waiting.values()) > MAX_UNFINISHED_BYTES:
            del waiting[next(iter(waiting))]

    def _whole(self, sha256: str, publication: str) -> CompleteBundle:
        parts = self._unfinished.pop((sha256, publication)).parts
        blob = b"".join(parts[i] for i in range(len(parts)))
        if hashlib.sha256(blob).hexdigest() != sha256:
            raise InvalidBundle(f"bundle {sha256[:12]}: the bytes of publication {publication[:12]} have another hash")
        self.complete.add(sha256)
        for other in [key for key in self._unfinished if key[0] == sha256]:
            del self._unfinished[other]  # what it began is there already
        return CompleteBundle(sha256, blob)

    def _activation(self, offset: int, value: bytes | None) -> Accepted | None:
        try:
            activation = decode_activation(value or b"")
        except NOT_JSON as error:
            raise InvalidMessage(f"not an activation: {error}") from error
        if activation.v != SCHEMA_VERSION:
            raise InvalidMessage(f"activation of schema version {activation.v} is unknown to this build: upgrade")
        if activation.bundle not in self.complete:
            raise InvalidBundle(
                f"activation at offset {offset} names bundle {activation.bundle[:12]}, which is not whole before it"
            )
        if activation.job is not None:
            if activation.job in self._jobs:
                return None
            self._jobs.add(activation.job)
        return Accepted(offset, activation)


def _pieces(size: int) -> int:
    return -(-size // CHUNK_BYTES)
