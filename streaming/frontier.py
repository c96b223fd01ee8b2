"""Up to which candle all signals are known to exist.

Enters: what `predict` committed, and where `signals` ends. Leaves: one offset of each a partition. Does not know: what
lies at them.

Who says that no more signals of a candle will come? `predict`, which commits a candle once its signals are
acknowledged. So its commits are looked up, and after them where `signals` ends: who has read so far has all signals of
the candles below the commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streaming.committed import committed_offsets
from streaming.settings import Settings


class Frontier(NamedTuple):
    """All signals of candles below the one offset lie below the other."""

    candles: int
    signals: int
    logged: int  # where candles ends: those of the signals lie below


async def frontiers(
    settings: Settings, admin: AIOKafkaAdminClient, lookup: AIOKafkaConsumer, known: Mapping[int, int]
) -> dict[int, Frontier]:
    """By partition, how far `predict` has come.

    Args:
        settings: name the group and the topics.
        admin: asked for the commits.
        lookup: a consumer that does not fetch; asked for the end of `signals`.
        known: by partition, the offset of candles that is known already; only what lies beyond is given.
    """
    if not known:
        return {}
    candles, signals = ([TopicPartition(settings.topic(name), p) for p in known] for name in ("candles", "signals"))
    committed = await committed_offsets(admin, settings.group("predict"), candles)
    ends = await lookup.end_offsets(signals)  # asked later: the signals of what was committed lie before
    logged = await lookup.end_offsets(candles)  # asked last: the candles of those signals lie before
    done = {tp.partition: offset.offset for tp, offset in committed.items()}
    return {
        of.partition: Frontier(done[of.partition], ends[tp], logged[of])
        for of, tp in zip(candles, signals, strict=True)
        if done.get(of.partition, -1) > known[of.partition]
    }
