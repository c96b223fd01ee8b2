"""The topics, what must hold for each, and how a cluster is made to hold it or refused.

Enters: settings and an admin client. Leaves: a cluster with every topic, or an error that names the topic and the mend.
Does not know: what the records mean.
"""

from __future__ import annotations

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

_EVENT_TIME = {
    # Replayed years must neither expire at once nor be cut into a segment per week of candles.
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "retention.ms": "-1",
    "segment.ms": str(MAX_MS),
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
    differences = await _differences(admin, settings, [topic for topic in TOPICS if topic not in missing])
    if differences:
        raise CandlewickError("this cluster's topics differ from what candlewick needs:\n  " + "\n  ".join(differences))
    return [settings.topic(topic.name) for topic in missing]


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


async def _differences(admin: AIOKafkaAdminClient, settings: Settings, topics: list[Topic]) -> list[str]:
    if not topics:
        return []
    names = [settings.topic(topic.name) for topic in topics]
    described = {topic["topic"]: topic for topic in await admin.describe_topics(names)}
    found = []
    for topic, name in zip(topics, names, strict=True):
        wanted, actual = topic.partitions or settings.kafka.partitions, len(described[name]["partitions"])
        if wanted != actual:
            found.append(
                f"{name} has {actual} partitions instead of {wanted}: delete it if its data may go, "
                "or set CANDLEWICK_KAFKA__PARTITIONS, or use another CANDLEWICK_KAFKA__TOPIC_PREFIX"
            )
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs = {}
    for response in await admin.describe_configs(resources):
        for _code, _message, _type, name, entries in response.resources:
            configs[name] = {entry[0]: entry[1] for entry in entries}
    for topic, name in zip(topics, names, strict=True):
        for key, value in topic.config.items():
            if configs[name].get(key) != value:
                found.append(
                    f"{name} has {key}={configs[name].get(key)} instead of {value}: "
                    f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {key}={value}"
                )
    return found


async def init_topics(settings: Settings) -> list[str]:
    """`candlewick init`: the names of the topics it had to create."""
    async with started(new_admin(settings)) as admin:
        return await create_topics(admin, settings)
