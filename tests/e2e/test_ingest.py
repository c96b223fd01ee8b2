"""Every fault of an exchange, alone and all together: afterwards the topic is the exchange's truth, bar by bar.

200 symbols with bars of one second, which Binance itself has: what takes a minute elsewhere takes a second here, and
the role does not know the difference.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from models.events import Candle
from streaming.embedded_kafka import BrokerConfig, EmbeddedKafka
from streaming.kafka_jars import default_cache
from streaming.supervise import SHUT_OUT
from tests.e2e.live import STEP_MS, WARM_UP_BARS, Live
from tests.e2e.system import ROOT, Worker
from tests.eventually import eventually

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.timeout(600)

LASTS_S = 2.0
MIXED_S = 15
SHIFTED = str(ROOT / "tests" / "e2e" / "shifted_clock.py")


@dataclass
class Scene:
    """One system for all tests of this file; its worker is replaced where a test ends it."""

    live: Live
    worker: Worker
    apart: set[str] = field(default_factory=set)  # series that a fault ended for good

    @property
    def now_ms(self) -> int:
        return self.live.exchange.now_ms

    def assert_complete(self, from_ms: int, bars: int = 2) -> int:
        """From here to so many bars from now the ledger is the truth."""
        until_ms = (self.now_ms // STEP_MS + bars) * STEP_MS
        self.live.wait_for(until_ms, self.apart)
        return self.live.assert_flawless(from_ms, until_ms, self.apart)

    def supervise(self) -> None:
        """What `up` does: a process that began while Kafka was away has ended, and another is started."""
        if self.worker.code is not None:
            said = self.worker.stderr
            assert "candlewick: Kafka" in said, said[-2_000:]
            assert "Traceback" not in said, said[-2_000:]
            self.restart()

    def restart(self, *command: str, **env: str) -> None:
        self.worker = self.live.ingest(*command, **env)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker of this file's own: one test ends it for a while."""
    config = BrokerConfig(folder=tmp_path_factory.mktemp("kafka"), cache=default_cache())
    with EmbeddedKafka(config) as broker:
        yield broker


@pytest.fixture(scope="module")
def scene(broker: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Live(broker.bootstrap, "live.", tmp_path_factory.mktemp("live")) as live:
        yield Scene(live, live.ingest().wait_ready())


def test_ingest_on_an_empty_topic_fetches_history_first(scene: Scene) -> None:
    from_ms = scene.now_ms - 20 * STEP_MS  # it began a little ago, with WARM_UP_BARS before that
    assert scene.assert_complete(from_ms) >= 200 * 20
    firsts = [candles[0] for candles in scene.live.ledger._firsts.values()]
    assert len(firsts) == 200
    assert {candle.origin for candle in firsts} == {"backfilled"}
    assert max(candle.open_time_ms for candle in firsts) <= from_ms - (WARM_UP_BARS - 25) * STEP_MS


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("tcp_kill", {"every_s": 1.0}),
    ("close_1001", {}),
    ("garbage", {"share": 0.3}),
    ("garbage", {"wire": True, "share": 0.02}),
    ("stall_with_pongs", {}),
    ("stall_with_pongs", {"old_only": True}),
    ("no_pongs", {}),
    ("duplicate", {}),
    ("reorder", {}),
    ("drop", {"share": 0.1}),
    ("drop", {"share": 0.5}),
    ("truncated_json", {"share": 0.2}),
    ("rest_429", {"count": 5, "retry_after_s": 1}),
    ("rest_418", {}),
    ("rest_502", {}),
    ("ws_503", {}),
    ("rest_lag", {"rows": 2}),
    ("unsettled_volume", {"settle_ms": 150}),
    ("no_rows", {"slots": 2}),
    ("no_rows", {"slots": 3, "symbols": ["BTCUSDT", "ETHUSDT"]}),
    ("zero_trade", {}),
    ("subscribe_error", {"count": 2}),
    ("unsubscribe_one", {"symbols": ["ETHUSDT"]}),
    ("refuse", {}),
    ("refuse", {"how": "reset"}),
    ("skew", {"ms": 5_000, "rate": 5.0}),
    ("skew", {"ms": -5_000, "rate": 0.9}),
    ("rotation", {"age_s": 1.0}),
    ("late_close", {"delay_s": 0.8}),
    ("revision", {"after_ms": 500}),
]
NEEDS_REST = {"rest_429", "rest_418", "rest_502", "rest_lag", "unsettled_volume"}
"""Faults of REST show only where the feed leaves something to ask for."""
ENDS_SOCKETS = {"ws_503", "subscribe_error"}
"""Faults of opening show only where a socket is opened."""


