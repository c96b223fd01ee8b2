"""What lies at the end of `candles`, on a real broker, and what a replay is told about its ends."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from models.events import Candle, encode
from models.series import Series
from streaming import stretch
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.looking_back import FIRST_LOOK
from streaming.models_topic import next_close
from streaming.reach import NeverReached, reach
from streaming.replay import Turn, replay
from streaming.settings import Settings, TrainSettings
from streaming.stretch import Stalled
from streaming.tail import newest_candles, newest_close, newest_closes, oldest_close, recent_closes
from tests.e2e.market import market
from tests.e2e.system import System, run
from tests.models.candle_records import BTC, ETH, START_SLOT, make_candle
from tests.streaming.log_of_candles import said, write

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


def history(series: Series, last: int, bars: int = FIRST_LOOK + 100) -> list[Candle]:
    """So many bars up to a slot, more than a first look sees."""
    return [make_candle(series, slot) for slot in range(last - bars + 1, last + 1)]


@pytest.mark.parametrize("stamped", ["as it closes", "as it is written"])
def test_newest_candles_of_a_series_are_found_behind_the_history_of_another(system: System, stamped: str) -> None:
    now_ms = time.time_ns() // 1_000_000 if stamped == "as it is written" else None
    old = [said(candle, now_ms) for candle in history(ETH, START_SLOT)]
    run(write(system.settings, [said(make_candle(BTC, START_SLOT - 1)), said(make_candle(BTC, START_SLOT)), *old]))
    since_ms = (START_SLOT - 60) * BTC.timeframe_ms

    found = run(newest_candles(system.settings, [BTC.key, ETH.key, S000], 64, since_ms))

    assert {key: (len(each), each[-1].close_time_ms) for key, each in found.items()} == {
        BTC.key: (2, START_SLOT * BTC.timeframe_ms),
        ETH.key: (64, START_SLOT * ETH.timeframe_ms),
    }


def test_newest_candles_look_no_further_back_than_they_are_asked_to(system: System) -> None:
    far, near = make_candle(BTC, START_SLOT - 5_000), [said(candle) for candle in history(ETH, START_SLOT)]
    run(write(system.settings, [said(far), *near]))
    keys = [BTC.key, ETH.key]
    assert run(newest_candles(system.settings, keys, 64, far.close_time_ms + 1)).keys() == {ETH.key}
    assert run(newest_candles(system.settings, keys, 64, far.close_time_ms)).keys() == {ETH.key, BTC.key}


def test_newest_closes_are_of_first_words_not_of_a_correction_that_came_later(system: System) -> None:
    corrected = make_candle(BTC, START_SLOT - 1, revision=1)
    between = [said(candle) for candle in history(ETH, START_SLOT - 1)]
    run(write(system.settings, [said(make_candle(BTC, START_SLOT)), *between, said(corrected)]))
    assert run(newest_closes(system.settings, [BTC.key]))[BTC.key].close_time_ms == START_SLOT * BTC.timeframe_ms


def test_newest_closes_behind_another_writer_s_transaction_are_waited_for_never_missed(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, other = system.settings.topic("candles"), encode(make_candle(ETH))

    async def scene() -> None:
        async with started(new_producer(system.settings, transactional_id=f"{topic}-other")) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(topic, other, ETH.key, partition=0)
            await write(system.settings, [said(make_candle(BTC))])
            with monkeypatch.context() as patched:
                patched.setattr(stretch, "STALL_S", 1.0)
                with pytest.raises(Stalled, match=r"candles\[0\]@0 of 2"):
                    await newest_closes(system.settings, [BTC.key])
            assert await recent_closes(system.settings, 60_000) == {}  # who only looks waits for nobody
            await producer.commit_transaction()
        assert (await newest_closes(system.settings, [BTC.key])).keys() == {BTC.key}

    run(scene())


def test_recent_closes_are_of_every_live_series_whatever_history_came_last(system: System) -> None:
    live = [Series("binance", f"L{i}/USDT", "1m") for i in range(3)]
    new = Series("binance", "NEW/USDT", "1m")
    messages = [said(make_candle(series, slot)) for slot in range(START_SLOT - 9, START_SLOT + 1) for series in live]
    run(write(system.settings, [*messages, *(said(candle) for candle in history(new, START_SLOT))]))
    assert run(recent_closes(system.settings, 60_000)).keys() == {series.key for series in (*live, new)}


def test_close_of_the_future_puts_off_no_swap_and_ends_no_waiting(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    future = make_candle(BTC, 4_102_444_800_000 // BTC.timeframe_ms)  # the year 2100
    run(write(system.settings, [said(make_candle(series)) for series in (BTC, ETH)] + [said(future)]))
    newest_ms = START_SLOT * BTC.timeframe_ms
    now = newest_ms + 3_000

    assert run(next_close(system.settings, 60_000, lambda: now)) == newest_ms + 60_000

    assert f"series={BTC.key.decode()} close_time_ms={future.close_time_ms}" in caplog.text
    quick = TrainSettings(poll_s=0.02, quiet_s=600, patience_days=0.2 / 86_400)
    with pytest.raises(NeverReached):
        run(reach(system.settings.model_copy(update={"train": quick}), 60_000, newest_ms + 60_000))
    assert run(newest_closes(system.settings, [BTC.key]))[BTC.key].close_time_ms == future.close_time_ms


def test_next_close_where_all_is_of_the_future_goes_by_that(system: System) -> None:
    run(write(system.settings, [said(make_candle(BTC))]))
    assert run(next_close(system.settings, 60_000, lambda: 0)) == (START_SLOT + 1) * BTC.timeframe_ms


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
