"""Signals of one model call, as texts side by side.

Enters: texts, and which series, close and partition each belongs to. Leaves: the same, record by record where somebody
wants them so. Does not know: what they say, Kafka.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.events import Message


class SignalBlock(NamedTuple):
    """Encoded signals in order; every column `(n,)`."""

    text: NDArray[np.uint8]  # side by side
    ends: NDArray[np.int64]  # where each ends
    keys: NDArray[np.uint8]  # of all series, side by side
    key_ends: NDArray[np.int64]  # (series,)
    row: NDArray[np.intp]  # which of the keys is its own
    partition: NDArray[np.int64]
    close_time_ms: NDArray[np.int64]

    def messages(self, partition: int) -> Iterator[Message]:
        """Those of one partition, one by one."""
        text, keys = self.text.tobytes(), self.keys.tobytes()
        starts, key_starts = ([0, *ends.tolist()] for ends in (self.ends, self.key_ends))
        for i in np.flatnonzero(self.partition == partition).tolist():
            row = int(self.row[i])
            key, value = keys[key_starts[row] : key_starts[row + 1]], text[starts[i] : starts[i + 1]]
            yield Message(key, value, int(self.close_time_ms[i]))
