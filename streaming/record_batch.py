"""A batch of signals as Kafka's producer sends it, where aiokafka makes five Python objects of every record.

Enters: blocks of signals. Leaves: batches that aiokafka's producer takes as its own. Does not know: acknowledgements.

This stands in for aiokafka's `BatchBuilder`, which the project holds to one minor version; a test holds it to the
original's bytes. Its checksum comes from the processor's own instruction, at a tenth of the cost of aiokafka's.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from models.errors import CandlewickError
from models.signal_block import SignalBlock
from streaming.record_kernel import by_partition, lay_out

_HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset, first and newest time, producer, its epoch,
sequence, count: Kafka's protocol guide, "Record Batch"."""
_MAGIC, _CHECKED_FROM, _LENGTH_FROM = 2, 21, 12
_NO_EPOCH = _NO_PRODUCER = -1


class RecordBatch:
    """Records of one partition, laid out; what aiokafka asks of a `BatchBuilder` that is closed."""

    def __init__(self, buffer: NDArray[np.uint8], records: int, first_ms: int, newest_ms: int) -> None:
        """`buffer` begins with room for the header."""
        self._buffer = buffer
        self._records = records
        self._times = first_ms, newest_ms
        self._producer = _NO_PRODUCER, _NO_EPOCH, 0
        self._built: memoryview | None = None

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = producer_id, producer_epoch, base_sequence

    def _build(self) -> memoryview:
        if self._built is None:
            self._write_header(0)
            self._write_header(google_crc32c.value(self._buffer[_CHECKED_FROM:]))
            self._built = self._buffer.data
        return self._built

    def _write_header(self, crc: int) -> None:
        _HEADER.pack_into(
            self._buffer.data, 0, 0, len(self._buffer) - _LENGTH_FROM, _NO_EPOCH, _MAGIC, crc, 0, self._records - 1,
            *self._times, *self._producer, self._records,
        )  # fmt: skip

    def append(self, **_: object) -> None:
        """Nothing more fits."""

    def close(self) -> None:
        """It is."""

    def closed(self) -> bool:
        """Always."""
        return True

    def size(self) -> int:
        """Bytes."""
        return len(self._buffer)

    def record_count(self) -> int:
        """How many."""
        return self._records


def batches_of(blocks: Sequence[SignalBlock], most_bytes: int) -> Iterator[tuple[int, RecordBatch]]:
    """All signals as batches, each with its partition, in order within it.

    Raises:
        CandlewickError: a signal alone is larger than a batch may be.
    """
    own: defaultdict[int, list[_Part]] = defaultdict(list)
    for block in blocks:
        for partition, part in _parts(block):
            own[partition].append(part)
    for partition in sorted(own):
        for batch in _filled(own[partition], most_bytes):
            yield partition, batch


class _Part(NamedTuple):
    """The signals of a block that belong to one partition."""

    block: SignalBlock
    order: NDArray[np.intp]  # which they are
    bytes: int  # that they take at most


def _parts(block: SignalBlock) -> Iterator[tuple[int, _Part]]:
    partitions = int(block.partition.max()) + 1
    order, (counts, sizes) = np.empty(len(block.row), np.int64), np.zeros((2, partitions), np.int64)
    by_partition(block.partition, block.ends, block.key_ends, block.row, order, counts, sizes)
    last = 0
    for partition, (count, size) in enumerate(zip(counts.tolist(), sizes.tolist(), strict=True)):
        if count:
            first, last = last, last + count
            yield partition, _Part(block, order[first:last], size)


def _filled(parts: Sequence[_Part], most_bytes: int) -> Iterator[RecordBatch]:
    """Batch after batch, in order."""
    left = sum(part.bytes for part in parts)
    buffer, at, records, times = _room(left, most_bytes), _HEADER.size, 0, (0, 0)
    for block, order, _ in parts:
        done = 0
        while done < len(order):
            time_ms = block.close_time_ms[order[done:]]
            first_ms = times[0] if records else int(time_ms[0])
            begun = done
            done, at = lay_out(
                buffer, at, order, done, records, first_ms, block.text, block.ends, block.keys, block.key_ends,
                block.row, block.close_time_ms,
            )  # fmt: skip
            fitted = done - begun
            if fitted:
                newest_ms = int(time_ms[:fitted].max())
                times = first_ms, max(newest_ms, times[1]) if records else newest_ms
            records += fitted
            if done < len(order):
                if not records:
                    raise CandlewickError(f"a signal does not fit into a batch of {most_bytes:,} bytes")
                yield RecordBatch(buffer[:at], records, *times)
                left -= at - _HEADER.size
                buffer, at, records = _room(left, most_bytes), _HEADER.size, 0
    if records:
        yield RecordBatch(buffer[:at], records, *times)


def _room(most: int, most_bytes: int) -> NDArray[np.uint8]:
    return np.empty(min(_HEADER.size + most, most_bytes), np.uint8)
