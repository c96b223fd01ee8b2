"""The broker's process: started under a watcher, so that it ends when its owner does, however that happens.

Enters: a command line, a folder, a lock. Leaves: a running process, its log, its end. Does not know: Kafka's protocol.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from streaming.embedded_failures import BrokerError, explain_exit

_STOP_S = 30.0
_PID_S = 10.0
_LOG_BYTES = 5 << 20  # a bigger log is set aside at the next start
_TAIL_BYTES = 1 << 20
_WATCH = """\
exec 3<&0 4>&1 1>&2 </dev/null  # 3: the owner's pipe, 4: the lock
"$@" 3<&- & broker=$!
echo $broker >&4
(
  exec 4>&-
  while read -r _ <&3; do :; done
  kill -TERM $broker
  seconds=0
  while [ $((seconds += 1)) -le 30 ] && kill -0 $broker; do sleep 1; done
  kill -KILL $broker
) >/dev/null 2>&1 & watcher=$!
exec 3<&- 4>&-
wait $broker; code=$?
kill $watcher 2>/dev/null
exit $code
"""
"""The pipe's other end is the owner's: it closes when the owner dies, by kill -9 too. The lock file travels as standard
output, for a POSIX shell closes only descriptors of one digit: after the `exec`s the broker alone holds the lock."""


class BrokerProcess:
    """A broker process, which holds the lock of its folder as long as it lives."""

    def __init__(self, command: Sequence[str], folder: Path, lock: int) -> None:
        self._folder = folder
        self._log_start = _rotate(folder / "broker.log")
        os.ftruncate(lock, 0)
        with (folder / "broker.log").open("ab") as log:
            self._shell = subprocess.Popen(  # noqa: S603 - our own command line, no shell expands it
                ["/bin/sh", "-c", _WATCH, "candlewick-broker", *command],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=lock,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the owner, who then stops the broker
            )
        self.pid = 0  # of Java, not of the shell around it
        try:
            self.pid = self._read_pid(lock)
        except BaseException:
            self.stop()
            raise

    def _read_pid(self, lock: int) -> int:
        deadline = time.monotonic() + _PID_S
        while not (written := os.pread(lock, 32, 0)).endswith(b"\n"):
            if self._shell.poll() is not None or time.monotonic() > deadline:
                raise BrokerError(f"the shell could not start the broker: {self.log()}")
            time.sleep(0.002)
        return int(written)

    def log(self) -> str:
        """What the broker has written since it was started, its last MiB."""
        with (self._folder / "broker.log").open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return log.read().decode(errors="replace")

    def end(self) -> str | None:
        """Why the broker ended, None while it lives."""
        code = self._shell.poll()
        return None if code is None else explain_exit(self.log(), code)

    def stop(self) -> None:
        """End it cleanly, by force after 30 s. Harmless when it has ended."""
        self._signal(signal.SIGTERM)  # not by the pipe: a forked child of this process may hold it open
        if not self.pid:
            self._close_pipe()
        try:
            self._shell.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()
        self._close_pipe()  # last, else the watcher sets to work, and its sleep outlives the broker

    def kill(self) -> None:
        """End it as a power cut would end it: SIGKILL to the broker itself."""
        self._signal(signal.SIGKILL)
        self._shell.wait()
        self._close_pipe()

    def _signal(self, number: signal.Signals) -> None:
        if self.pid and self._shell.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _close_pipe(self) -> None:
        """Let the watcher act: at the end of the pipe it sends SIGTERM."""
        if self._shell.stdin:
            self._shell.stdin.close()


def _rotate(log: Path) -> int:
    """Set a big log aside; return where the next line will be written."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return 0
    if size > _LOG_BYTES:
        log.replace(log.with_name("broker.log.1"))
        return 0
    return size
