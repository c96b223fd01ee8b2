"""A produce request put together in one go, where aiokafka copies its megabytes once for every level of the protocol.

Enters: aiokafka's request. Leaves: the same bytes that its own encoder gives. Does not know: batches, acknowledgements.

This reaches into aiokafka, which the project holds to one minor version; a test holds it to the original's bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.protocol.produce import ProduceRequest_v7

_SHORT, _HEAD, _COUNT, _PART = (struct.Struct(form).pack for form in (">h", ">hii", ">i", ">ii"))


def encode_at_once() -> None:
    """From now on, every producer of this process encodes its requests here."""
    ProduceRequest_v7.encode = _encode


def _encode(request: ProduceRequest_v7) -> bytes:
    return b"".join(_pieces(request))


def _pieces(request: Any) -> Iterator[bytes | bytearray]:
    yield _SHORT(-1) if request.transactional_id is None else _text(request.transactional_id)
    yield _HEAD(request.required_acks, request.timeout, len(request.topics))
    for topic, partitions in request.topics:
        yield _text(topic)
        yield _COUNT(len(partitions))
        for partition, batch in partitions:
            yield _PART(partition, len(batch))
            yield batch


def _text(text: str) -> bytes:
    return _SHORT(len(text.encode())) + text.encode()
