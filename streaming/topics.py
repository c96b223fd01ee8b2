"""The topics, what must hold for each, and how a cluster is made to hold it or refused.

Enters: settings and an admin client. Leaves: a cluster with every topic, or an error that names the topic and the mend.
Does not know: what the records mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from models.errors import CandlewickError
from streaming.clients import new_admin, started
from streaming.settings import Settings

MAX_MS = 2**63 - 1
CONTROL_PARTITIONS = 4
VISIBLE_TIMEOUT_S, VISIBLE_POLL_S = 30.0, 0.05

_EVENT_TIME = {
    # Replayed years must neither expire at once nor be cut into a segment per week of candles.
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "retention.ms": "-1",
    "segment.ms": str(MAX_MS),
    # A candle whose clock runs ahead still gets its signal: refused, it would stop its partition for good.
    "message.timestamp.after.max.ms": str(MAX_MS),
    "segment.bytes": str(64 << 20),
}
_WALL_TIME = {"cleanup.policy": "delete", "message.timestamp.type": "CreateTime", "retention.ms": "-1"}
_COMPACTED = {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}


@dataclass(frozen=True)
class Topic:
    """What must hold for one topic; `partitions` None is the setting's count."""

    name: str
    partitions: int | None = None
    config: dict[str, str] = field(default_factory=lambda: _EVENT_TIME)


TOPICS = (
    Topic("candles"),
    Topic("signals"),
    Topic("shadow-signals"),
    Topic("outcomes"),
    Topic("fills"),
    Topic("scores", 1),
    Topic("drift", 1),
    Topic("retrain-jobs", CONTROL_PARTITIONS, _WALL_TIME),
    Topic("job-events", CONTROL_PARTITIONS, _WALL_TIME),
    Topic("dead-letters", CONTROL_PARTITIONS, _WALL_TIME),
    Topic("models", 1, _COMPACTED),
)


def topic_partitions(settings: Settings, name: str) -> list[TopicPartition]:
    """Every partition of one of our topics."""
    count = next(topic.partitions for topic in TOPICS if topic.name == name)
    return [TopicPartition(settings.topic(name), p) for p in range(count or settings.kafka.partitions)]


async def create_topics(admin: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    """Create the topics that are missing, hold the others to what they must be, and name the created ones.

    Raises:
        CandlewickError: a topic is there already and differs; the message names it and the mend.
    """
    existing = set(await admin.list_topics())
    missing = [topic for topic in TOPICS if settings.topic(topic.name) not in existing]
    if missing:
        await _create(admin, settings, missing)
        await _seen(admin, {settings.topic(topic.name) for topic in missing})
    await _refuse_differences(admin, settings, list(TOPICS))
    return [settings.topic(topic.name) for topic in missing]


async def check_topics(settings: Settings, *names: str) -> None:
    """See to it that these topics are there as they must be, for who is to serve from them.

    Raises:
        CandlewickError: one is missing or differs; the message names it and the mend.
    """
    topics = [topic for topic in TOPICS if topic.name in names]
    async with started(new_admin(settings)) as admin:
        await _refuse_missing(admin, settings, topics)
        await _refuse_differences(admin, settings, topics)


async def require_topics(settings: Settings, *names: str) -> None:
    """See to it that these topics can be read: a client of a missing topic or partition would only wait for it.

    Raises:
        CandlewickError: one is missing, or has other partitions; the message names it and the mend.
    """
    topics = [topic for topic in TOPICS if topic.name in names]
    async with started(new_admin(settings)) as admin:
        await _refuse_missing(admin, settings, topics)
        _refuse(await _other_partitions(admin, settings, topics))


async def _refuse_missing(admin: AIOKafkaAdminClient, settings: Settings, topics: list[Topic]) -> None:
    existing = set(await admin.list_topics())
    missing = [settings.topic(topic.name) for topic in topics if settings.topic(topic.name) not in existing]
    if missing:
        raise CandlewickError(f"Kafka has no topic {', '.join(missing)}: run `candlewick init` first")


async def _create(admin: AIOKafkaAdminClient, settings: Settings, topics: Iterable[Topic]) -> None:
    wanted = [
        NewTopic(
            settings.topic(topic.name),
            topic.partitions or settings.kafka.partitions,
            settings.kafka.replication_factor,
            topic_configs=topic.config,
        )
        for topic in topics
    ]
    response = await admin.create_topics(wanted)
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another init at the same moment is welcome
            raise CandlewickError(f"topic {name} could not be created: {error.__name__} {message or ''}")


async def _seen(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """Wait until brokers know of new topics: the controller answers before it has told them."""
    try:
        async with asyncio.timeout(VISIBLE_TIMEOUT_S):
            while not names <= set(await admin.list_topics()):  # noqa: ASYNC110 - Kafka has no event for it
                await asyncio.sleep(VISIBLE_POLL_S)
    except TimeoutError as error:
        raise CandlewickError(
            f"Kafka made the topics, but its brokers do not know them after {VISIBLE_TIMEOUT_S:g} s; is one down?"
        ) from error


async def _refuse_differences(admin: AIOKafkaAdminClient, settings: Settings, topics: list[Topic]) -> None:
    if topics:
        _refuse(await _other_partitions(admin, settings, topics) + await _other_configs(admin, settings, topics))


def _refuse(differences: list[str]) -> None:
    if differences:
        raise CandlewickError("this cluster's topics differ from what candlewick needs:\n  " + "\n  ".join(differences))


async def _other_partitions(admin: AIOKafkaAdminClient, settings: Settings, topics: list[Topic]) -> list[str]:
    described = await admin.describe_topics([settings.topic(topic.name) for topic in topics])
    actual = {topic["topic"]: len(topic["partitions"]) for topic in described}
    wanted = {settings.topic(topic.name): topic.partitions or settings.kafka.partitions for topic in topics}
    return [
        f"{name} has {actual[name]} partitions instead of {count}: delete it if its data may go, "
        "or set CANDLEWICK_KAFKA__PARTITIONS, or use another CANDLEWICK_KAFKA__TOPIC_PREFIX"
        for name, count in wanted.items()
        if actual[name] != count
    ]


async def _other_configs(admin: AIOKafkaAdminClient, settings: Settings, topics: list[Topic]) -> list[str]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, settings.topic(topic.name)) for topic in topics]
    actual = {}
    for response in await admin.describe_configs(resources):
        for _code, _message, _type, name, entries in response.resources:
            actual[name] = {entry[0]: entry[1] for entry in entries}
    wanted = [(settings.topic(topic.name), key, value) for topic in topics for key, value in topic.config.items()]
    return [
        f"{name} has {key}={actual[name].get(key)} instead of {value}: "
        "kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics "
        f"--entity-name {name} --add-config {key}={value}"
        for name, key, value in wanted
        if actual[name].get(key) != value
    ]


async def init_topics(settings: Settings) -> list[str]:
    """`candlewick init`: the names of the topics it had to create."""
    async with started(new_admin(settings)) as admin:
        return await create_topics(admin, settings)
