"""Wait for a condition with a deadline instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout_s: float = 60.0) -> T:
    """Return the first truthy value of `condition`, asked every 10 ms.

    Raises:
        AssertionError: none came within `timeout_s`; the message shows the last value.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            name = getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"{name} did not come true within {timeout_s:g} s; last value: {value!r}")
        time.sleep(0.01)
    return value
