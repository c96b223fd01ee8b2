"""Where a partition is taken up, and that nothing is made of an answer that says nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupLoadInProgressError

from models.errors import CandlewickError
from streaming import committed
from streaming.resuming import TakenUp, take_up
from streaming.rewind import Resume

TP = TopicPartition("candlewick.candles", 3)


class Ends:
    """A log of 100 records."""

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 100)


def taken_up(monkeypatch: pytest.MonkeyPatch, topics: list[Any], error: int = 0) -> dict[Any, TakenUp]:
    """With aiokafka's own admin client, to which the broker answers this."""

    async def answer(*_: Any) -> Any:
        return SimpleNamespace(topics=topics, error_code=error)

    async def coordinator(*_: Any) -> int:
        return 0

    monkeypatch.setattr(AIOKafkaAdminClient, "_send_request", answer)
    monkeypatch.setattr(AIOKafkaAdminClient, "find_coordinator", coordinator)
    admin = object.__new__(AIOKafkaAdminClient)
    return asyncio.run(take_up(admin, Ends(), "candlewick.monitor", [TP]))


def test_take_up_follows_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = taken_up(monkeypatch, [(TP.topic, [(TP.partition, 50, "rewind=40 settled=30", 0)])])
    assert found == {TP: TakenUp(Resume(40, 50), {"rewind": 40, "settled": 30}, 100)}


def test_take_up_of_a_commit_beyond_the_log_names_a_command_that_kafka_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tool refuses a reset without a topic, and knows no broker by itself."""
    with pytest.raises(CandlewickError) as refused:
        taken_up(monkeypatch, [(TP.topic, [(TP.partition, 101, "rewind=40", 0)])])
    assert "--bootstrap-server HOST:PORT" in str(refused.value)
    assert "--group candlewick.monitor --topic candlewick.candles --execute" in str(refused.value)


def test_take_up_of_what_nobody_committed_begins_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken_up(monkeypatch, [(TP.topic, [(TP.partition, -1, "", 0)])])[TP].plan == Resume(0, 0)


def test_take_up_takes_no_answer_of_a_loading_coordinator_for_a_group_without_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that cannot say answers with an error for the whole group, which aiokafka passes over."""
    monkeypatch.setattr(committed, "PATIENCE_S", 0.0)
    with pytest.raises(CandlewickError, match=r"candlewick\.monitor.*candlewick\.candles\[3\]"):
        taken_up(monkeypatch, [], GroupLoadInProgressError.errno)
