"""The terms of a sequencer: how patient it is, what it counts, and which bars it believes.

Enters: numbers. Leaves: limits that make sense, and a verdict on a bar's prices. Does not know: order, time, series.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.decode import LEAST_PRICE, MOST_PRICE, MOST_VOLUME
from models.kline import Kline

BEYOND_BARS = 2
"""Asked for behind the bars that are missing: a newer row is what makes an absence credible."""
LAST_ROW_MS = 15_000
"""The last row of an answer may be the bar that runs, whatever time we think it is: without a newer row it is final
only so long after its close, which covers by far what a clock that follows another may be off."""


@dataclass(frozen=True)
class Limits:
    """How patient a sequencer is, and how much it keeps."""

    settle_ms: int  # a row of REST is final when asked for so long after its close
    patience_ms: int  # a bar that was not heard closed so long after its close is asked for
    reread_ms: int  # at least, between two answers that are to agree on an absence, and between requests
    max_kept: int  # bars from the mark on; those beyond are dropped, and asked for when the mark has moved
    max_rows: int = 1_000  # bars asked for at once

    def __post_init__(self) -> None:
        if min(self.settle_ms, self.patience_ms) < 0 or min(self.reread_ms, self.max_kept) < 1:
            raise ValueError(f"{self}: waits must not be negative, and reread_ms and max_kept at least 1")
        if self.max_rows <= BEYOND_BARS:
            raise ValueError(f"max_rows {self.max_rows} must be more than {BEYOND_BARS}")


@dataclass(slots=True)
class Counts:
    """What became of what was heard, since the sequencer began. The last three count what Kafka has acknowledged."""

    bad: int = 0  # off the grid, from the future, or with prices that readers would refuse
    duplicates: int = 0  # words on finished bars that said the same again
    early: int = 0  # frames of finished bars that came before an older bar was finished
    dropped_beyond_bound: int = 0  # frames further than `max_kept` bars from the mark
    ignored_old: int = 0  # words on bars published too long ago to be compared
    revisions: int = 0
    repaired: int = 0  # bars that only REST had finished, those before the series began aside
    absent: int = 0


def has_sound_prices(kline: Kline) -> bool:
    """Whether readers of `candles` accept its prices and volume; NaN fails every comparison."""
    return (
        LEAST_PRICE <= kline.low <= kline.open <= kline.high <= MOST_PRICE
        and kline.low <= kline.close <= kline.high
        and 0 <= kline.volume <= MOST_VOLUME
    )
