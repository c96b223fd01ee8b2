"""What is promised of the loop: it closes by itself when the market changes, whoever is killed on the way, and once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from models.candle_table import CandleTable
from models.injection import Injection, inject
from models.jobs import state_of
from models.spec import Network
from streaming.embedded_kafka import EmbeddedKafka
from streaming.job_log import read_events
from streaming.live import replay_as_clock
from streaming.models_topic import activate, publish, read_models, reads
from tests.e2e.market import market
from tests.e2e.reckoning import expected_outcomes, found, told
from tests.e2e.system import System, Worker, run
from tests.eventually import eventually
from training.assemble import assemble
from training.dataset import build_dataset
from training.split import Fractions, split_time
from training.train import Recipe, fit_network

pytestmark = pytest.mark.timeout(400)

SERIES, DAY = 6, 1_440
TRAINED, CHANGED, ALL = 3 * DAY, 4 * DAY, 5 * DAY + 120
LOOKBACK, HORIZON = 32, 3
NICE = "2"
SETTINGS = {
    "CANDLEWICK_MONITOR__SESSION_TIMEOUT_S": "3",
    "CANDLEWICK_MONITOR__COMMIT_INTERVAL_S": "0.1",
    "CANDLEWICK_TRAIN__SESSION_TIMEOUT_S": "3",
    "CANDLEWICK_TRAIN__EPOCHS": "8",
    "CANDLEWICK_TRAIN__NICE": NICE,
    "CANDLEWICK_DRIFT__MIN_NEW_BARS": "720",
    "CANDLEWICK_DRIFT__RETRAIN_AFTER_DAYS": "0",
}


@pytest.fixture(scope="module")
def table() -> CandleTable:
    """Five days of real candles; from the fifth on, minutes 0-9 of every hour move five times as far."""
    calm = market(SERIES, ALL)
    return inject(calm, Injection(from_ms=int(calm.open_time_ms[CHANGED])))


@pytest.fixture(scope="module")
def champion(table: CandleTable) -> bytes:
    """A small model of the first three days."""
    dataset = build_dataset(table.until(int(table.close_time_ms[TRAINED - 1])), LOOKBACK, HORIZON)
    split = split_time(dataset.labelled.sum(axis=0), Fractions(0.8, 0.15, 0.05), HORIZON)
    recipe = Recipe(Network(kind="lstm", hidden=16, layers=1), 8, 0)
    return assemble(dataset, split, recipe, fit_network(dataset, split, recipe), "default-1m")


def test_loop_closes_on_a_changed_market_though_predict_monitor_and_trainer_are_each_killed(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path, table: CandleTable, champion: bytes
) -> None:
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=8, commit_interval_s=0.1) as system:
        first, _ = run(publish(system.settings, champion, reads))
        run(activate(system.settings, first, "test"))
        roles = {name: start(system, name.split("-")[0], name) for name in ("predict", "predict-2", "monitor", "train")}
        for worker in roles.values():
            worker.wait_ready(120)
        failures: list[BaseException] = []
        clock = threading.Thread(target=replay_all, args=(system, table, failures), daemon=True)
        clock.start()

        eventually(lambda: failures or sum(run(system.ends("outcomes")).values()) > SERIES * 200, 120)
        restart(system, roles, "predict")
        eventually(lambda: failures or any(drift.level == "drift" for drift in run(found(system.settings)).drifts), 120)
        restart(system, roles, "monitor")
        eventually(lambda: failures or "training" in steps(system), 120)
        restart(system, roles, "train")
        clock.join(200)
        assert not clock.is_alive(), {name: worker.stderr[-600:] for name, worker in roles.items()}
        assert not failures

        jobs = run(read_events(system.settings))
        (name,) = jobs
        state = state_of(jobs[name])
        assert state.end is not None
        assert state.end.state == "finished", state.end.text
        assert state.verdict is not None
        assert state.verdict.verdict is not None
        assert state.verdict.verdict.promote, state.verdict.text
        view = run(read_models(system.settings, reads))
        assert [(each.activation.bundle, each.activation.job) for each in view.activations] == [
            (first, None),
            (state.verdict.bundle, name),
        ]
        wanted = run(expected_outcomes(system.settings))
        eventually(lambda: len(run(found(system.settings)).outcomes) >= len(wanted), 60)
        seen = run(found(system.settings))
        assert {identity: told(outcome) for identity, outcome in seen.outcomes.items()} == wanted
        switched_ms = view.activations[-1].activation.effective_from_ms
        assert {(close >= switched_ms, bundle) for _, _, close, bundle in wanted} == {
            (False, first),
            (True, state.verdict.bundle),
        }
        system.assert_flawless(SERIES * (ALL - TRAINED))
        assert {worker.code for worker in roles.values()} == {None}


def start(system: System, role: str, name: str) -> Worker:
    return system.worker(name, "-m", "candlewick", "run", role, **SETTINGS)


def restart(system: System, roles: dict[str, Worker], role: str) -> None:
    """SIGKILL, and another process in its place."""
    roles[role].kill()
    roles[role] = start(system, role, f"{role}-again").wait_ready(120)


def steps(system: System) -> set[str | None]:
    """Everything that any job has been at."""
    return {event.step for events in run(read_events(system.settings)).values() for event in events}


def replay_all(system: System, table: CandleTable, failures: list[BaseException]) -> None:
    """The replay that `up` runs, as the clock of the system."""
    try:
        run(replay_as_clock(system.settings, table, None))
    except BaseException as error:
        failures.append(error)
