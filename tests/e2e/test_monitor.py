"""What is promised of outcomes when the monitor dies: none is lost, none differs, and what it decided stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.features import WARM_UP_BARS
from models.series import Series
from streaming.embedded_kafka import EmbeddedKafka
from streaming.models_topic import activate, publish
from streaming.partition import partition_of
from streaming.replay import replay
from tests.e2e.market import market
from tests.e2e.reckoning import expected_outcomes, found, sums_of, told
from tests.e2e.system import System, Worker, run
from tests.eventually import eventually
from tests.models.make_bundle import make_bundle

pytestmark = pytest.mark.timeout(200)

LOOKBACK, HORIZON = 16, 3
WARM_UP = WARM_UP_BARS + LOOKBACK - 1
SERIES, CLOSES = 20, 220
MINUTE_S = 60


def monitor(system: System, name: str) -> Worker:
    return system.worker(
        name, "-m", "candlewick", "run", "monitor",
        CANDLEWICK_MONITOR__SESSION_TIMEOUT_S="3", CANDLEWICK_MONITOR__COMMIT_INTERVAL_S="0.25",
    )  # fmt: skip


def serve_a_bundle(system: System) -> None:
    sha256, _ = run(publish(system.settings, make_bundle(lookback=LOOKBACK, hidden=8, horizon=HORIZON)))
    run(activate(system.settings, sha256, "test", 0))


def test_monitor_killed_twice_leaves_outcomes_complete_unique_and_equal_to_those_reckoned_from_the_topics(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    table = market(SERIES, WARM_UP + CLOSES, absent=((3, WARM_UP + 40), (3, WARM_UP + 41), (7, WARM_UP + 90)))
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=8) as system:
        serve_a_bundle(system)
        predict, one = system.worker("predict"), monitor(system, "one")
        two = monitor(system, "two")
        for worker in (predict, one, two):
            worker.wait_ready(120)
        run(replay(system.settings, table.until(int(table.close_time_ms[WARM_UP + 60]))))
        spoken = {partition_of(Series(table.exchange, symbol, table.timeframe).key, 8) for symbol in table.symbols}
        eventually(lambda: {partition for partition, _ in run(found(system.settings)).partial} == spoken, 60)
        one.kill()
        run(replay(system.settings, table.until(int(table.close_time_ms[WARM_UP + 140])), 20 * MINUTE_S))
        two.kill()
        three = monitor(system, "three")
        run(replay(system.settings, table, 20 * MINUTE_S))
        three.wait_ready()
        system.wait_committed()

        wanted = run(expected_outcomes(system.settings))
        eventually(lambda: sum(run(system.ends("outcomes")).values()) >= len(wanted))
        eventually(lambda: len(run(found(system.settings)).outcomes) >= len(wanted))
        last = max(close for _, _, close, _ in wanted) + HORIZON * 60_000
        eventually(lambda: any(one.target_time_ms >= last - 60_000 for one in run(found(system.settings)).pooled), 40)

        seen = run(found(system.settings))
        assert len(wanted) > SERIES * (CLOSES - 2 * HORIZON) - 200
        assert {identity: told(outcome) for identity, outcome in seen.outcomes.items()} == wanted
        assert [worker.code for worker in (predict, three)] == [None, None]
        targets = [one.target_time_ms for one in seen.pooled]
        assert targets == list(range(targets[0], targets[-1] + 1, 60_000))
        sums = sums_of(seen.outcomes)
        whole = [(pooled.outcomes, pooled.range_covered) == sums[pooled.target_time_ms] for pooled in seen.pooled]
        known = whole.index(True)  # the first closes cannot wait for partitions nobody has heard of yet
        assert all(whole[known:])
        assert known < CLOSES // 4
        assert [worker.terminate() for worker in (predict, three)] == [0, 0]
        assert "Traceback" not in three.stderr