@pytest.mark.parametrize(("name", "params"), FAULTS, ids=[f"{name}-{params}" for name, params in FAULTS])
def test_ledger_is_the_truth_after(name: str, params: dict[str, Any], scene: Scene) -> None:
    exchange, began_ms = scene.live.exchange, scene.now_ms
    if name in NEEDS_REST:
        exchange.fault("drop", share=0.3, seconds=LASTS_S)
    exchange.fault(name, **{"seconds": LASTS_S, **params})
    if name in ENDS_SOCKETS:
        exchange.fault("tcp_kill")
    deadline = time.monotonic() + LASTS_S
    eventually(lambda: time.monotonic() > deadline, LASTS_S + 60)
    exchange.clear()
    scene.assert_complete(began_ms - STEP_MS)


def test_ledger_is_the_truth_while_the_exchange_s_clock_crawls_and_rest_alone_answers(scene: Scene) -> None:
    """By our reckoning of its time a bar is settled that is not."""
    exchange, began_ms = scene.live.exchange, scene.now_ms
    exchange.fault("skew", ms=-5_000, rate=0.9, seconds=2 * LASTS_S)
    exchange.fault("stall_with_pongs", seconds=2 * LASTS_S)
    exchange.fault("unsettled_volume", settle_ms=150, seconds=4 * LASTS_S)
    deadline = time.monotonic() + 4 * LASTS_S
    eventually(lambda: time.monotonic() > deadline, 4 * LASTS_S + 60)
    exchange.clear()
    scene.assert_complete(began_ms - STEP_MS)


def test_a_symbol_that_the_feed_holds_back_is_repaired_and_counted(scene: Scene) -> None:
    live, began_ms = scene.live, scene.now_ms
    line = "feed is silent for one, subscribing anew series=binance|BTC/USDT|1s"
    counted, said = live.metric("candlewick_silent_series_total"), scene.worker.stderr.count(line)

    def repaired() -> list[Candle]:
        candles = live.ledger.since(live.key("BTCUSDT"), began_ms)
        return [candle for candle in candles if candle.origin == "repaired"]

    live.exchange.fault("unsubscribe_one", symbols=["BTCUSDT"], every_s=0.5)
    eventually(lambda: repaired() and scene.worker.stderr.count(line) > said)
    live.exchange.clear()
    assert live.metric("candlewick_silent_series_total") > counted
    scene.assert_complete(began_ms - STEP_MS)


def test_a_dead_feed_shows_in_health_metrics_and_log_and_so_does_its_return(scene: Scene) -> None:
    live, began_ms = scene.live, scene.now_ms
    eventually(lambda: live.health()["ok"])
    live.exchange.fault("stall_with_pongs")
    eventually(lambda: "feed is dead" in live.health()["roles"]["ingest"])
    assert live.metric("candlewick_feed_alive") == 0
    assert "feed is dead" in scene.worker.stderr
    live.exchange.clear()
    eventually(lambda: live.health()["ok"])
    assert live.metric("candlewick_feed_alive") == 1
    scene.assert_complete(began_ms - STEP_MS)


@pytest.mark.parametrize(
    ("most", "words"),
    [(1_000, "symbols were not looked at"), (20, "series ended")],
    ids=["every symbol", "some symbols"],
)
def test_ledger_is_the_truth_after_the_exchange_did_not_know_symbols_for_a_moment(
    most: int, words: str, scene: Scene
) -> None:
    """Its list is looked at every hour only; what is lacking there ends, and begins again once it is back."""
    exchange, began_ms = scene.live.exchange, scene.now_ms
    names = sorted(exchange.truths(from_ms=began_ms - STEP_MS, until_ms=began_ms))[:most]
    said = scene.worker.stderr.count(words)
    exchange.fault("delist", symbols=names)
    eventually(lambda: scene.worker.stderr.count(words) > said)
    exchange.clear()
    scene.assert_complete(began_ms - STEP_MS)
    assert scene.live.metric("candlewick_series_watched") == 200


def test_ledger_goes_on_after_a_symbol_left_and_another_came(scene: Scene) -> None:
    exchange, began_ms = scene.live.exchange, scene.now_ms
    gone, new = "SOLUSDT", "NEWUSDT"
    exchange.fault("delist", symbols=[gone])
    exchange.fault("list", symbols=[new])
    scene.apart.add(scene.live.key(gone))
    eventually(lambda: scene.live.key(new) in scene.live.ledger.marks())
    eventually(lambda: f"series ended series={scene.live.key(gone)}" in scene.worker.stderr)
    scene.assert_complete(began_ms)
    ended_ms = scene.live.ledger.marks()[scene.live.key(gone)]
    assert not _of(scene, gone, began_ms - STEP_MS, ended_ms)


def _of(scene: Scene, name: str, from_ms: int, until_ms: int) -> list[str]:
    truth = scene.live.exchange.truth(name, from_ms=from_ms, until_ms=until_ms)
    return scene.live.ledger.reckon(scene.live.key(name), truth, from_ms, until_ms, STEP_MS).flaws


