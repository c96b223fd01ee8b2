"""Child processes kept alive: restarted with backoff, at most 5 times in 10 minutes, and ended with their parent.

Enters: command lines. Leaves: running processes, or an error once one cannot be kept. Does not know: what they do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.errors import CandlewickError

logger = logging.getLogger(__name__)

MAX_RESTARTS, WINDOW_S = 5, 600.0
FIRST_DELAY_S, MAX_DELAY_S = 0.5, 30.0
STOP_TIMEOUT_S = 12.0
"""SIGTERM drains within 10 s; what is still there after a little more is killed."""
LOG_BYTES = 10 << 20


class Restarts:
    """The bound on restarts, as a function of time that is given to it."""

    def __init__(self) -> None:
        self._at: deque[float] = deque()

    def next_delay_s(self, now_s: float) -> float | None:
        """Seconds to wait before the restart that is due now; None when there were too many already."""
        while self._at and now_s - self._at[0] > WINDOW_S:
            self._at.popleft()
        if len(self._at) >= MAX_RESTARTS:
            return None
        self._at.append(now_s)
        return float(min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (len(self._at) - 1)))


class Child:
    """One process that is to run for as long as this one; its stderr goes to a log file of bounded size."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._command = list(command)
        self._env = dict(env)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self.ready = asyncio.Event()  # it said {"ready": ...} on its stdout
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def keep(self) -> None:
        """Run it until `stop`.

        Raises:
            CandlewickError: it ended more often than it may; the message holds the end of its log.
        """
        allowed = Restarts()
        while not self._stopping:
            code = await self._run_once()
            if self._stopping:
                return
            delay_s = allowed.next_delay_s(time.monotonic())
            if delay_s is None:
                raise CandlewickError(
                    f"{self.name} ended {MAX_RESTARTS + 1} times within {WINDOW_S / 60:g} minutes, the last time with "
                    f"code {code}; the end of {self._log}:\n{self._log_end()}"
                )
            self.restarts += 1
            delay_s *= random.uniform(0.8, 1.2)
            logger.warning("restarting child=%s code=%s in_s=%.1f log=%s", self.name, code, delay_s, self._log)
            await asyncio.sleep(delay_s)

    async def _run_once(self) -> int:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as log:
            # It watches the pipe on its stdin, and ends when this process does, however that happens.
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._env,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        async for line in self._process.stdout:
            if _says_ready(line):
                self.ready.set()
        code = await self._process.wait()
        self.ready.clear()
        return code

    async def stop(self) -> None:
        """Ask it to end, wait, then make it."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            logger.warning("killed child=%s pid=%d it did not end in %g s", self.name, process.pid, STOP_TIMEOUT_S)
            process.kill()
            await process.wait()

    def _log_end(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])


def _says_ready(line: bytes) -> bool:
    try:
        return "ready" in json.loads(line)
    except ValueError:
        return False
