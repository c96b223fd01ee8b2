"""The commands that run until they are ended, as a script runs them: what they say first, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.candle_table import CandleTable
from models.features import CATALOGUE
from streaming.embedded_folder import is_locked, running_broker
from streaming.embedded_kafka import BrokerConfig, EmbeddedKafka
from streaming.kafka_jars import default_cache
from streaming.models_topic import activate, publish
from streaming.settings import KafkaSettings, Settings
from streaming.topics import init_topics
from tests.e2e.market import BEGIN_MS, market
from tests.e2e.system import ROOT, Worker, run
from tests.eventually import eventually
from tests.models.make_bundle import make_bundle

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

SILENT = 20 + 8 - 1
"""Closes of a series before its first signal, under the bundle of these tests."""
Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command line on a data folder of the test's own, with no other setting, and end it with the test."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CANDLEWICK_", "PYTHON"))}
    mine = {"CANDLEWICK_DATA_DIR": str(tmp_path), "CANDLEWICK_KAFKA__PARTITIONS": "2", "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(tmp_path.parent / "pycache")}  # fmt: skip
    workers: list[Worker] = []

    def start(*words: str) -> Worker:
        command = [sys.executable, "-m", "candlewick", *words]
        workers.append(Worker(command, clean | mine, tmp_path, f"{words[0]}{len(workers)}"))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


def first_line(worker: Worker, timeout_s: float = 240) -> dict[str, object]:
    eventually(lambda: worker.lines or worker.code is not None, timeout_s)
    assert worker.lines, worker.stderr[-3000:]
    return worker.lines[0]


def test_broker_says_first_where_it_listens_refuses_a_second_and_ends_with_143(start: Start, tmp_path: Path) -> None:
    broker = start("broker", "--json")
    assert first_line(broker) == {"bootstrap": running_broker(tmp_path / "kafka")}

    second = start("broker", "--json")
    assert second.wait(60) == 1
    assert "another process runs the broker of this folder already" in second.stderr
    assert second.lines == []

    assert broker.terminate(60) == 143
    assert running_broker(tmp_path / "kafka") is None


def write_candles(table: CandleTable, file: Path) -> None:
    rows = ["timestamp_ms,symbol,open,high,low,close,volume"]
    for at, symbol in enumerate(table.symbols):
        own = zip(table.open_time_ms.tolist(), *table.ohlcv[:, at].tolist(), strict=True)
        rows += [",".join(map(str, [open_ms, symbol.replace("/", ""), *ohlcv])) for open_ms, *ohlcv in own]
    file.write_text("\n".join(rows) + "\n")


def let_a_bundle_serve(data_dir: Path) -> None:
    """On the broker of this folder, which then ends: `up` finds it there."""
    blob = make_bundle(lookback=8, hidden=4, features=CATALOGUE[:5], warm_up_bars=20, trained_until_ms=BEGIN_MS)
    with EmbeddedKafka(BrokerConfig(data_dir / "kafka", default_cache())) as kafka:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap, partitions=2),
            data_dir=data_dir,
        )
        run(init_topics(settings))
        sha256, _ = run(publish(settings, blob))
        run(activate(settings, sha256, "test"))


def family(pid: int) -> set[int]:
    """Every process that this one has started, and theirs."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in map(str.split, listed.splitlines())}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def lives(pid: int) -> bool:
    """Whether it runs; one that has ended and that nobody has asked for is a zombie, and does not."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(listed.strip()) and not listed.strip().startswith("Z")


def test_up_replays_a_file_into_signals_and_killed_leaves_nothing_of_itself(start: Start, tmp_path: Path) -> None:
    table = market(2, SILENT + 50)
    write_candles(table, tmp_path / "candles.csv")
    let_a_bundle_serve(tmp_path)

    system = start("up", "--replay", "candles.csv")

    said = first_line(system)
    assert said == {"bootstrap": running_broker(tmp_path / "kafka"), "ready": ["predict", "monitor", "train"]}
    follower = start("signals", "--follow", "--json", "--last", "0")
    eventually(lambda: len(follower.lines) >= 2 * 50 or follower.code is not None, 120)
    closes = table.close_time_ms[SILENT:].tolist()
    assert sorted((line["symbol"], line["close_time_ms"]) for line in follower.lines) == [
        (symbol, close_ms) for symbol in table.symbols for close_ms in closes
    ]
    eventually(lambda: len(system.lines) > 1 or system.code is not None, 120)
    assert system.lines[1:] == [{"replayed": True}]
    follower.signal(signal.SIGINT)
    assert follower.wait(30) == 130

    children = family(system.pid)
    assert len(children) >= 4  # three roles and the broker, whatever stands between
    system.kill()

    try:
        eventually(lambda: not any(map(lives, children)), 60)
    finally:
        for pid in filter(lives, children):
            os.kill(pid, signal.SIGKILL)
    assert not is_locked(tmp_path / "kafka" / "lock")
