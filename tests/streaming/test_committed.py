"""A coordinator that is just being made, loaded or moved is asked again, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import cycle, repeat
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError
from aiokafka.structs import OffsetAndMetadata

from models.errors import CandlewickError
from streaming import committed
from streaming.committed import committed_offsets

TP = TopicPartition("candlewick.candles", 3)
COMMIT = OffsetAndMetadata(50, "rewind=40")
NO_COORDINATOR = SimpleNamespace(error_code=GroupCoordinatorNotAvailableError.errno, topics=[])
COORDINATOR = SimpleNamespace(error_code=0, coordinator_id=0)
LOADING = SimpleNamespace(error_code=GroupLoadInProgressError.errno, topics=[])
TOLD = SimpleNamespace(error_code=0, topics=[(TP.topic, [(TP.partition, *COMMIT, 0)])])


def asked(monkeypatch: pytest.MonkeyPatch, answers: Iterable[Any], tps: list[TopicPartition] | None) -> Any:
    """By aiokafka's own admin client, to which the broker answers these."""
    given = iter(answers)

    async def answer(*_: Any) -> Any:
        return next(given)

    monkeypatch.setattr(AIOKafkaAdminClient, "_send_request", answer)
    return asyncio.run(committed_offsets(object.__new__(AIOKafkaAdminClient), "candlewick.predict", tps))


@pytest.mark.parametrize("tps", [[TP], None])
def test_committed_offsets_without_a_coordinator_for_a_moment_are_told_later(
    monkeypatch: pytest.MonkeyPatch, tps: list[TopicPartition] | None
) -> None:
    found = asked(monkeypatch, [NO_COORDINATOR, NO_COORDINATOR, COORDINATOR, TOLD], tps)
    assert found == {TP: COMMIT}


def test_committed_offsets_of_a_loading_coordinator_are_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, [COORDINATOR, LOADING, COORDINATOR, TOLD], [TP]) == {TP: COMMIT}


def test_committed_offsets_without_a_coordinator_for_good_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committed, "PATIENCE_S", 0.05)
    with pytest.raises(GroupCoordinatorNotAvailableError, match=r"candlewick\.predict"):
        asked(monkeypatch, repeat(NO_COORDINATOR), None)


def test_committed_offsets_never_told_raise_and_name_the_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committed, "PATIENCE_S", 0.05)
    with pytest.raises(CandlewickError, match=r"candlewick\.candles\[3\]"):
        asked(monkeypatch, cycle([COORDINATOR, LOADING]), [TP])
