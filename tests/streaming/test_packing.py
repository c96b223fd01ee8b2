from __future__ import annotations

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest_v7

from models.events import Message
from streaming.packing import _fill
from streaming.produce_request import _encode

MESSAGES = [Message(b"key-%d" % i, b"v" * i, 1_700_000_000_000 + i * 60_000) for i in range(300)]


@pytest.mark.parametrize("transactional_id", [None, "predict-ä"])
def test_encode_of_a_produce_request_gives_the_bytes_of_aiokafka(transactional_id: str | None) -> None:
    topics = [("signals", [(0, b"abc"), (7, bytearray(b"de"))]), ("dead-letters", []), ("é", [(3, b"")])]
    request = ProduceRequest_v7(transactional_id, -1, 30_000, topics)
    assert b"".join(_encode(request).pieces) == request.SCHEMA.encode(
        [getattr(request, name) for name in request.SCHEMA.names]
    )


@pytest.mark.parametrize("first", [0, 1, 299])
def test_fill_packs_the_records_that_append_packs(first: int) -> None:
    packed, plain = BatchBuilder(1 << 20, 0), BatchBuilder(1 << 20, 0)
    assert _fill(packed, MESSAGES, first) == 300 - first
    for message in MESSAGES[first:]:
        plain.append(key=message.key, value=message.value, timestamp=message.timestamp_ms)
    assert packed.record_count() == plain.record_count()
    assert packed._build() == plain._build()


def test_fill_of_a_full_batch_says_how_many_fitted() -> None:
    packed, plain = BatchBuilder(2_000, 0), BatchBuilder(2_000, 0)
    fitted = _fill(packed, MESSAGES, 0)
    while plain.append(key=(m := MESSAGES[plain.record_count()]).key, value=m.value, timestamp=m.timestamp_ms):
        pass
    assert 0 < fitted == plain.record_count() < len(MESSAGES)
