"""Activations on a real broker: from which close they serve by default, and what compaction leaves of them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.activation import Timeline
from models.events import Candle, Origin, encode
from models.series import Series
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.model_log import ModelLog
from streaming.models_topic import LIVE_LEAD_MS, activate, next_close, publish
from streaming.read import read_topic
from streaming.settings import Settings
from tests.e2e.system import System, alter_topic, run
from tests.eventually import eventually
from tests.models.candle_records import make_candle
from tests.models.make_bundle import make_bundle

SECOND = Series("binance", "BTC/USDT", "1s")
COMPACTED_AT_ONCE = {
    "segment.ms": "1", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1", "file.delete.delay.ms": "1",
}  # fmt: skip


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=1) as system:
        return system.settings


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- from which close


async def write_candle(settings: Settings, close_ms: int, origin: Origin) -> None:
    candle = make_candle(SECOND, close_ms // 1_000, origin=origin)
    async with started(new_producer(settings)) as producer:
        await producer.send_and_wait(settings.topic("candles"), encode(candle), SECOND.key, partition=0)


@pytest.mark.parametrize("origin", ["live", "repaired"])
def test_next_close_of_what_is_live_lies_5_seconds_ahead_on_the_grid(settings: Settings, origin: Origin) -> None:
    begun_ms = now_ms()
    run(write_candle(settings, begun_ms // 1_000 * 1_000, origin))
    close_ms = run(next_close(settings, 1_000))
    assert LIVE_LEAD_MS == 5_000
    assert begun_ms + 5_000 <= close_ms < now_ms() + 6_000
    assert close_ms % 1_000 == 0


def test_next_close_of_a_live_weekly_series_is_a_monday(settings: Settings) -> None:
    """Multiples of a week since 1970 are Thursdays: a swap would come a week late."""
    weekly = Series("binance", "BTC/USDT", "1w")
    thursday_ms = 1_700_697_600_000  # 2023-11-23, three days after the newest close

    async def write() -> None:
        candle = Candle(
            exchange="binance", symbol="BTC/USDT", timeframe="1w", open_time_ms=1_699_833_600_000,
            close_time_ms=1_700_438_400_000, open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0, origin="live",
            received_at_ms=1_700_438_400_000,
        )  # fmt: skip
        async with started(new_producer(settings)) as producer:
            await producer.send_and_wait(settings.topic("candles"), encode(candle), weekly.key, partition=0)

    run(write())
    assert run(next_close(settings, weekly.timeframe_ms, lambda: thursday_ms)) == 1_701_043_200_000  # Monday 27th


def test_next_close_of_what_is_live_follows_its_newest_candle_where_that_is_further_ahead(settings: Settings) -> None:
    ahead_ms = now_ms() // 1_000 * 1_000 + 3_600_000
    run(write_candle(settings, ahead_ms, "live"))
    assert run(next_close(settings, 1_000)) == ahead_ms + 1_000


def test_next_close_of_a_replay_follows_its_newest_candle(settings: Settings) -> None:
    begun_ms = now_ms() // 1_000 * 1_000
    run(write_candle(settings, begun_ms, "replayed"))
    assert run(next_close(settings, 1_000)) == begun_ms + 1_000


# --- what stays on the topic


async def keys(settings: Settings) -> list[bytes]:
    return [record.key async for record in read_topic(settings, "models")]


async def mark(settings: Settings) -> None:
    """A record of one and the same key, which compaction leaves once; as the newest it lets others be compacted."""
    async with started(new_producer(settings)) as producer:
        await producer.send_and_wait(settings.topic("models"), b"", b"marker", partition=0)


async def timeline_of(settings: Settings) -> Timeline:
    """What a replica that starts now makes of the topic."""
    with ThreadPoolExecutor(1) as validators:
        models = ModelLog(settings, validators)
        async with models:
            return await models.fence()


def test_activations_of_one_bundle_have_keys_of_their_own(settings: Settings) -> None:
    sha256, _ = run(publish(settings, make_bundle(hidden=4, lookback=8)))
    for _ in range(2):
        run(activate(settings, sha256, "test", 0))
    activations = [key for key in run(keys(settings)) if key.startswith(b"activation/")]
    assert len(set(activations)) == len(activations) == 2


def test_replica_that_comes_after_compaction_decides_like_one_from_before(settings: Settings) -> None:
    run(alter_topic(settings, "models", COMPACTED_AT_ONCE))
    bundles = [run(publish(settings, make_bundle(seed, hidden=4, lookback=8)))[0] for seed in range(2)]
    for from_ms, bundle in enumerate([bundles[0], bundles[1], bundles[0]]):
        run(activate(settings, bundle, "test", 1_000 * from_ms))
    early = run(timeline_of(settings))

    marks = 0

    def compacted() -> bool:
        nonlocal marks
        marks += 1
        run(mark(settings))
        return run(keys(settings)).count(b"marker") < marks

    eventually(compacted, 60)
    assert len(early.epochs("default-1m")) == 3
    assert run(timeline_of(settings)) == early
