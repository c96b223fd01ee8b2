"""What is promised when processes die: every signal is there, and each is the one that offline prediction gives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.features import WARM_UP_BARS
from streaming.embedded_kafka import BrokerConfig, EmbeddedKafka
from streaming.kafka_jars import default_cache
from streaming.models_topic import activate, publish
from streaming.replay import Progress, replay
from tests.e2e.market import market
from tests.e2e.system import System, run
from tests.models.make_bundle import make_bundle

pytestmark = pytest.mark.timeout(400)
logger = logging.getLogger(__name__)

LOOKBACK = 16
WARM_UP = WARM_UP_BARS + LOOKBACK - 1
"""Closes of a series before its first signal."""
MINUTE_S = 60


def serve_a_bundle(system: System) -> None:
    sha256, _ = run(publish(system.settings, make_bundle(lookback=LOOKBACK, hidden=8)))
    run(activate(system.settings, sha256, "test", 0))


def at_close(close: int, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Act once, as soon as so many closes of the table are out."""
    pending = [act]

    def report(progress: Progress) -> None:
        if pending and progress.closes >= close:
            pending.pop()()

    return report


def test_worker_killed_and_another_joins_at_up_to_2500_candles_a_second_loses_and_bends_nothing(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    table = market(series=500, slots=WARM_UP + 205)
    with System(kafka.bootstrap, topic_prefix, tmp_path) as system:
        serve_a_bundle(system)
        victim, survivor = system.worker("victim"), system.worker("survivor")
        victim.wait_ready()
        survivor.wait_ready()
        run(replay(system.settings, table.until(int(table.close_time_ms[WARM_UP - 1]))))
        system.wait_committed()
        joiner = []

        def change_guard() -> None:
            victim.kill()
            joiner.append(system.worker("joiner"))

        began = time.monotonic()
        done = run(replay(system.settings, table, 5 * MINUTE_S, report=at_close(WARM_UP + 60, change_guard)))
        rate = done.candles / (time.monotonic() - began)
        logger.info("2,500 candles a second are the most that the replay sends candles_per_s=%.0f", rate)

        joiner[0].wait_ready()
        system.wait_committed()
        assert [worker.code for worker in (survivor, *joiner)] == [None, None]
        assert [worker.terminate() for worker in (survivor, *joiner)] == [0, 0]
        system.assert_flawless(at_least=100_000)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that the test may hurt."""
    with EmbeddedKafka(BrokerConfig(folder=tmp_path / "kafka", cache=default_cache())) as broker:
        yield broker


@pytest.mark.kafka
def test_broker_killed_and_back_after_10_seconds_loses_and_bends_nothing(
    own_broker: EmbeddedKafka, tmp_path: Path
) -> None:
    outage_s = 10
    table = market(series=50, slots=WARM_UP + 2_005)

    async def outage() -> None:
        await asyncio.to_thread(own_broker.kill)
        await asyncio.sleep(outage_s)
        await asyncio.to_thread(own_broker.start)

    async def trade(system: System) -> None:
        outages: list[asyncio.Task[None]] = []
        report = at_close(WARM_UP + 500, lambda: outages.append(asyncio.create_task(outage())))
        await replay(system.settings, table, 100 * MINUTE_S, report=report)
        await asyncio.gather(*outages)
        assert len(outages) == 1

    with System(own_broker.bootstrap, "candlewick.", tmp_path) as system:
        serve_a_bundle(system)
        workers = [system.worker("one"), system.worker("two")]
        for worker in workers:
            worker.wait_ready()
        run(replay(system.settings, table.until(int(table.close_time_ms[WARM_UP - 1]))))
        system.wait_committed()
        run(trade(system))
        system.wait_committed()
        assert [worker.code for worker in workers] == [None, None]
        system.assert_flawless(at_least=100_000)
        assert [worker.terminate() for worker in workers] == [0, 0]
