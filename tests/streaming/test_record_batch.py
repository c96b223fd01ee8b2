"""What is sent is what aiokafka's own builder would have sent, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from models.errors import CandlewickError
from models.events import Message
from models.signal_block import SignalBlock
from streaming.record_batch import RecordBatch, batches_of
from tests.models.candle_records import laws

KEYS = [b"binance|BTC/USDT|1m", b"x|Y|5m", b"kraken|" + b"L" * 200 + b"|1h"]


def block_of(
    rows: Sequence[int], partitions: Sequence[int], values: Sequence[bytes], times: Sequence[int]
) -> SignalBlock:
    return SignalBlock(
        np.frombuffer(b"".join(values), np.uint8).copy(), np.cumsum([len(value) for value in values], dtype=np.int64),
        np.frombuffer(b"".join(KEYS), np.uint8), np.cumsum([len(key) for key in KEYS]),
        np.array(rows, np.intp), np.array(partitions, np.int64), np.array(times, np.int64),
    )  # fmt: skip


def built_by_aiokafka(messages: Sequence[Message]) -> bytes:
    """By a producer with a sequence."""
    builder = BatchBuilder(1 << 20, 0)
    for message in messages:
        builder.append(key=message.key, value=message.value, timestamp=message.timestamp_ms)
    builder._set_producer_state(77, 3, 1_000)
    return bytes(builder._build())


def built(batch: RecordBatch) -> bytes:
    batch._set_producer_state(77, 3, 1_000)
    once = bytes(batch._build())
    assert bytes(batch._build()) == once  # it is sent again where an answer was lost
    assert batch.size() == len(once)
    return once


def assert_as_aiokafka(blocks: Sequence[SignalBlock], most_bytes: int) -> None:
    """Each batch is within bounds, and what aiokafka makes of the next so many messages of its partition."""
    left = {part: [m for block in blocks for m in block.messages(part)] for part in range(5)}
    for partition, batch in batches_of(blocks, most_bytes):
        count = batch.record_count()
        messages, left[partition] = left[partition][:count], left[partition][count:]
        sent = built(batch)
        assert sent == built_by_aiokafka(messages)
        assert len(sent) <= most_bytes
        after = left[partition][:1]
        assert not after or len(built_by_aiokafka(messages + after)) > most_bytes
    assert not any(left.values())


record = st.tuples(
    st.integers(0, 2), st.integers(0, 3), st.sampled_from([b"{}", b"v" * 63, b"v" * 64, b"w" * 900, b"z" * 9_000]),
    st.sampled_from([0, 1_700_000_000_000, 1_700_000_060_000, 1_699_999_999_937, 2**53]),
)  # fmt: skip


@laws
@given(blocks=st.lists(st.lists(record, min_size=1, max_size=12), max_size=4))
def test_batches_are_those_of_aiokafka(blocks: list[list[tuple[int, int, bytes, int]]]) -> None:
    assert_as_aiokafka([block_of(*zip(*records, strict=True)) for records in blocks], 1 << 20)


@pytest.mark.parametrize("most_bytes", [1_061, 1_500, 4_000, 60_000])
def test_batches_that_do_not_hold_all_go_on_where_they_ended(most_bytes: int) -> None:
    n = 300
    times = [1_700_000_000_000 + i // 7 * 60_000 for i in range(n)]
    sizes = [3 * i % 900 for i in range(n)]
    blocks = [
        block_of([i % 2 for i in range(n)], [i % 5 for i in range(n)], [b"v" * size for size in sizes], times)
    ] * 2
    assert_as_aiokafka(blocks, most_bytes)


def test_batch_of_a_signal_that_never_fits_says_so() -> None:
    block = block_of([0, 0], [1, 1], [b"small", b"v" * 2_000], [0, 0])
    with pytest.raises(CandlewickError, match="does not fit into a batch of 1,000 bytes"):
        list(batches_of([block], 1_000))


def test_batches_of_nothing_are_none() -> None:
    assert list(batches_of([], 1_000)) == []