@pytest.mark.parametrize("shift_s", [3_600, -3_600])
def test_ledger_is_the_truth_while_our_wall_clock_jumps(shift_s: int, scene: Scene) -> None:
    began_ms, off = scene.now_ms, scene.live.system.folder / "off"
    off.write_text("0")
    assert scene.worker.terminate() == 0
    scene.restart(SHIFTED, str(off), "run", "ingest")
    scene.worker.wait_ready()
    off.write_text(str(shift_s))
    scene.live.exchange.fault("tcp_kill")
    scene.live.exchange.fault("drop", share=0.3, seconds=LASTS_S)
    scene.assert_complete(began_ms, bars=int(LASTS_S))


def test_ledger_is_the_truth_after_kills_in_the_midst_of_bursts(scene: Scene) -> None:
    """Each kill falls into the few ms in which a burst goes to Kafka."""
    began_ms, chance = scene.now_ms, random.Random(7)
    for _ in range(3):
        moment_ms = (scene.now_ms // STEP_MS + 2) * STEP_MS + chance.randrange(5, 60)
        eventually(lambda due_ms=moment_ms: time.time() * 1_000 >= due_ms)  # type: ignore[misc]
        scene.worker.kill()
        scene.restart()
        scene.worker.wait_ready()
    scene.assert_complete(began_ms)


def test_ledger_is_the_truth_after_three_seconds_without_anyone(scene: Scene) -> None:
    began_ms = scene.now_ms
    scene.worker.signal(signal.SIGKILL)
    scene.worker.wait(60)
    eventually(lambda: scene.now_ms > began_ms + 3 * STEP_MS)
    scene.restart()
    scene.assert_complete(began_ms - STEP_MS)
    assert (
        scene.live.ledger.origins(began_ms).get("repaired", 0) + scene.live.ledger.origins(began_ms)["backfilled"] > 0
    )


def test_two_processes_of_one_name_publish_no_candle_twice(scene: Scene) -> None:
    began_ms, elder = scene.now_ms, scene.worker
    scene.restart()
    scene.worker.wait_ready()
    assert elder.wait(60) == SHUT_OUT
    assert "another process took over" in elder.stderr
    scene.assert_complete(began_ms)


def mixed(scene: Scene, broker: EmbeddedKafka, seconds: float, seed: int) -> int:
    """Faults at random, several at a time, kills of the role and of Kafka among them; gives the bars compared."""
    logger.warning("mixed faults seed=%d", seed)
    chance, exchange, began_ms = random.Random(seed), scene.live.exchange, scene.now_ms
    deadline = time.monotonic() + seconds
    while (left_s := deadline - time.monotonic()) > 0:
        name, params = chance.choice(MIXED)
        lasts_s = min(left_s, chance.uniform(1, 4))
        exchange.fault(name, **{"seconds": lasts_s, **params})
        pause_ms = int(chance.uniform(200, 1_500))
        resumes_s = time.monotonic() + pause_ms / 1_000
        eventually(lambda due_s=resumes_s: time.monotonic() >= due_s)  # type: ignore[misc]
        if chance.random() < 1 / 16:
            scene.worker.kill()
            scene.restart()
        if chance.random() < 1 / 40:
            broker.kill()
            broker.start()
        scene.supervise()
    exchange.clear()
    scene.supervise()
    return scene.assert_complete(began_ms - STEP_MS, bars=3)


MIXED = [(name, params) for name, params in FAULTS if name != "rest_418"]


def test_ledger_is_the_truth_after_all_faults_mixed(scene: Scene, broker: EmbeddedKafka) -> None:
    seed = int(os.environ.get("CANDLEWICK_FAULT_SEED") or 7)
    assert mixed(scene, broker, MIXED_S, seed) > 200 * MIXED_S / 2


@pytest.mark.soak
@pytest.mark.timeout(2_400)
def test_ledger_is_the_truth_after_half_an_hour_of_all_faults_mixed(scene: Scene, broker: EmbeddedKafka) -> None:
    for seed in range(int(os.environ.get("CANDLEWICK_FAULT_SEED") or 0), 30):
        assert mixed(scene, broker, 60, seed) > 200 * 30


def test_ledger_is_the_truth_after_kafka_was_away_for_30_s(scene: Scene, broker: EmbeddedKafka) -> None:
    began_ms = scene.now_ms
    broker.kill()
    eventually(lambda: scene.now_ms > began_ms + 30 * STEP_MS, 100)
    assert scene.worker.code is None, scene.worker.stderr[-2_000:]
    broker.start()
    scene.assert_complete(began_ms - STEP_MS)
    assert scene.worker.code is None
