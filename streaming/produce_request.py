"""A produce request left in its pieces, where aiokafka copies its megabytes once for every level of the protocol.

Enters: aiokafka's request. Leaves: the bytes that its own encoder gives, in pieces. Does not know: batches, sockets.

This reaches into aiokafka, which the project holds to one minor version; a test holds it to the original's bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.protocol.produce import ProduceRequest_v7

from streaming.piece_writer import Pieces, write_all_in_pieces

_SHORT, _HEAD, _COUNT, _PART = (struct.Struct(form).pack for form in (">h", ">hii", ">i", ">ii"))


def produce_in_pieces() -> None:
    """From now on, every producer of this process encodes its requests here."""
    write_all_in_pieces()
    ProduceRequest_v7.encode = _encode


def _encode(request: ProduceRequest_v7) -> Pieces:
    return Pieces(_pieces(request))


def _pieces(request: Any) -> Iterator[bytes | bytearray]:
    before = _SHORT(-1) if request.transactional_id is None else _text(request.transactional_id)
    before += _HEAD(request.required_acks, request.timeout, len(request.topics))
    for topic, partitions in request.topics:
        before += _text(topic) + _COUNT(len(partitions))
        for partition, batch in partitions:
            yield before + _PART(partition, len(batch))
            yield batch
            before = b""
    if before:
        yield before


def _text(text: str) -> bytes:
    return _SHORT(len(text.encode())) + text.encode()
