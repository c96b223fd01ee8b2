"""How rarely a role's process looks for cycles among its objects.

Does not know: what the process does.

A batch in flight is tens of thousands of records that no cycle binds. At Python's default, which looks at all the young
ones after every 700, and at everything (torch included) when a quarter has been added, that search costs half as much
again as all the work on a candle.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 200_000
"""More than the batches in flight hold; so many new objects, and the collector looks at them."""


def look_seldom() -> None:
    """Leave out of every later search what there is now, and search seldom; call it once a process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
