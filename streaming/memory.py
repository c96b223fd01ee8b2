"""How a role's process treats its memory: it looks for cycles seldom, and keeps what it has freed.

Does not know: what the process does.

A batch in flight is tens of thousands of small objects that no cycle binds. At Python's defaults, which look at the
young ones after every 700 and at everything (torch included) when a quarter has been added, that search costs half as
much again as all the work on a candle. And a batch's megabytes, given back to the system after each batch, come back as
pages to be cleared: glibc is told to keep them.
"""

from __future__ import annotations

import ctypes
import gc

YOUNG_OBJECTS = 200_000
"""More than the batches in flight hold; so many new objects, and the collector looks at them."""
KEPT_BYTES = 256 << 20
"""As much as is free at the end of the heap stays there; only a block beyond it has a mapping of its own."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def settle() -> None:
    """Leave what there is now out of every later search, and search seldom; call it once a process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, others have other defaults
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
