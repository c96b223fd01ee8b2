"""What lies at the end of `candles`, on a real broker, and what a replay is told about its ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.events import encode
from models.series import Series
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.models_topic import next_close
from streaming.replay import Turn, replay
from streaming.settings import Settings
from streaming.tail import FIRST_LOOK, newest_close, newest_closes, oldest_close, recent_closes
from tests.e2e.market import market
from tests.e2e.system import System, run
from tests.models.candle_records import make_candle

S000, S001 = (Series("binance", f"S00{i}/USDT", "1m").key for i in range(2))


@pytest.fixture
def system(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> System:
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=1) as system:
        return system


def test_newest_close_of_a_timeframe_is_found_behind_many_candles_of_others(system: System) -> None:
    hours, minutes = market(1, 3, "1h"), market(2, FIRST_LOOK + 500)
    hours_key = Series("binance", "S000/USDT", "1h").key
    run(replay(system.settings, hours))
    run(replay(system.settings, minutes))

    newest = run(newest_close(system.settings, 3_600_000))

    assert newest is not None
    assert newest.close_time_ms == hours.close_time_ms[-1]
    assert run(recent_closes(system.settings, 3_600_000)) == {hours_key: newest}
    assert run(next_close(system.settings, 3_600_000)) == hours.close_time_ms[-1] + 3_600_000
    assert run(next_close(system.settings, 60_000)) == minutes.close_time_ms[-1] + 60_000


def test_oldest_close_of_a_timeframe_is_found_after_many_candles_of_others(system: System) -> None:
    hours, minutes = market(1, 3, "1h"), market(2, FIRST_LOOK + 500)
    run(replay(system.settings, minutes))
    run(replay(system.settings, hours))
    assert run(oldest_close(system.settings, 3_600_000)) == hours.close_time_ms[0]
    assert run(oldest_close(system.settings, 60_000)) == minutes.close_time_ms[0]
    assert run(oldest_close(system.settings, 300_000)) is None


def test_newest_close_of_a_timeframe_nobody_has_is_none(system: System) -> None:
    run(replay(system.settings, market(1, 5)))
    assert run(newest_close(system.settings, 300_000)) is None
    assert run(next_close(system.settings, 300_000)) == 0


def test_newest_closes_take_no_word_from_poison(system: System) -> None:
    table = market(2, 5)
    run(replay(system.settings, table))
    run(write_poison(system.settings))

    tails = run(newest_closes(system.settings, {S000, S001, b"binance|NONE/USDT|1m"}))

    closes = {key: tail.close_time_ms for key, tail in tails.items()}
    assert closes == dict.fromkeys((S000, S001), table.close_time_ms[-1])


async def write_poison(settings: Settings) -> None:
    later = make_candle(Series("binance", "S001/USDT", "1m"), 30_000_000)
    broken = make_candle(Series("binance", "S000/USDT", "1m"), 30_000_000, low=-1.0)
    async with started(new_producer(settings)) as producer:
        for key, value in [(S000, encode(later)), (S000, encode(broken)), (S001, b"[" * 50_000), (S001, None)]:
            await producer.send_and_wait(settings.topic("candles"), value, key, partition=0)


class Ends:
    """A gate that remembers what it was told."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}

    async def passed(self, turn: Turn) -> None:
        """At once."""

    def sent(self, turn: Turn, ends: dict[int, int]) -> None:
        """Remember."""
        self.ends |= ends


def test_replay_tells_its_gate_the_offset_after_the_last_record(system: System) -> None:
    gate = Ends()
    run(replay(system.settings, market(30, 300), None, gate))
    assert gate.ends == run(system.ends("candles"))
