"""Child processes kept alive: restarted with backoff, at most 5 times in 10 minutes, and ended with their parent.

Enters: command lines. Leaves: running processes, or an error once one cannot be kept. Does not know: what they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.errors import CandlewickError

logger = logging.getLogger(__name__)

MAX_RESTARTS, WINDOW_S = 5, 600.0
SHUT_OUT = 78
"""Exit code of a process whose work another one has taken over; EX_CONFIG of sysexits.h."""
FIRST_DELAY_S, MAX_DELAY_S = 0.5, 30.0
STOP_TIMEOUT_S = 12.0
"""SIGTERM drains within 10 s; what is still there after a little more is killed."""
LOG_BYTES = 10 << 20
LOG_LOOK_S = 5.0
LINE_BYTES = 64 << 10
POLL_S = 0.02
MENDABLE = "candlewick: "
"""So begins what a command says of an error with a mend, as its last line."""


class Restarts:
    """The bound on restarts, as a function of time that is given to it."""

    def __init__(self) -> None:
        self._at: deque[float] = deque()
        self._shut_out_s = float("-inf")

    def next_delay_s(self, now_s: float, code: int = 1) -> float | None:
        """Seconds to wait before the restart that is due now, after this exit code; None when it is no use any more.

        Who is shut out for the second time is not alone: another one is kept up as well, and each restart would end
        that one's work. The first time it may have been itself, as after a machine's sleep.
        """
        if code == SHUT_OUT:
            last_s, self._shut_out_s = self._shut_out_s, now_s
            if now_s - last_s <= WINDOW_S:
                return None
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
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()  # it said {"ready": ...} on its stdout
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def keep(self) -> None:
        """Run it until `stop`.

        Raises:
            CandlewickError: it ended more often than it may, or another process does its work; the message holds the
                end of its log.
        """
        allowed = Restarts()
        while not self._stop.is_set():
            code = await self._run_once()
            if self._stop.is_set():
                return
            delay_s = allowed.next_delay_s(time.monotonic(), code)
            if delay_s is None:
                raise CandlewickError(f"{self.name} {_ended(code)}; {self._last_words()}")
            self.restarts += 1
            delay_s *= random.uniform(0.8, 1.2)
            logger.warning("restarting child=%s code=%s in_s=%.1f log=%s", self.name, code, delay_s, self._log)
            with contextlib.suppress(TimeoutError):  # a stop need not wait for the delay to pass
                await asyncio.wait_for(self._stop.wait(), delay_s)

    async def _run_once(self) -> int:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._put_large_log_aside()
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
        listening = asyncio.create_task(self._listen(self._process))
        bounding = asyncio.create_task(self._bound_log())
        if self._stop.is_set():  # it was asked for while the process began
            self._process.terminate()
        code = await _exit_code(self._process)
        _kill_group(self._process.pid)
        bounding.cancel()
        await listening
        self.ready.clear()
        return code

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        begun = b""
        while data := await process.stdout.read(LINE_BYTES):
            *lines, begun = (begun + data).split(b"\n")
            begun = begun[-LINE_BYTES:]
            for line in lines:
                if _says_ready(line):
                    self.ready.set()
                else:
                    logger.warning("child=%s says %s", self.name, line[:500].decode(errors="replace"))

    async def _bound_log(self) -> None:
        while True:
            await asyncio.sleep(LOG_LOOK_S)
            self._put_large_log_aside()

    def _put_large_log_aside(self) -> None:
        """Whoever writes it goes on in the same file, to which it only appends."""
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self._log, self._log.with_suffix(".log.1"))
            os.truncate(self._log, 0)

    async def stop(self) -> None:
        """Ask it to end, wait, then make it; at once where the wait is cancelled."""
        self._stop.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(_exit_code(process), STOP_TIMEOUT_S)
        except TimeoutError:
            logger.warning("killed child=%s pid=%d it did not end in %g s", self.name, process.pid, STOP_TIMEOUT_S)
            process.kill()
            await _exit_code(process)
        except asyncio.CancelledError:  # a second Ctrl-C: nobody will wait for it
            _kill_group(process.pid)
            raise

    def _last_words(self) -> str:
        """What it said that a person can mend, else the end of its log."""
        end = self._log.read_text(errors="replace").splitlines()[-12:]
        if end and end[-1].startswith(MENDABLE):
            return f"it says: {end[-1].removeprefix(MENDABLE)} (its log is {self._log})"
        return f"the end of {self._log}:\n" + "\n".join(end)


async def _exit_code(process: asyncio.subprocess.Process) -> int:
    """Wait for the process itself; asyncio's own `wait` waits for its pipes too, which a child of it may hold open."""
    while process.returncode is None:  # noqa: ASYNC110 - asyncio sets no event when the process alone has ended
        await asyncio.sleep(POLL_S)
    return process.returncode


def _ended(code: int) -> str:
    """Why it is not started again."""
    if code == SHUT_OUT:
        return "was shut out again: another one of its name is kept running somewhere; stop one of them"
    return f"ended {MAX_RESTARTS + 1} times within {WINDOW_S / 60:g} minutes, the last time with code {code}"


def _kill_group(pid: int) -> None:
    """End what a dead process left behind: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _says_ready(line: bytes) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and "ready" in said
