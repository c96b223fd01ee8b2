"""Topics that history is read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming.embedded_kafka import EmbeddedKafka
from streaming.settings import Settings
from streaming.topics import init_topics
from tests.e2e.system import run, settings_of
from tests.streaming.history.topic_candles import PARTITIONS


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    """Of topics of a test's own."""
    settings = settings_of(kafka.bootstrap, topic_prefix, tmp_path, partitions=PARTITIONS)
    run(init_topics(settings))
    return settings
