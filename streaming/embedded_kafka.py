"""Real Apache Kafka as a child process: KRaft, one node, no Docker, no installed Java.

Enters: a `BrokerConfig`. Leaves: a broker that has taken and returned a record, at `bootstrap`. Does not know: topics,
candles, the command line. One broker a folder: a second start attaches to the first. It ends with its owner.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from streaming.embedded_config import BrokerConfig, choose_ports, find_java, java_command, server_properties
from streaming.embedded_failures import BrokerError, explain_exit
from streaming.embedded_folder import HOST, announce, last_port, open_lock, running_broker, try_lock
from streaming.embedded_process import BrokerProcess
from streaming.kafka_jars import fetch_jars

__all__ = ["BrokerConfig", "BrokerError", "EmbeddedKafka", "running_broker"]

logger = logging.getLogger(__name__)

_STARTED = "Kafka Server started"
_POLL_S = 0.02
_ROUND_TRIP_S = 10.0
_FORMAT_S = 60.0
_FORMATTED = ("data/meta.properties", "meta/meta.properties", "meta/bootstrap.checkpoint")


class EmbeddedKafka:
    """A broker, owned (ends with this process) or attached to (another process owns it). Use as a context manager."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._folder = config.folder.absolute()
        self._process: BrokerProcess | None = None
        self._announcement: int | None = None
        self._bootstrap: str | None = None
        self._given_up = threading.Event()

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT` of the last start, which a restart on the same folder keeps where it can."""
        if self._bootstrap is None:
            raise RuntimeError("the broker was never started")
        return self._bootstrap

    @property
    def owned(self) -> bool:
        """Whether `stop` ends the broker: this object started it."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Process id of the broker's Java, None when attached or stopped."""
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Start the broker, or attach to the live one of its folder. Blocks until it is ready (about 2.5 s).

        May be called in a thread, and again after `stop` or `kill`; does nothing while the broker lives.

        Raises:
            BrokerError: it cannot run; the message says why and what to do.
        """
        if self._process and self._process.end() is None:
            return self
        self.stop()
        deadline = time.monotonic() + self._config.start_timeout_s
        lock = self._lock_or_attach(deadline)
        if lock is not None:
            try:
                self._launch(lock)
            except OSError as error:
                self.stop()
                raise BrokerError(f"the broker of {self._folder} could not be started: {error}") from error
            except BaseException:
                self.stop()
                raise
            finally:
                os.close(lock)  # from here on the broker itself holds the folder
        logger.info("broker.ready bootstrap=%s owned=%s folder=%s", self._bootstrap, self.owned, self._folder)
        return self

    def give_up(self) -> None:
        """End a start that is under way in another thread, within a moment and with a `BrokerError`; allow no other."""
        self._given_up.set()

    def stop(self) -> None:
        """End an owned broker cleanly (about .5 s), leave an attached one. Harmless when it has ended."""
        self._withdraw()
        if self._process:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """SIGKILL an owned broker, for fault tests. `start` brings it back on the same port."""
        self._withdraw()
        if self._process:
            self._process.kill()
            self._process = None

    def failure(self) -> str | None:
        """Why an owned broker ended by itself; None while it lives, when attached and when stopped."""
        return self._process.end() if self._process else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _lock_or_attach(self, deadline: float) -> int | None:
        """Return the locked folder, or None once attached. A broker that starts or dies is waited for."""
        lock = open_lock(self._folder)
        locked = False
        try:
            locked = self._await_lock(lock, deadline)
        finally:
            if not locked:
                os.close(lock)
        return lock if locked else None

    def _await_lock(self, lock: int, deadline: float) -> bool:
        while not try_lock(lock):
            if self._attach(deadline):
                return False
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the folder {self._folder} is in use by another process, but no broker answers there; "
                    "stop that process, or choose another folder"
                )
            self._pause()
        return True

    def _attach(self, deadline: float) -> bool:
        bootstrap = running_broker(self._folder)
        if bootstrap is None or not _answers(bootstrap, deadline):
            return False
        self._bootstrap = bootstrap
        return True

    def _launch(self, lock: int) -> None:
        java = find_java(self._config.java_home)
        jars = fetch_jars(self._config.cache, given_up=self._given_up)
        command = java_command(java, self._config.heap_mb, jars)
        port, controller_port = choose_ports(self._config.port, last_port(self._folder))
        (self._folder / "server.properties").write_text(server_properties(port, controller_port))
        self._format(command, lock)
        deadline = time.monotonic() + self._config.start_timeout_s  # a slow first download is not the broker's fault
        self._process = BrokerProcess([*command, "kafka.Kafka", "server.properties"], self._folder, lock)
        self._bootstrap = f"{HOST}:{port}"
        self._await_ready(self._process, self._bootstrap, deadline)
        self._announcement = announce(self._folder, port)

    def _format(self, command: Sequence[str], lock: int) -> None:
        """Prepare an empty folder, once. An interrupted preparation is repeated under the same cluster id."""
        if all((self._folder / name).exists() for name in _FORMATTED):
            return
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
        options = ["--cluster-id", _cluster_id(self._folder), "--config", "server.properties"]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                [*command, *tool, *options],
                cwd=self._folder,
                # If this process is killed meanwhile, the folder stays locked until the tool has ended.
                pass_fds=(lock,),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # Ctrl-C is for the owner, who then gives up
            )
            said = self._end_of(process)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BrokerError(
                f"Java cannot run on this platform: {error}; set JAVA_HOME to a Java 17 or later"
            ) from error
        if process.returncode:
            raise BrokerError(explain_exit(said, process.returncode))

    def _end_of(self, process: subprocess.Popen[str]) -> str:
        """What a tool said until its end."""
        deadline = time.monotonic() + _FORMAT_S
        with process:
            try:
                while True:
                    try:
                        return process.communicate(timeout=_POLL_S)[0]
                    except subprocess.TimeoutExpired:
                        if time.monotonic() > deadline:
                            raise
                        self._pause()
            finally:
                process.kill()

    def _await_ready(self, process: BrokerProcess, bootstrap: str, deadline: float) -> None:
        from streaming import embedded_ready  # noqa: F401 - imported while Java starts

        while not (_STARTED in process.log() and _answers(bootstrap, deadline)):
            if reason := process.end():
                raise BrokerError(reason)
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Kafka was not ready after {self._config.start_timeout_s:g} s; see {self._folder / 'broker.log'}"
                )
            self._pause()

    def _pause(self) -> None:
        if self._given_up.wait(_POLL_S):
            raise BrokerError("asked to stop while starting")

    def _withdraw(self) -> None:
        """Nobody attaches to a broker that is about to end."""
        if self._announcement is not None:
            os.close(self._announcement)
            self._announcement = None


def _answers(bootstrap: str, deadline: float) -> bool:
    from streaming.embedded_ready import check_round_trip

    try:
        check_round_trip(bootstrap, min(_ROUND_TRIP_S, max(_POLL_S, deadline - time.monotonic())))
    except BrokerError as error:
        logger.debug("broker.round_trip bootstrap=%s error=%s", bootstrap, error)
        return False
    return True


def _cluster_id(folder: Path) -> str:
    for name in _FORMATTED[:2]:
        if (folder / name).exists() and (match := re.search(r"^cluster\.id=(\S+)", (folder / name).read_text(), re.M)):
            return match[1]
    random = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return "C" + random[1:]  # one in 64 would begin with a dash, which the tool takes for an option
