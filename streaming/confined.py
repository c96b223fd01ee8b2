"""Runs a command so that it disturbs nobody: low priority, bounded memory, and gone when its parent is.

Run as a file: `python confined.py PARENT NICE MEMORY_MB COMMAND...`. It becomes the command, so there is one process.
Enters: limits and a command line. Leaves: the command, under them. Does not know: what it is.

A parent that is killed can tell nobody, so Linux is asked to kill this process then. Elsewhere an orphan would work on
to its end; what it makes is looked at by nobody.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1


def confined(command: Sequence[str], nice: int, memory_mb: int) -> list[str]:
    """The command line that runs a command as a child of this process under these limits."""
    return [sys.executable, "-S", __file__, str(os.getpid()), str(nice), str(memory_mb), *command]


def _lower_session(nice: int) -> None:
    """Where Linux shares processor time out by session (autogroup), others feel the niceness of the session alone."""
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no such thing here, or switched off
            Path("/proc/self/autogroup").write_text(str(nice))


def main(parent: str, nice: str, memory_mb: str, *command: str) -> NoReturn:
    """Confine this process, then become the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before it could be watched
        sys.exit("the process that wanted this is gone")
    os.nice(int(nice))
    _lower_session(int(nice))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(memory_mb) << 20 if hard == resource.RLIM_INFINITY else min(int(memory_mb) << 20, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))  # not the address space: torch maps far more than it uses
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(*sys.argv[1:])
