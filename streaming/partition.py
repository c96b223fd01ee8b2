"""Where a series lives: Java's murmur2 over its key, so that every Kafka client puts it into the same partition."""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """The partition number of a key (librdkafka's default differs)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
