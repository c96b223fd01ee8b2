"""What is found in fetched bytes is what aiokafka itself would have unpacked from them."""

from __future__ import annotations

import gc
import struct
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streaming.raw_records import Waiting, _Kept, side_by_side, take_waiting
from tests.models.candle_records import laws

TP = TopicPartition("candles", 3)
GZIP = 1
CODECS = {"gzip": GZIP, "snappy": 2, "lz4": 3, "zstd": 4}
COMMIT, ABORT = struct.pack(">hh", 0, 1), struct.pack(">hh", 0, 0)
Record = tuple[bytes | None, bytes | None]


def batch_of(
    base_offset: int, records: Sequence[Record], compression: int = 0, transactional: bool = False, producer: int = -1
) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=compression, is_transactional=transactional, producer_id=producer,
        producer_epoch=0, base_sequence=0, batch_size=1 << 20,
    )  # fmt: skip
    for at, (key, value) in enumerate(records):
        builder.append(at, 1_700_000_000_000 + at, key, value, [("trace", b"x")] if at % 3 == 0 else [])
    return at_offset(bytes(builder.build()), base_offset)


def control_of(base_offset: int, producer: int, key: bytes) -> bytes:
    """The end of a transaction, as a broker writes it."""
    built = bytearray(batch_of(base_offset, [(key, b"\0\0\0\0\0\0")], transactional=True, producer=producer))
    built[22] |= 0x20  # control
    return with_checksum(built)


def with_checksum(batch: bytearray) -> bytes:
    from aiokafka.record.util import calc_crc32c

    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return bytes(batch)


def at_offset(batch: bytes, base_offset: int) -> bytes:
    return struct.pack(">q", base_offset) + batch[8:]


def fetched(
    data: bytes, first: int = 0, aborted: Sequence[tuple[int, int]] = (), level: int = READ_COMMITTED
) -> PartitionRecords:
    return PartitionRecords(TP, _Kept(data), list(aborted), first, None, None, True, level)


def unpacked(*arguments: Any) -> tuple[list[tuple[int, bytes | None, bytes | None]], int]:
    """By aiokafka; and the offset it goes on from."""
    records = fetched(*arguments)
    return [(r.offset, r.key, r.value) for r in records], records.next_fetch_offset


def found(*arguments: Any, wanted: int = 1 << 30) -> tuple[list[tuple[int, bytes | None, bytes | None]], int]:
    """By ours, so many at a time."""
    records = fetched(*arguments)
    taken, was_all = [], False
    while not was_all:
        each, was_all = take_waiting(records, wanted)
        assert records.next_fetch_offset >= each.end
        if len(each.offsets):
            batch = side_by_side({TP: each}, {3: 0})
            offsets = enumerate(batch.offsets.tolist())
            taken += [(offset, batch.key(at), batch.value(at)) for at, offset in offsets]
    return taken, records.next_fetch_offset


PLAIN = batch_of(10, [(b"k%d" % i, b"v" * i) for i in range(100)])
NULLS = batch_of(110, [(None, b"value"), (b"key", None), (None, None), (b"", b""), (b"k", b"v")])
PACKED = batch_of(115, [(b"k%d" % i, None if i == 5 else b"v" * i) for i in range(9)], compression=GZIP)
OPEN = batch_of(124, [(b"a", b"kept"), (b"b", b"kept")], transactional=True, producer=7)
UNDONE = batch_of(126, [(b"a", b"undone")] * 3, transactional=True, producer=8)
COMMITTED, ABORTED = control_of(129, 7, COMMIT), control_of(130, 8, ABORT)
AGAIN = batch_of(131, [(b"c", b"kept")], transactional=True, producer=8)
LOG = PLAIN + NULLS + OPEN + UNDONE + COMMITTED + ABORTED + AGAIN
UNDONE_FROM = [(8, 126)]


