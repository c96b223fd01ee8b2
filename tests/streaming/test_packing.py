from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest_v7

from models.errors import CandlewickError
from models.events import Message
from streaming import packing
from streaming.packing import _fill, send_packed
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


class Crowded:
    """A producer that takes a batch only after so many times of its own patience."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(1 << 20, 0)

    async def send_batch(self, *_: Any, **__: Any) -> asyncio.Future[Any]:
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise KafkaTimeoutError
        return asyncio.get_running_loop().create_future()


def test_send_packed_waits_for_room_beyond_the_patience_of_aiokafka() -> None:
    (ack,) = asyncio.run(send_packed(Crowded(refusals=3), "signals", 0, MESSAGES))
    assert ack.records == 300


def test_send_packed_where_room_never_comes_ends_and_asks_whether_kafka_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "ACK_TIMEOUT_S", 0.01)
    with pytest.raises(CandlewickError, match="is it up"):
        asyncio.run(send_packed(Crowded(refusals=-1), "signals", 0, MESSAGES))
