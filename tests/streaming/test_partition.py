"""Where keys live, held against the vectors of Kafka's own Java client (its `UtilsTest`)."""

from __future__ import annotations

import pytest

from streaming.partition import partition_of

KAFKAS_OWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""Key to murmur2 as a signed number of 32 bits."""


@pytest.mark.parametrize("key", KAFKAS_OWN)
def test_partition_of_a_key_is_the_one_of_every_java_client(key: bytes) -> None:
    positive = KAFKAS_OWN[key] & 0x7FFFFFFF  # as in Java's `Utils.toPositive`
    assert partition_of(key, 1 << 31) == positive
    assert partition_of(key, 7) == positive % 7
