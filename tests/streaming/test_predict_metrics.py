"""What a running `predict` counts, held against what lies on the topics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from prometheus_client.parser import text_string_to_metric_families

from models.events import Signal, decode_signal, encode
from models.features import CATALOGUE
from models.series import Series
from streaming.clients import new_admin, new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.models_topic import activate, publish
from streaming.read import read_topic
from streaming.replay import replay
from streaming.scrape import free_ports
from streaming.settings import Settings
from tests.e2e.market import market
from tests.e2e.system import System, Worker, run
from tests.eventually import eventually
from tests.models.candle_records import MINUTE, START_SLOT, make_candle
from tests.models.make_bundle import make_bundle
from tests.streaming.test_health import asked

S000, S001 = (Series("binance", f"S00{i}/USDT", "1m") for i in range(2))
SILENT = 20 + 8 - 1
"""Closes of a series before its first signal, under the bundles of these tests."""


@pytest.fixture
def system(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=1) as system:
        yield system


def serve(system: System, seed: int, from_ms: int = 0) -> str:
    """Let a bundle serve; its hash."""
    blob = make_bundle(seed, lookback=8, hidden=4, features=CATALOGUE[:5], warm_up_bars=20)
    sha256, _ = run(publish(system.settings, blob))
    run(activate(system.settings, sha256, "test", from_ms))
    return sha256


def worker_with_metrics(system: System) -> tuple[Worker, int]:
    port = free_ports(1)
    return system.worker("counts", CANDLEWICK_METRICS_PORT=str(port)).wait_ready(), port


def counters(port: int) -> dict[str, float]:
    """The counters of predict that are not 0, each with the value of its label, if it has one."""
    families = text_string_to_metric_families(asked(port, "/metrics")[1].decode())
    samples = [sample for family in families for sample in family.samples if sample.name.endswith("_total")]
    named = {" ".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}
    return {name: value for name, value in named.items() if value and name.startswith("candlewick_")}


async def signals_in(settings: Settings) -> list[Signal]:
    return [decode_signal(record.value) async for record in read_topic(settings, "signals")]


async def write(settings: Settings, *records: tuple[bytes, bytes]) -> None:
    async with started(new_producer(settings)) as producer:
        for key, value in records:
            await producer.send_and_wait(settings.topic("candles"), value, key, partition=0)


def test_predict_counts_what_it_signalled_withheld_ignored_and_buried(system: System) -> None:
    table = market(2, 60, absent=((1, 40),))
    serve(system, seed=0)
    run(replay(system.settings, table))
    newest, middle = (int(table.close_time_ms[slot]) // MINUTE for slot in (59, 30))
    again, old = encode(make_candle(S000, newest)), encode(make_candle(S000, middle))
    corrected = encode(make_candle(S001, middle, revision=1))
    run(write(system.settings, (S000.key, again), (S000.key, old), (S001.key, corrected), (S001.key, b"x"), (b"", old)))

    _, port = worker_with_metrics(system)
    system.wait_committed()

    signals, letters = run(system.ends("signals"))[0], sum(run(system.ends("dead-letters")).values())
    assert (signals, letters) == (2 * (60 - SILENT) - 8, 2)
    assert counters(port) == {
        "candlewick_candles_total": 2 * 60 + 2,
        "candlewick_signals_total default-1m": signals,
        "candlewick_withheld_total warming_up": 2 * SILENT,
        "candlewick_withheld_total absent": 1,
        "candlewick_withheld_total absent_in_window": 7,
        "candlewick_ignored_total duplicate": 1,
        "candlewick_ignored_total out_of_order": 1,
        "candlewick_ignored_total revision": 1,
        "candlewick_dead_letters_total": letters,
    }


def test_activation_of_closes_that_were_signalled_is_counted_as_late_and_dates_nothing_back(system: System) -> None:
    table = market(2, 60)
    old = serve(system, seed=0)
    run(replay(system.settings, table.until(int(table.close_time_ms[49]))))
    worker, port = worker_with_metrics(system)
    system.wait_committed()
    late_ms = int(table.close_time_ms[40])

    new = serve(system, seed=1, from_ms=late_ms)

    eventually(lambda: counters(port).get("candlewick_late_switches_total") == 1)
    assert f"newest_close_ms={table.close_time_ms[49]} effective_from_ms={late_ms}" in worker.stderr
    run(replay(system.settings, table))
    system.wait_committed()
    given = sorted((signal.close_time_ms, signal.bundle) for signal in run(signals_in(system.settings)))
    closes = [close_ms for close_ms in table.close_time_ms[SILENT:].tolist() for _ in table.symbols]
    assert given == [(close_ms, old if close_ms <= table.close_time_ms[49] else new) for close_ms in closes]


def test_series_that_a_wrong_future_silenced_speaks_again_once_its_partition_is_cut_off_behind_it(
    system: System,
) -> None:
    """As docs/operate.md says to do it."""

    def candles(first: int, last: int) -> list[tuple[bytes, bytes]]:
        slots = range(START_SLOT + first, START_SLOT + last)
        return [(series.key, encode(make_candle(series, slot))) for slot in slots for series in (S000, S001)]

    serve(system, seed=0)
    future = (S000.key, encode(make_candle(S000, START_SLOT + 500_000)))
    run(write(system.settings, *candles(0, 40), future, *candles(40, 80)))
    worker, port = worker_with_metrics(system)
    system.wait_committed()
    assert counters(port)["candlewick_ignored_total out_of_order"] == 40
    assert worker.terminate() == 0

    run(cut_off(system.settings, 2 * 40 + 1))

    worker_with_metrics(system)
    run(write(system.settings, *candles(80, 90)))
    system.wait_committed()
    spoken = [signal.close_time_ms // MINUTE - START_SLOT for signal in run(signals_in(system.settings))
              if signal.symbol == "S000/USDT"]  # fmt: skip
    assert spoken == [*range(SILENT, 40), *range(80, 90)]


async def cut_off(settings: Settings, offset: int) -> None:
    """Delete what lies before this offset."""
    async with started(new_admin(settings)) as admin:
        await admin.delete_records({TopicPartition(settings.topic("candles"), 0): RecordsToDelete(offset)})
