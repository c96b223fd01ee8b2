"""Fetched records as they lie in what Kafka sent, where aiokafka makes three Python objects of every record.

Enters: what a consumer has fetched. Leaves: where keys and values lie. Does not know: what they say.

This reaches into aiokafka, which the project holds to one minor version, and keeps to what its `PartitionRecords` does:
checksums, control batches, aborted transactions, the offsets it goes on from. What is compressed, or in the format
before Kafka 0.11, is left to that one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from numpy.typing import NDArray

from models.decode import Records
from streaming.record_kernel import find_records

_BEGIN, _REST = struct.Struct(">qiib"), struct.Struct(">Ihiqqqhii")
"""Base offset, length, leader epoch and magic, which batches of every format begin with; the rest of a header since
Kafka 0.11: CRC, attributes, last offset, first and newest time, producer, its epoch, sequence, count."""
_FRAME, _CHECKED_FROM = 12, 21  # bytes before those that the length counts; before those that the checksum covers
_MAGIC = 2
_COMPRESSION, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20
_NO_PRODUCER = -1
_ABORT = b"\0\0"
"""Type of a control record, after two bytes of version."""
_PLACES = 6


class Found(NamedTuple):
    """Records of one partition, as they lie in what was fetched."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]  # (n,)
    places: NDArray[np.int64]  # (6, n): begin and end of the key, of the value, of the whole record
    end: int  # the offset after all of it, control batches included

    def take(self, first: int, last: int) -> Found:
        """Some of them; their end is before the next one that is left."""
        end = self.end if last == len(self.offsets) else int(self.offsets[last])
        return Found(self.data, self.offsets[first:last], self.places[:, first:last], end)


class Waiting:
    """What was fetched of one partition and not yet taken."""

    def __init__(self, records: Any) -> None:
        """`records` is aiokafka's `PartitionRecords`, of which nothing was taken yet.

        Raises:
            CorruptRecordException: a checksum is wrong, or a batch is not well formed.
        """
        self._found = found_in(records)
        self._taken = int(np.searchsorted(self._found.offsets, records.next_fetch_offset))

    def take(self, wanted: int) -> tuple[Found, bool]:
        """At most so many, and whether these were all."""
        first, last = self._taken, min(self._taken + wanted, len(self._found.offsets))
        self._taken = last
        return self._found.take(first, last), last == len(self._found.offsets)


