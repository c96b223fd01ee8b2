"""Topics on a real broker: made once, held to what they must be."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiokafka.admin import NewTopic

from models.errors import CandlewickError
from streaming.clients import new_admin, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.models_topic import read_models
from streaming.read import read_topic
from streaming.settings import Settings
from streaming.tail import newest_closes
from streaming.topics import TOPICS, check_topics, init_topics
from tests.e2e.system import alter_topic, settings_of
from tests.eventually import eventually

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    return settings_of(kafka.bootstrap, topic_prefix, tmp_path, partitions=3)


def test_init_with_some_topics_there_creates_the_others(settings: Settings) -> None:
    async def create_one() -> None:
        async with started(new_admin(settings)) as admin:
            config = next(topic.config for topic in TOPICS if topic.name == "candles")
            await admin.create_topics([NewTopic(settings.topic("candles"), 3, 1, topic_configs=config)])

    async def topics() -> list[str]:
        async with started(new_admin(settings)) as admin:
            return list(await admin.list_topics())

    run(create_one())
    eventually(lambda: settings.topic("candles") in run(topics()))  # the controller answers before brokers know it

    assert settings.topic("candles") not in run(init_topics(settings))


def test_init_cluster_with_other_retention_is_refused_by_topic_and_mend(settings: Settings) -> None:
    run(init_topics(settings))
    run(alter_topic(settings, "signals", {"retention.ms": "604800000"}))

    with pytest.raises(CandlewickError) as refusal:
        run(init_topics(settings))

    assert f"{settings.topic('signals')} has retention.ms=604800000 instead of -1" in str(refusal.value)
    assert f"--entity-name {settings.topic('signals')} --add-config retention.ms=-1" in str(refusal.value)


async def read_something(settings: Settings, what: str) -> None:
    if what == "signals":
        async for _ in read_topic(settings, "signals"):
            pass
    elif what == "models":
        await read_models(settings)
    else:
        await newest_closes(settings, {b"binance|BTC/USDT|1m"})


@pytest.mark.parametrize("what", ["signals", "models", "candles"])
def test_reading_a_topic_that_is_not_there_names_it_and_init(settings: Settings, what: str) -> None:
    with pytest.raises(CandlewickError, match=rf"no topic {settings.topic(what)}: run `candlewick init`"):
        run(read_something(settings, what))


def test_check_topics_after_init_has_nothing_to_say(settings: Settings) -> None:
    run(init_topics(settings))
    run(check_topics(settings, *(topic.name for topic in TOPICS)))


def test_topics_of_other_retention_can_be_read_but_not_served_from(settings: Settings) -> None:
    run(init_topics(settings))
    run(alter_topic(settings, "signals", {"retention.ms": "604800000"}))
    run(read_something(settings, "signals"))
    with pytest.raises(CandlewickError, match=r"signals has retention\.ms=604800000 instead of -1"):
        run(check_topics(settings, "signals"))


def test_topics_of_other_partitions_cannot_be_read_by_topic_and_mend(settings: Settings) -> None:
    run(init_topics(settings))
    other = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 5})})
    with pytest.raises(CandlewickError, match="signals has 3 partitions instead of 5"):
        run(read_something(other, "signals"))
