"""Being the only one in a folder, among all processes of this machine.

Enters: a folder. Leaves: a lock for the length of a block, freed by the system where its holder was killed. Does not
know: what is done meanwhile. An object store has no locks: there it is no lock at all.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import CandlewickError
from models.places import Place

LOCK_TIMEOUT_S, LOCK_POLL_S = 60.0, 0.01
"""A part takes its writer some tens of milliseconds."""


@contextmanager
def alone(folder: Place, within_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Be the only one in a folder among all processes of this machine; the system frees the lock of a killed one.

    Raises:
        CandlewickError: another one has it for longer than that.
        OSError: the folder is not there.
    """
    if not isinstance(folder, Path):
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder, within_s)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise CandlewickError(f"another process writes into {folder}; wait for it, or end it") from None
            time.sleep(LOCK_POLL_S)
        else:
            return