class _Kept(MemoryRecords):
    """aiokafka's batches, with the bytes they are read from."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


def side_by_side(found: Mapping[TopicPartition, Found], resumes: Mapping[int, int]) -> Records:
    """Records of several partitions as one batch; `resumes` is from where on those of a partition speak."""
    pieces, places, partitions, speaks, ends = [], [], [], [], 0
    for tp, each in found.items():
        first, last = int(each.places[4, 0]), int(each.places[5, -1])
        pieces.append(each.data[first:last])
        places.append(each.places[:4] + (ends - first))
        partitions.append(np.full(len(each.offsets), tp.partition))
        speaks.append(each.offsets >= resumes[tp.partition])
        ends += last - first
    offsets = np.concatenate([each.offsets for each in found.values()])
    text, columns = np.concatenate(pieces), np.concatenate(places, axis=1)
    return Records(text, columns, np.concatenate(partitions), offsets, np.concatenate(speaks))


def keep_bytes() -> None:
    """From now on, every consumer of this process keeps the bytes that it reads records from."""
    fetcher.MemoryRecords = _Kept


def take_waiting(records: Any, wanted: int) -> tuple[Found, bool]:
    """Take so many of a `PartitionRecords`, which is looked through once; whether these were all.

    Raises:
        CorruptRecordException: a checksum is wrong, or a batch is not well formed.
    """
    if not hasattr(records, "waiting"):
        records.waiting = Waiting(records)
        # It and its owner hold each other, and with them a megabyte that would wait for the garbage collector.
        records._records_iterator = None
    taken, was_all = records.waiting.take(wanted)
    records.next_fetch_offset = max(records.next_fetch_offset, taken.end)
    return taken, was_all


class _Batch(NamedTuple):
    at: int  # of its first record
    stop: int
    base_offset: int
    end: int  # offset after its last record
    attributes: int
    producer_id: int
    records: int


def found_in(records: Any) -> Found:
    """All records of a `PartitionRecords`.

    Raises:
        CorruptRecordException: a checksum is wrong, or a batch is not well formed.
    """
    data = np.frombuffer(records._records.data, np.uint8)
    batches = list(_batches(data, records))
    if any(batch.attributes < 0 or batch.attributes & _COMPRESSION for batch in batches):
        return _copied(records)
    wanted = list(_wanted(data, batches, records))
    count = sum(batch.records for batch in wanted)
    offsets, places, first = np.empty(count, np.int64), np.empty((_PLACES, count), np.int64), 0
    for batch in wanted:
        own = slice(first, first + batch.records)
        if not _find(data, batch, offsets[own], places[:, own]):
            raise CorruptRecordException(f"malformed batch - {records._tp}@{batch.base_offset}")
        first += batch.records
    return Found(data, offsets, places, batches[-1].end if batches else records.next_fetch_offset)


def _find(data: NDArray[np.uint8], batch: _Batch, offsets: NDArray[np.int64], places: NDArray[np.int64]) -> bool:
    last_delta = batch.end - 1 - batch.base_offset
    return bool(find_records(data, batch.at, batch.stop, batch.base_offset, last_delta, offsets, places))


def _batches(data: NDArray[np.uint8], records: Any) -> Iterator[_Batch]:
    """What is whole; a fetch may end in the midst of a batch. Attributes are -1 in the old format."""
    at = 0
    while at + _BEGIN.size <= len(data):
        base, length, _, magic = _BEGIN.unpack_from(data.data, at)
        stop = at + _FRAME + length
        if stop > len(data):
            return
        if magic < _MAGIC:
            yield _Batch(at, stop, base, base + 1, -1, _NO_PRODUCER, 0)
            at = stop
            continue
        first = at + _BEGIN.size + _REST.size
        if first > stop:
            raise CorruptRecordException(f"malformed batch - {records._tp}@{base}")
        crc, attributes, last, _, _, producer, _, _, count = _REST.unpack_from(data.data, at + _BEGIN.size)
        if records._check_crcs and google_crc32c.value(data[at + _CHECKED_FROM : stop]) != crc:
            raise CorruptRecordException(f"Invalid CRC - {records._tp}@{base}")
        yield _Batch(first, stop, base, base + last + 1, attributes, producer, count)
        at = stop


def _wanted(data: NDArray[np.uint8], batches: list[_Batch], records: Any) -> Iterator[_Batch]:
    """Those that hold records: neither control batches nor, where only what is committed counts, aborted ones."""
    aborted, producers = list(records._aborted_transactions), set()
    for batch in batches:
        control = bool(batch.attributes & _CONTROL)
        if records._isolation_level == READ_COMMITTED and batch.producer_id != _NO_PRODUCER:
            while aborted and aborted[0][1] <= batch.base_offset:
                producers.add(aborted.pop(0)[0])
            if control and _is_abort(data, batch):
                producers.discard(batch.producer_id)
            if batch.attributes & _TRANSACTIONAL and batch.producer_id in producers:
                continue
        if not control:
            yield batch


def _is_abort(data: NDArray[np.uint8], batch: _Batch) -> bool:
    offsets, places = np.empty(1, np.int64), np.empty((_PLACES, 1), np.int64)
    if not _find(data, batch, offsets, places):
        raise CorruptRecordException(f"malformed control batch @{batch.base_offset}")
    key = int(places[0, 0])
    return data[key + 2 : key + 4].tobytes() == _ABORT


def _copied(records: Any) -> Found:
    """What aiokafka itself unpacks, one by one."""
    first = records.next_fetch_offset
    records._consumer_record = lambda _, record: record
    unpacked = list(records._unpack_records())
    end, records.next_fetch_offset = records.next_fetch_offset, first
    pieces = [piece or b"" for record in unpacked for piece in (record.key, record.value)]
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64).reshape(-1, 2).T
    sizes = np.array([len(piece) for piece in pieces], np.int64).reshape(-1, 2).T
    places = np.empty((_PLACES, len(unpacked)), np.int64)
    places[0:4:2], places[1:4:2] = ends - sizes, ends
    places[4], places[5] = places[0], places[3]
    for row, missing in ((1, [r.key is None for r in unpacked]), (3, [r.value is None for r in unpacked])):
        places[row] -= np.array(missing, np.int64)
    offsets = np.array([record.offset for record in unpacked], np.int64)
    return Found(np.frombuffer(b"".join(pieces), np.uint8), offsets, places, end)
