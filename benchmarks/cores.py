"""Which process runs on which core, and how much of it it has used.

The worker gets one core; the broker, the load and whoever measures share the other. Linux only.
"""

from __future__ import annotations

import os
from pathlib import Path

from models.errors import CandlewickError

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def worker_core() -> int:
    """The core that the process under test has for itself."""
    return _cores()[0]


def stay_off_worker_core() -> None:
    """Keep this process, and all it starts from now on, to the other core.

    Raises:
        CandlewickError: there are not two cores, or this is not Linux.
    """
    os.sched_setaffinity(0, {_cores()[1]})


def take_worker_core() -> None:
    """Move this process to the worker's core; run in a child before it executes anything."""
    os.sched_setaffinity(0, {worker_core()})


def cpu_seconds(pid: int) -> float:
    """Processor time that a process, with all its threads, has used so far."""
    # The name in the second field may hold spaces and brackets; what follows its last bracket does not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _cores() -> list[int]:
    if not hasattr(os, "sched_setaffinity"):
        raise CandlewickError("these benchmarks pin processes to cores, which only Linux can")
    cores = _ALLOWED
    if len(cores) < 2:
        raise CandlewickError("these benchmarks need two cores: one for the worker, one for the broker and the load")
    return cores


_ALLOWED = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
