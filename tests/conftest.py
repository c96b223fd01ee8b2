"""What every test may ask for: one real broker for the whole session, started when the first test asks."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from streaming.embedded_kafka import BrokerConfig, EmbeddedKafka
from streaming.kafka_jars import default_cache

# A shell's background job ignores Ctrl-C, and so would every process that a test starts to try it on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Of every law that says nothing else: a loaded machine is no finding, and what fails once fails again.
settings.register_profile("candlewick", deadline=None, derandomize=True, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("candlewick")

# Read when torch is imported. Its threads wait actively for each other: beside another busy core a test takes many
# times longer; and every process of the product runs with one thread.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the broker carries its marker, so that `-m 'not kafka'` is complete."""
    for item in items:
        if isinstance(item, pytest.Function) and "kafka" in item.fixturenames:
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A ready broker, shared: take topics of your own by `topic_prefix`, never stop or kill it."""
    with EmbeddedKafka(BrokerConfig(folder=tmp_path_factory.mktemp("kafka"), cache=default_cache())) as broker:
        yield broker


@pytest.fixture
def topic_prefix() -> str:
    """A prefix such as `t3f9a1c.`, so that tests on the shared broker never meet."""
    return f"t{uuid.uuid4().hex[:6]}."
