"""`candlewick` with a wall clock that is off, and jumps when told: `python shifted_clock.py FILE ARGUMENTS...`.

FILE holds by how many seconds; it is read again all the time. The monotonic clock is left alone, as it would be.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_time, _time_ns = time.time, time.time_ns
_file = Path(sys.argv[1])


def shift_s() -> int:
    """By how much the clock is off now."""
    text = _file.read_text().strip()
    return int(text) if text else 0


if __name__ == "__main__":
    time.time = lambda: _time() + shift_s()
    time.time_ns = lambda: _time_ns() + shift_s() * 1_000_000_000
    from candlewick import main

    main(sys.argv[2:])
