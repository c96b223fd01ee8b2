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

import msgspec

from models.errors import InvalidBundle, InvalidMessage
from models.events import SCHEMA_VERSION, Activation, decode_activation

CHUNK_BYTES = 512 << 10
MAX_BLOB_BYTES = 64 << 20
MAX_CHUNKS = MAX_BLOB_BYTES // CHUNK_BYTES
MAX_UNFINISHED = 8
"""Publications begun and not complete that are remembered; one more, and the oldest is forgotten."""


class Chunk(NamedTuple):
    """One record of a publication."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def chunks(blob: bytes, publication: str) -> Iterator[Chunk]:
    """Cut a bundle for publishing; `publication` tells this attempt from every other of the same bundle."""
    sha256 = hashlib.sha256(blob).hexdigest()
    n = max(1, -(-len(blob) // CHUNK_BYTES))
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
    n: int
    size: int
    parts: dict[int, bytes] = field(default_factory=dict)


class BundleLog:
    """The state of the fold."""

    def __init__(self) -> None:
        self.complete: set[str] = set()
        self._unfinished: dict[tuple[str, str], _Unfinished] = {}

    def apply(
        self, offset: int, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]
    ) -> CompleteBundle | Accepted | None:
        """Take the next record.

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
        if value is None:
            return None  # a retired bundle's chunk; its activations then find no bytes
        try:
            sha256, publication, i = rest.split("/")
            at, n, size = int(i), int(headers["n"]), int(headers["size"])
        except (ValueError, KeyError) as error:
            raise InvalidMessage(f"chunk {rest!r} lacks its place or its headers n and size") from error
        if not (0 <= at < n <= MAX_CHUNKS and 0 < size <= MAX_BLOB_BYTES and len(value) <= CHUNK_BYTES):
            raise InvalidMessage(f"chunk {rest!r}: {at} of {n}, {len(value)} of {size} bytes is out of bounds")
        if sha256 in self.complete:
            return None
        unfinished = self._unfinished.setdefault((sha256, publication), _Unfinished(n, size))
        if (unfinished.n, unfinished.size) != (n, size):
            raise InvalidMessage(f"chunk {rest!r} disagrees with the others of its publication on n or size")
        unfinished.parts[at] = value
        if len(unfinished.parts) < n:
            if len(self._unfinished) > MAX_UNFINISHED:
                del self._unfinished[next(iter(self._unfinished))]
            return None
        del self._unfinished[sha256, publication]
        return self._whole(sha256, unfinished)

    def _whole(self, sha256: str, unfinished: _Unfinished) -> CompleteBundle:
        blob = b"".join(unfinished.parts[i] for i in range(unfinished.n))
        if len(blob) != unfinished.size or hashlib.sha256(blob).hexdigest() != sha256:
            raise InvalidBundle(f"bundle {sha256[:12]}: its bytes have another hash, or are not {unfinished.size} many")
        self.complete.add(sha256)
        return CompleteBundle(sha256, blob)

    def _activation(self, offset: int, value: bytes | None) -> Accepted:
        try:
            activation = decode_activation(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidMessage(f"not an activation: {error}") from error
        if activation.v != SCHEMA_VERSION:
            raise InvalidMessage(f"activation of schema version {activation.v} is unknown to this build: upgrade")
        if activation.bundle not in self.complete:
            raise InvalidBundle(
                f"activation at offset {offset} names bundle {activation.bundle[:12]}, which is not whole before it"
            )
        return Accepted(offset, activation)
