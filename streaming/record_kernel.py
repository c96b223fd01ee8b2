"""Records laid out as Kafka wants them in a batch, and found again in one, without an object for any of them.

Enters: keys and values side by side, or a batch. Leaves: their bytes in a batch, or where they lie in it. Does not
know: the batch's own header, partitions.

Source: Kafka's protocol guide, "Record Batch" and "Record", version 2: numbers are zigzag varints of Protocol Buffers.
"""

from __future__ import annotations

import numpy as np

from models.compiled import U, compiled, helper

FRAMING = 31
"""Bytes of a record around key and value, at most: an attribute, a count of headers, five numbers of 1 to 10 bytes."""


@helper
def _size(number):
    """Bytes of a number of 0 or more."""
    left, size = number << 1, 1
    while left >= 128:
        left, size = left >> 7, size + 1
    return size


@helper
def _write(out, at, number):
    """Write a number, and say where it ends."""
    left = np.uint64(number << 1) ^ np.uint64(number >> 63)
    while left >= np.uint64(128):
        out[at] = np.uint8(left & np.uint64(127)) | np.uint8(128)
        left, at = left >> np.uint64(7), at + 1
    out[at] = np.uint8(left)
    return at + 1


@helper
def _copy(out, at, text, first, last):
    here, there = U(at), U(first)
    for i in range(U(last - first)):
        out[here + i] = text[there + i]
    return at + last - first


@compiled("void(i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1])")
def by_partition(partition, ends, key_ends, row, order, counts, sizes):
    """Sort records by their partition; within one they keep their order.

    Args:
        partition: (n,) of each record, below P.
        ends: (n,) where each value ends; key_ends: where each key ends; row: (n,) which key is a record's own.
        order: (n,) gets the records, partition by partition.
        counts: (P,) 0, gets how many records each partition has.
        sizes: (P,) 0, gets how many bytes they take at most.
    """
    for i in range(U(len(partition))):
        which, own = U(partition[i]), row[i]
        counts[which] += 1
        value_starts, key_starts = ends[i - U(1)] if i else 0, key_ends[own - 1] if own else 0
        sizes[which] += ends[i] - value_starts + key_ends[own] - key_starts + FRAMING
    next_at = np.cumsum(counts) - counts
    for i in range(U(len(partition))):
        which = U(partition[i])
        order[U(next_at[which])] = i
        next_at[which] += 1


@compiled(
    "UniTuple(i8, 2)(u1[::1], i8, i8[::1], i8, i8, i8, u1[::1], i8[::1], Array(u1, 1, 'C', readonly=True), i8[::1], "
    "i8[::1], i8[::1])"
)
def lay_out(out, at, order, first, begun, base_ms, text, ends, keys, key_ends, row, time_ms):
    """Lay out records until one does not fit any more.

    Args:
        out: the batch (uint8).
        at: where they go.
        order: (m,) which of the records, in their order.
        first: place in `order` of the first one.
        begun: how many the batch holds already.
        base_ms: time stamp of the first record of the batch.
        text: values of all records side by side; ends: where each ends.
        keys: keys of all series side by side; key_ends: where each ends; row: (n,) which one is a record's own.
        time_ms: (n,) time stamps.

    Returns:
        the place in `order` of the first that did not fit, and where the last one that did ends.
    """
    for place in range(first, len(order)):
        i = order[place]
        value_starts, key_starts = ends[i - 1] if i else 0, key_ends[row[i] - 1] if row[i] else 0
        value_size, key_size = ends[i] - value_starts, key_ends[row[i]] - key_starts
        moved_ms, number = time_ms[i] - base_ms, begun + place - first
        zigzag_ms = moved_ms if moved_ms >= 0 else -moved_ms - 1  # as long as its mirror image
        size = 2 + _size(zigzag_ms) + _size(number) + _size(key_size) + key_size + _size(value_size) + value_size
        if at + _size(size) + size > len(out):
            return place, at
        at = _write(out, at, size)
        out[at] = 0  # attributes
        at = _write(out, at + 1, moved_ms)
        at = _write(out, at, number)
        at = _write(out, at, key_size)
        at = _copy(out, at, keys, key_starts, key_starts + key_size)
        at = _write(out, at, value_size)
        at = _copy(out, at, text, value_starts, value_starts + value_size)
        out[at] = 0  # headers
        at += 1
    return len(order), at


MALFORMED = -1


@helper
def _read(data, at, stop):
    """A number, and where it ends; MALFORMED where it does not within bounds."""
    number, shift = U(0), U(0)
    while at < stop and shift < U(64):
        byte = U(data[U(at)])
        at += 1
        number |= (byte & U(127)) << shift
        shift += U(7)
        if byte < U(128):
            return np.int64(number >> U(1)) ^ -np.int64(number & U(1)), at
    return np.int64(0), MALFORMED


@compiled("b1(Array(u1, 1, 'C', readonly=True), i8, i8, i8, i8, i8[:], i8[:, :])")
def find_records(data, at, stop, base_offset, last_delta, offsets, places):
    """Find the records of a batch.

    Args:
        data: what was fetched (uint8); the records begin at `at` and end at `stop`.
        base_offset: of the batch; last_delta: from it to the offset of its last record.
        offsets: (n,) gets the offset of each of its n records. What the records say of it counts only where some
            were compacted away: a broker does not look at what a producer wrote there.
        places: (6, n) gets where each key begins and ends, each value, and each record as a whole; of a key or value
            that is not there the end comes before the beginning.

    Returns:
        whether the batch is well formed.
    """
    whole = len(offsets) == last_delta + 1
    for i in range(U(len(offsets))):
        places[U(4), i] = at
        size, at = _read(data, at, stop)
        if at < 0 or size < 0 or size > stop - at:  # a sum might overflow
            return False
        end = at + size
        _, at = _read(data, at + 1, end)  # after the attributes: its time
        if at < 0:
            return False
        number, at = _read(data, at, end)
        if at < 0:
            return False
        offsets[i] = base_offset + (i if whole else number)
        for which in range(U(0), U(4), U(2)):  # key, value
            size, at = _read(data, at, end)
            if at < 0 or size > end - at:
                return False
            size = max(size, -1)  # below 0: it is not there
            places[which, i] = at
            places[which + U(1), i] = at + size
            at += max(size, 0)
        places[U(5), i] = end
        at = end  # past its headers
    return at == stop
