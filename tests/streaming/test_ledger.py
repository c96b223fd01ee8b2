"""The ledger on real Kafka: who opens it shuts out who had it, and what was left half-done is never seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from models.events import Candle, decode_candle
from models.series import Series
from streaming.embedded_kafka import BrokerConfig, EmbeddedKafka
from streaming.kafka_jars import default_cache
from streaming.ledger import Fenced, Ledger, Unacknowledged
from streaming.packing import acknowledged, send_packed
from streaming.read import read_topic
from streaming.settings import Settings
from streaming.topics import init_topics
from tests.e2e.system import run, settings_of

SYMBOLS = [f"S{i:02d}/USDT" for i in range(20)]
KEYS = [Series("binance", symbol, "1m").key for symbol in SYMBOLS]


def candle(symbol: str, slot: int, revision: int = 0) -> Candle:
    return Candle(
        exchange="binance", symbol=symbol, timeframe="1m", open_time_ms=slot * 60_000,
        close_time_ms=(slot + 1) * 60_000, open=1.0, high=2.0, low=0.5, close=1.5, volume=3.0 + revision,
        revision=revision, origin="live", received_at_ms=(slot + 1) * 60_000,
    )  # fmt: skip


def burst(slot: int) -> list[Candle]:
    return [candle(symbol, slot) for symbol in SYMBOLS]


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    found = settings_of(kafka.bootstrap, topic_prefix, tmp_path, partitions=4)
    run(init_topics(found))
    return found


async def held(settings: Settings) -> list[tuple[str, int]]:
    found = [decode_candle(record.value) async for record in read_topic(settings, "candles")]
    return sorted((each.symbol, each.open_time_ms // 60_000) for each in found)


def test_ledger_opened_again_gives_the_newest_candles_with_their_corrections(settings: Settings) -> None:
    async def scene() -> None:
        ledger = Ledger(settings, "binance", 8.0)
        assert await ledger.open(KEYS, 0) == {}
        for slot in range(70):
            await ledger.append(burst(slot))
        await ledger.append([candle(SYMBOLS[0], 68, revision=1)])
        tails = await ledger.open(KEYS, 0)
        await ledger.close()
        assert tails.keys() == set(KEYS)
        newest = tails[KEYS[0]]
        assert [each.open_time_ms // 60_000 for each in newest] == list(range(70 - 64, 70))
        assert [each.revision for each in newest[-2:]] == [1, 0]

    run(scene())


def test_ledger_opened_by_another_shuts_out_the_first(settings: Settings) -> None:
    async def scene() -> None:
        elder, heir = Ledger(settings, "binance", 8.0), Ledger(settings, "binance", 8.0)
        await elder.open(KEYS, 0)
        await elder.append(burst(0))
        tails = await heir.open(KEYS, 0)
        assert {key: tail[-1].open_time_ms for key, tail in tails.items()} == dict.fromkeys(KEYS, 0)
        with pytest.raises(Fenced, match="another process took over"):
            await elder.append(burst(1))
        with pytest.raises(Unacknowledged, match="not open"):
            await elder.append(burst(1))
        await heir.append(burst(1))
        await heir.close()
        assert await held(settings) == sorted((symbol, slot) for symbol in SYMBOLS for slot in (0, 1))

    run(scene())


def test_ledger_of_a_writer_that_died_in_a_burst_shows_nothing_of_it(settings: Settings) -> None:
    async def scene() -> None:
        dead, heir = Ledger(settings, "binance", 8.0), Ledger(settings, "binance", 8.0)
        await dead.open(KEYS, 0)
        await dead.append(burst(0))
        producer = dead._producer
        assert producer is not None
        await producer.begin_transaction()
        acks = []
        for partition, messages in dead._by_partition(burst(1)).items():
            acks += await send_packed(producer, settings.topic("candles"), partition, messages)
        await acknowledged(acks)  # Kafka has them all, and nobody said that the burst is whole
        tails = await heir.open(KEYS, 0)
        assert {tail[-1].open_time_ms for tail in tails.values()} == {0}
        await heir.append(burst(1))
        await asyncio.gather(dead.close(), heir.close())
        assert await held(settings) == sorted((symbol, slot) for symbol in SYMBOLS for slot in (0, 1))

    run(scene())


def test_ledgers_of_other_names_and_shards_leave_each_other_alone(settings: Settings) -> None:
    async def scene() -> None:
        first = Ledger(settings, "binance", 8.0)
        other = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"shard": "2/2"})})
        second = Ledger(other, "binance", 8.0)
        await first.open(KEYS, 0)
        await second.open(KEYS, 0)
        await first.append(burst(0))
        await second.append([candle("OTHER/USDT", 0)])
        await asyncio.gather(first.close(), second.close())

    run(scene())


def test_ledger_whose_kafka_went_away_leaves_nothing_that_goes_on(tmp_path: Path) -> None:
    """Else the producer it gave up would try for ever, until its successor shuts it out."""

    async def scene(broker: EmbeddedKafka, settings: Settings) -> None:
        ledger = Ledger(settings, "binance", 8.0)
        await ledger.open(KEYS, 0)
        await ledger.append(burst(0))
        broker.kill()
        ledger._timeout_s = 0.5
        with pytest.raises(Unacknowledged):
            await ledger.append(burst(1))
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in left if "Sender" in str(task.get_coro())], left

    with EmbeddedKafka(BrokerConfig(folder=tmp_path / "kafka", cache=default_cache())) as broker:
        settings = settings_of(broker.bootstrap, "away.", tmp_path, partitions=4)
        run(init_topics(settings))
        run(scene(broker, settings))
