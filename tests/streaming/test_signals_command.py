"""`candlewick signals`, on a topic where a crash has left duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.events import encode
from models.series import Series
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.settings import Settings
from tests.e2e.system import System, run
from tests.eventually import eventually
from tests.models.join_logs import make_signal

BTC, ETH = "BTC/USDT", "ETH/USDT"
HOME = {BTC: 0, ETH: 1}
Said = tuple[str, int]
"""Symbol and slot."""
TWICE: list[Said] = [(BTC, 1), (ETH, 1), (BTC, 2), (ETH, 2), (BTC, 2), (BTC, 1), (ETH, 3), (BTC, 3), (BTC, 3)]
"""As a replica leaves them that died before it committed, and its successor."""
ONCE = sorted(set(TWICE), key=lambda said: (said[1], said[0]))


@pytest.fixture
def system(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=2) as system:
        run(write(system.settings, TWICE))
        yield system


async def write(settings: Settings, told: Sequence[Said]) -> None:
    async with started(new_producer(settings)) as producer:
        for symbol, slot in told:
            series = Series("binance", symbol, "1m")
            value = encode(make_signal(series, slot))
            await producer.send_and_wait(settings.topic("signals"), value, series.key, partition=HOME[symbol])


def said(lines: Sequence[dict[str, Any]]) -> list[Said]:
    return [(line["symbol"], line["close_time_ms"] // 60_000) for line in lines]


def test_signals_are_listed_once_each_in_order_of_their_closes(system: System) -> None:
    listed = said(system.lines("signals", "--last", "0"))
    assert sorted(listed) == sorted(ONCE)
    assert [slot for _, slot in listed] == [slot for _, slot in ONCE]
    assert said(system.lines("signals", "--symbol", ETH, "--last", "2")) == [(ETH, 2), (ETH, 3)]
    assert said(system.lines("signals", "--symbol", "ETHUSDT", "--last", "1")) == [(ETH, 3)]
    assert system.lines("signals", "--symbol", "DOGE/USDT") == []


def test_signals_followed_come_once_each_as_they_are_written(system: System) -> None:
    follower = system.worker("follower", "-m", "candlewick", "signals", "--follow", "--json", "--last", "0")
    eventually(lambda: len(follower.lines) >= len(ONCE) or follower.code is not None, 120)
    run(write(system.settings, [(BTC, 3), (ETH, 3), (BTC, 4), (ETH, 4)]))
    eventually(lambda: {(BTC, 4), (ETH, 4)} <= set(said(follower.lines)) or follower.code is not None)
    assert sorted(said(follower.lines)) == sorted([*ONCE, (BTC, 4), (ETH, 4)])
    assert follower.terminate() == 143


def test_signals_followed_begin_with_the_last_ones_of_the_symbol(system: System) -> None:
    words = ("signals", "--follow", "--json", "--symbol", ETH, "--last", "2")
    follower = system.worker("follower", "-m", "candlewick", *words)
    eventually(lambda: len(follower.lines) >= 2 or follower.code is not None, 120)
    run(write(system.settings, [(BTC, 4), (ETH, 3), (ETH, 4)]))
    eventually(lambda: len(follower.lines) >= 3 or follower.code is not None)
    assert said(follower.lines) == [(ETH, 2), (ETH, 3), (ETH, 4)]
