"""Run independent tasks on worker processes of one thread each, and leave no process behind.

Enters: a function and tasks, both known by import or pickle. Leaves: nothing but what the function does itself, so its
results belong in files. Does not know: what a task is.

A worker that dies takes the pool with it. What had finished stays finished; the rest runs again with half as many
workers, twice at most, since the likeliest cause is too little memory.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import TypeVar

from models.errors import CandlewickError

Task = TypeVar("Task")

MOST_DEATHS = 2
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""For each worker, before it imports anything: `models.predictor.use_one_thread` says why."""


def run_all(work: Callable[[Task], None], tasks: Sequence[Task], jobs: int, finished: Callable[[Task], None]) -> None:
    """Run every task; `finished` is told of each as it ends, in this process.

    Whatever ends this call, a Ctrl-C or an error of a task included, ends the workers.

    Raises:
        CandlewickError: workers died again and again.
    """
    from loky.process_executor import BrokenProcessPool

    left = list(tasks)
    for death in range(MOST_DEATHS + 1):
        try:
            _run(work, left, max(jobs >> death, 1), finished)
        except BrokenProcessPool as error:
            reason = str(error).split("\n", 1)[0]
        else:
            return
    raise CandlewickError(
        f"a worker process died {MOST_DEATHS + 1} times, mostly a sign of too little memory ({reason}). "
        "What is done is kept: run the same command again with --jobs 1, or with fewer symbols or bars"
    )


def end_with(parent: int) -> None:
    """End this process at once if its parent is gone: nobody waits for its result."""
    if os.getppid() != parent:
        os._exit(1)


def _run(work: Callable[[Task], None], left: list[Task], jobs: int, finished: Callable[[Task], None]) -> None:
    """Take each task off the list when it is done."""
    from loky import ProcessPoolExecutor, as_completed

    pool = ProcessPoolExecutor(min(jobs, len(left)) or 1, initializer=_leave_ctrl_c_to_parent, env=ONE_THREAD)
    try:
        running = {pool.submit(work, task): task for task in left}
        for future in as_completed(running):
            future.result()
            left.remove(running[future])
            finished(running[future])
    except BaseException:
        pool.shutdown(wait=True, kill_workers=True)
        raise
    pool.shutdown(wait=True)


def _leave_ctrl_c_to_parent() -> None:
    """A Ctrl-C reaches the whole group of processes; the parent alone decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