@pytest.mark.parametrize("wanted", [1, 7, 1_000])
@pytest.mark.parametrize("level", [READ_COMMITTED, READ_UNCOMMITTED])
@pytest.mark.parametrize("data", [LOG, LOG[:-1], PLAIN[:-1] + b"", PLAIN, NULLS, PLAIN + NULLS + PACKED + AGAIN, b""])
def test_found_records_are_those_of_aiokafka(data: bytes, level: int, wanted: int) -> None:
    arguments = (data, 0, UNDONE_FROM, level)
    assert found(*arguments, wanted=wanted) == unpacked(*arguments)


def test_aborted_records_are_seen_by_those_alone_who_ask_for_them() -> None:
    values = [value for _, _, value in found(LOG, 0, UNDONE_FROM, READ_COMMITTED)[0]]
    assert b"undone" not in values
    assert values.count(b"kept") == 3
    assert [value for _, _, value in found(LOG, 0, UNDONE_FROM, READ_UNCOMMITTED)[0]].count(b"undone") == 3


@pytest.mark.parametrize("first", [10, 11, 57, 109])
@pytest.mark.parametrize("wanted", [1, 1_000])
def test_found_records_begin_where_the_fetch_began_though_a_batch_begins_before(first: int, wanted: int) -> None:
    arguments = (LOG, first, UNDONE_FROM)
    assert found(*arguments, wanted=wanted) == unpacked(*arguments)


def test_found_records_of_a_compacted_log_keep_its_offsets() -> None:
    data = batch_of(5, [(b"a", b"1"), (b"b", b"2")]) + batch_of(40, [(b"c", b"3")])
    assert [offset for offset, _, _ in found(data)[0]] == [5, 6, 40]


def test_found_records_of_the_old_format_are_those_of_aiokafka() -> None:
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 16)
    for at in range(4):
        builder.append(at, timestamp=1_700_000_000_000, key=b"k", value=b"v" * at)
    data = bytes(builder.build())
    assert found(data) == unpacked(data)


@pytest.mark.parametrize("codec", CODECS)
def test_found_records_of_every_codec_that_a_producer_may_use_are_read(codec: str) -> None:
    """Also our own producers' records come so where the topic's `compression.type` asks for it."""
    records = [(b"k%d" % i, b"value" * i) for i in range(50)]
    read, end = found(batch_of(7, records, compression=CODECS[codec]))
    assert read == [(7 + at, *record) for at, record in enumerate(records)]
    assert end == 57


