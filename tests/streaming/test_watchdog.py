"""A consumer that stands still while records wait ends its process; one that has nothing to do does not."""

from __future__ import annotations

import asyncio

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


def looks(monkeypatch: pytest.MonkeyPatch, log: Log, positions: list[int | None]) -> list[int]:
    """The lag at each of these positions, ten seconds apart, with a limit of 15; None: nothing may be read."""
    now_s = [0.0]
    monkeypatch.setattr("streaming.watchdog.time.monotonic", lambda: now_s[0])

    async def run() -> list[int]:
        dog, lags = Watchdog(log, 15.0), []
        for position in positions:
            lags.append(await dog.look({} if position is None else {TP: position}))
            now_s[0] += 10
        return lags

    return asyncio.run(run())


def test_watchdog_ends_a_consumer_that_stands_still_while_records_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stalled, match="15 s with 7 records"):
        looks(monkeypatch, Log(10), [3, 3, 3])


@pytest.mark.parametrize(
    ("end", "positions", "lags"),
    [(10, [3, 3, 4, 4, 5], [7, 7, 6, 6, 5]), (10, [10] * 5, [0] * 5), (None, [3] * 5, [0] * 5),
     (10, [3, None, 3, None, 3], [7, 0, 7, 0, 7])],
    ids=["it moves", "nothing waits", "Kafka does not say", "nothing may be read"],
)  # fmt: skip
def test_watchdog_bears_with_one_that(
    monkeypatch: pytest.MonkeyPatch, end: int | None, positions: list[int | None], lags: list[int]
) -> None:
    assert looks(monkeypatch, Log(end), positions) == lags
