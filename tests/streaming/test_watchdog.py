"""A consumer that stands still while records wait ends its process; one that has nothing to do does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from streaming.watchdog import Stalled, Watchdog

TP = TopicPartition("t", 0)


class Log:
    """A log that ends here; None: Kafka does not say where."""

    def __init__(self, end: int | None) -> None:
        self.end = end

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self.end is None:
            raise KafkaConnectionError
        return dict.fromkeys(tps, self.end)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The one number in it is the watchdog's time in seconds."""
    now_s = [0.0]
    monkeypatch.setattr("streaming.watchdog.time.monotonic", lambda: now_s[0])
    return now_s


def looks(clock: list[float], log: Log, standings: Sequence[dict[TopicPartition, int]]) -> list[int | None]:
    """The lag at each of these standings, ten seconds apart, with a limit of 15."""

    async def run() -> list[int | None]:
        dog, lags = Watchdog(log, 15.0), []
        for standing in standings:
            lags.append(await dog.look(standing))
            clock[0] += 10
        return lags

    return asyncio.run(run())


def at(*positions: int | None) -> list[dict[TopicPartition, int]]:
    """Of one partition; None: nothing may be read."""
    return [{} if position is None else {TP: position} for position in positions]


def test_watchdog_ends_a_consumer_that_stands_still_while_records_wait(clock: list[float]) -> None:
    with pytest.raises(Stalled, match=r"t\[0\]@3 for 15 s with 7 records"):
        looks(clock, Log(10), at(3, 3, 3))


def test_watchdog_ends_a_consumer_of_which_one_partition_stands_still_while_others_move(clock: list[float]) -> None:
    with pytest.raises(Stalled, match=r"t\[1\]@4"):
        looks(clock, Log(10), [{TP: moving, TopicPartition("t", 1): 4} for moving in range(3)])


@pytest.mark.parametrize(
    ("end", "standings", "lags"),
    [
        (10, at(3, 3, 4, 4, 5), [7, 7, 6, 6, 5]),
        (10, at(*[10] * 5), [0] * 5),
        (None, at(*[3] * 5), [None] * 5),
        (10, at(3, None, 3, None, 3), [7, 0, 7, 0, 7]),
    ],
    ids=["it moves", "nothing waits", "Kafka does not say", "nothing may be read"],
)
def test_watchdog_bears_with_one_that(
    clock: list[float], end: int | None, standings: list[dict[TopicPartition, int]], lags: list[int | None]
) -> None:
    assert looks(clock, Log(end), standings) == lags


def test_watchdog_counts_no_silence_of_kafka_as_standing_still(clock: list[float]) -> None:
    log = Log(10)

    async def run() -> None:
        dog = Watchdog(log, 15.0)
        for end in (10, None, None, 10, 10):
            log.end = end
            await dog.look({TP: 3})
            clock[0] += 10

    asyncio.run(run())


def test_watchdog_says_that_kafka_does_not_answer_until_it_does(clock: list[float]) -> None:
    log = Log(None)

    async def run() -> list[str | None]:
        dog, said = Watchdog(log, 15.0), []
        for end in (10, None, None, 10):
            log.end = end
            await dog.look({TP: 10})
            said.append(dog.ailment())
            clock[0] += 8
        return said

    assert asyncio.run(run()) == [None, None, "Kafka has not answered for 16 s", None]
