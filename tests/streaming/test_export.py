"""Candles of the topic into a file, on real Kafka: what goes in, what stays out, and that it reads back the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.candle_files import read_candles
from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.events import Message, encode
from models.series import Series
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.export import Wanted, chosen, export
from streaming.partition import partition_of
from streaming.reach import NeverReached, reach
from streaming.replay import replay
from streaming.settings import Settings, TrainSettings
from streaming.tail import oldest_close, recent_closes
from streaming.topics import init_topics
from tests.e2e.market import market
from tests.e2e.system import run, settings_of
from tests.models.candle_records import make_candle
from tests.streaming.log_of_candles import write

MINUTE_MS = 60_000
TABLE = market(series=5, slots=200, absent=((1, 50), (1, 51), (3, 120)))


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    settings = settings_of(kafka.bootstrap, topic_prefix, tmp_path, partitions=3)
    run(init_topics(settings))
    return settings


async def send(settings: Settings, *candles: Any) -> None:
    """Candle records, as they are, each into the partition of its key."""
    async with started(new_producer(settings)) as producer:
        for candle in candles:
            key = Series(candle.exchange, candle.symbol, candle.timeframe).key
            await producer.send_and_wait(
                settings.topic("candles"), encode(candle), key, partition=partition_of(key, 3),
                timestamp_ms=candle.close_time_ms,
            )  # fmt: skip


def part(first: int, last: int) -> CandleTable:
    """The table from one slot to another, both included."""
    return TABLE.until(int(TABLE.close_time_ms[last])).since(int(TABLE.open_time_ms[first]))


def wanted(first: int, last: int, timeframe: str = "1m") -> Wanted:
    return Wanted(timeframe, int(TABLE.close_time_ms[first]), int(TABLE.close_time_ms[last]))


@pytest.mark.parametrize("name", ["c.csv", "c.parquet"])
def test_export_of_a_span_reads_back_as_the_table_that_was_replayed(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    run(replay(settings, TABLE))
    done = run(export(settings, wanted(20, 150), tmp_path / name))
    assert [path.name for path in tmp_path.glob("c.*")] == [name]
    table = read_candles([tmp_path / name])
    expected = part(20, 150)
    assert table.symbols == expected.symbols
    assert table.open_time_ms.tolist() == expected.open_time_ms.tolist()
    np.testing.assert_array_equal(table.ohlcv, expected.ohlcv)
    assert table.rejected == ()
    assert (done.candles, len(done.series)) == (expected.rows, 5)
    assert (done.first_close_ms, done.last_close_ms) == (expected.close_time_ms[0], expected.close_time_ms[-1])


def test_export_leaves_out_revisions_repeats_poison_and_other_timeframes(settings: Settings, tmp_path: Path) -> None:
    run(replay(settings, TABLE))
    series = Series("binance", "S000/USDT", "1m")
    slot = int(TABLE.close_time_ms[100]) // MINUTE_MS
    odd = [
        make_candle(series, slot, revision=1, close=99.5),
        make_candle(series, slot, close=99.75),
        make_candle(series, slot + 100, low=-1.0),
        make_candle(Series("binance", "S000/USDT", "2m"), slot // 2),
    ]
    run(send(settings, *odd))
    for name in ("c.csv", "c.parquet"):
        run(export(settings, wanted(0, 199), tmp_path / name))
        np.testing.assert_array_equal(read_candles([tmp_path / name]).ohlcv, TABLE.ohlcv)


def test_export_loses_no_candle_to_a_record_stamped_with_the_wall_clock(settings: Settings, tmp_path: Path) -> None:
    table, now_ms = market(series=2, slots=4_000), time.time_ns() // 1_000_000  # more than Kafka gives at once
    run(replay(settings, table.until(int(table.close_time_ms[999]))))
    for partition in range(3):
        run(write(settings, [Message(b"test", b"x", now_ms)], partition=partition))
    run(replay(settings, table))
    until_ms = int(table.close_time_ms[-200])
    run(export(settings, Wanted("1m", 0, until_ms), tmp_path / "c.parquet"))
    np.testing.assert_array_equal(read_candles([tmp_path / "c.parquet"]).ohlcv, table.until(until_ms).ohlcv)


def test_export_of_a_timeframe_nobody_sent_names_it(settings: Settings, tmp_path: Path) -> None:
    run(replay(settings, TABLE))
    with pytest.raises(CandlewickError, match="no series of 5m"):
        run(export(settings, wanted(0, 10, "5m"), tmp_path / "c.csv"))


def test_export_to_a_folder_that_is_not_there_names_the_mend(settings: Settings, tmp_path: Path) -> None:
    run(replay(settings, TABLE))
    for name in ("c.csv", "c.parquet"):
        with pytest.raises(CandlewickError, match=r"none.* cannot be written \(No such file or directory\)"):
            run(export(settings, wanted(0, 10), tmp_path / "none" / name))


def test_chosen_takes_one_exchange_a_symbol_and_only_what_a_file_can_name() -> None:
    names = [("kraken", "BTC/USDT"), ("binance", "BTC/USDT"), ("binance", "BTCUSDT"), ("binance", "A,B/USDT"),
             ("binance", "Ä/USDT"), ("binance", "X" * 40 + "/USDT"), ("okx", "ETH/USDT:USDT")]  # fmt: skip
    keys = [Series(exchange, symbol, "1m").key for exchange, symbol in names]
    assert sorted(one[:2] for one in chosen(keys)) == [("binance", "BTC/USDT"), ("okx", "ETH/USDT:USDT")]


def test_oldest_and_recent_closes_are_those_of_the_timeframe(settings: Settings) -> None:
    assert run(oldest_close(settings, MINUTE_MS)) is None
    run(replay(settings, TABLE))
    run(send(settings, make_candle(Series("binance", "S000/USDT", "2m"), 1)))
    assert run(oldest_close(settings, MINUTE_MS)) == TABLE.close_time_ms[0]
    assert run(oldest_close(settings, 2 * MINUTE_MS)) == 2 * MINUTE_MS
    recent = run(recent_closes(settings, MINUTE_MS))
    assert {key.decode(): tail.close_time_ms for key, tail in recent.items()} == {
        f"binance|{symbol}|1m": TABLE.close_time_ms[-1] for symbol in TABLE.symbols
    }


def patient(settings: Settings, seconds: float) -> Settings:
    quick = TrainSettings(poll_s=0.02, quiet_s=0.3, patience_days=seconds / 86_400)
    return settings.model_copy(update={"train": quick})


def test_reach_waits_for_a_live_series_that_lags_and_no_longer_than_quiet(settings: Settings) -> None:
    run(replay(settings, part(0, 150)))
    at_150 = int(TABLE.close_time_ms[150])
    run(reach(patient(settings, 20), MINUTE_MS, at_150))
    run(replay(settings, part(151, 151).only(TABLE.symbols[:4])))
    run(reach(patient(settings, 20), MINUTE_MS, at_150))
    with pytest.raises(NeverReached, match="CANDLEWICK_TRAIN__PATIENCE_DAYS"):
        run(reach(patient(settings, 0.1), MINUTE_MS, at_150 + MINUTE_MS))  # one of five lags
    run(reach(patient(settings, 60), MINUTE_MS, at_150 + MINUTE_MS))  # it was quiet for too long


def test_reach_does_not_wait_for_a_series_that_fell_silent(settings: Settings) -> None:
    run(replay(settings, part(0, 100)))
    run(replay(settings, part(101, 199).only(TABLE.symbols[1:])))
    never_quiet = TrainSettings(poll_s=0.02, quiet_s=600)
    run(reach(settings.model_copy(update={"train": never_quiet}), MINUTE_MS, int(TABLE.close_time_ms[199])))


def test_reach_of_a_close_that_never_comes_ends(settings: Settings) -> None:
    run(replay(settings, TABLE))
    with pytest.raises(NeverReached):
        run(reach(patient(settings, 0.2), MINUTE_MS, int(TABLE.close_time_ms[199]) + MINUTE_MS))
