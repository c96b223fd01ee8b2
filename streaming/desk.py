"""What a source of candles and signals asks of whoever works on them.

Enters: partitions, batches of raw records. Leaves: from where the work could be done again. Does not know: Kafka.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from models.decode import Batch
from models.outcomes import Rewind


class Desk(Protocol):
    """Who does the work."""

    def begin(self, partition: int, rewind: Rewind) -> None:
        """Take up a partition."""

    def forget(self, partitions: Collection[int]) -> None:
        """Drop partitions."""

    def waiting(self, partition: int) -> int:
        """Signals that wait for candles."""

    def rewinds(self) -> dict[int, Rewind]:
        """From where the state as it is now can be rebuilt."""

    def let_go(self, partition: int, offset: int) -> None:
        """Forget candles below this offset."""

    def forget_orphans(self, partition: int, offset: int) -> None:
        """Give up the signals below this offset whose candles are gone."""

    async def serve(self, candles: Batch, signals: Batch, settled: dict[int, int]) -> None:
        """One batch, whole: after it, everything it led to is acknowledged by Kafka."""