@laws
@given(at=st.integers(12, len(PLAIN) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_out(at: int, bit: int) -> None:
    """Whatever was changed after the length: the checksum is wrong, or the format is another."""
    broken = bytearray(PLAIN)
    broken[at] ^= 1 << bit
    try:
        records, _ = found(bytes(broken))
    except CorruptRecordException:
        return
    assert at < 17  # leader epoch and format: outside the checksum
    assert records == unpacked(bytes(broken))[0]


@laws
@given(at=st.integers(61, len(NULLS) - 1), value=st.integers(0, 255))
def test_a_batch_that_lies_about_its_lengths_is_refused_or_stays_within_itself(at: int, value: int) -> None:
    """Its checksum is right, so only the lengths speak."""
    forged = bytearray(NULLS)
    forged[at] = value
    try:
        records, _ = found(with_checksum(forged))
    except CorruptRecordException:
        return
    assert len(records) <= 5  # one of an offset before the fetch is left out
    assert all(len(piece or b"") < len(NULLS) for _, key, text in records for piece in (key, text))


@pytest.mark.parametrize("at", [61, 62, 63, 64, 65, 70])
@pytest.mark.parametrize("length", [2**63 - 1, 2**62, 2**40])
def test_a_length_beyond_all_bounds_is_refused(at: int, length: int) -> None:
    """It must not come back within them by overflow."""
    with pytest.raises(CorruptRecordException):
        found(of_length(NULLS[:at] + varint(length) + NULLS[at:]))


@pytest.mark.parametrize("length", [-1, -2, -(2**40), -(2**63)])
def test_a_length_below_nought_is_none_and_no_end_of_the_stream(length: int) -> None:
    """A broker takes such a record, so it must become a dead letter like any other."""
    no_key = record_of(0, varint(length) + varint(1) + b"v")
    no_value = record_of(1, varint(1) + b"k" + varint(length))
    data = of_length(batch_of(7, [(b"", b"")] * 2)[:61] + no_key + no_value)
    assert found(data) == ([(7, None, b"v"), (8, b"k", None)], 9)


@pytest.mark.parametrize(("first", "second"), [(-5, 1), (0, 0), (0, 2**40), (1, 0), (2**31, 3)])
def test_offsets_that_a_producer_made_up_come_out_ascending_within_the_batch(first: int, second: int) -> None:
    """A broker does not look at them: a record before the fetch would be lost unseen, one far ahead skip all."""
    value = varint(1) + b"k" + varint(1) + b"v"
    data = of_length(batch_of(7, [(b"", b"")] * 2)[:61] + record_of(first, value) + record_of(second, value))
    offsets, end = [offset for offset, _, _ in found(data)[0]], found(data, wanted=1)[1]
    assert offsets == [7, 8]
    assert end == 9


def varint(number: int) -> bytes:
    zigzag, written = ((number << 1) ^ (number >> 63)) & (2**64 - 1), bytearray()
    while zigzag >= 128:
        written.append(zigzag & 127 | 128)
        zigzag >>= 7
    return bytes([*written, zigzag])


def record_of(delta: int, key_and_value: bytes) -> bytes:
    inner = b"\0" + varint(0) + varint(delta) + key_and_value + varint(0)
    return varint(len(inner)) + inner


def of_length(data: bytes) -> bytes:
    """A batch again after its records were changed."""
    forged = bytearray(data)
    struct.pack_into(">i", forged, 8, len(forged) - 12)
    return with_checksum(forged)


@pytest.mark.parametrize("magic", [0, 1])
def test_a_record_of_the_old_format_that_is_shorter_than_todays_header_is_found(magic: int) -> None:
    builder = LegacyRecordBatchBuilder(magic=magic, compression_type=0, batch_size=1 << 16)
    builder.append(0, timestamp=1_700_000_000_000, key=None, value=b"x")
    data = bytes(builder.build())
    assert len(data) < 61
    assert found(data) == unpacked(data) == ([(0, None, b"x")], 1)


@pytest.mark.parametrize("length", [5, 48])
def test_a_batch_shorter_than_its_own_header_is_refused(length: int) -> None:
    with pytest.raises(CorruptRecordException):
        found(PLAIN[:8] + struct.pack(">i", length) + PLAIN[12:])


def test_records_of_several_partitions_lie_side_by_side() -> None:
    other = TopicPartition("candles", 9)
    here, there = Waiting(fetched(PLAIN)).take(5)[0], Waiting(fetched(NULLS)).take(2)[0]
    batch = side_by_side({TP: here, other: there}, {3: 12, 9: 0})
    assert batch.partitions.tolist() == [3] * 5 + [9] * 2
    assert batch.offsets.tolist() == [10, 11, 12, 13, 14, 110, 111]
    assert batch.speaks.tolist() == [False, False, True, True, True, True, True]
    assert [batch.key(at) for at in range(7)] == [b"k0", b"k1", b"k2", b"k3", b"k4", None, b"key"]
    assert [batch.value(at) for at in range(7)] == [b"", b"v", b"vv", b"vvv", b"vvvv", b"value", None]
    assert batch.text.dtype == np.uint8


def test_what_was_taken_is_let_go_without_the_garbage_collector() -> None:
    """A batch is a megabyte, and a worker looks for cycles seldom."""
    gc.disable()
    try:
        records = fetched(PLAIN)
        gone = weakref.ref(records)
        take_waiting(records, 1_000)
        del records
        assert gone() is None
    finally:
        gc.enable()
