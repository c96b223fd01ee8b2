"""Due signals into outcomes as JSON, many at once: the records that `encode(Outcome(...))` would give, at less cost.

Enters: signals with what came after them. Leaves: one JSON object each, and the numbers that are summed. Does not know:
partitions, sums, Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.bars import Due
from models.events import SCHEMA_VERSION, Signal, encode
from models.scoring import score_columns

Summed = tuple[float, ...]
"""`return_crps return_crps_ewma range_crps range_crps_har return_pit range_pit return_covered range_covered`."""
MAX_HEADS = 20_000

SUMMED = (
    "return_crps", "return_crps_ewma", "range_crps", "range_crps_har", "return_pit", "range_pit",
    "return_covered", "range_covered",
)  # fmt: skip
_TAIL = ("close_time_ms", "target_time_ms", "close", "target_close", "mean_range", "y_return", "y_range", *SUMMED)
_write_tail = (",".join(f'"{name}":%b' for name in _TAIL) + "}").encode().__mod__


class OutcomeWriter:
    """Writes outcomes; what a series always says under one activation is kept as text."""

    def __init__(self) -> None:
        self._heads: dict[Any, bytes] = {}

    def write(self, due: Sequence[Due]) -> tuple[list[bytes | None], list[Summed]]:
        """Score them all.

        Returns the JSON of each, None where a score is not finite, as of a signal whose scale is not above 0; and what
        is to be summed of each.
        """
        if not due:
            return [], []
        signals = [each.signal for each in due]
        close, mean_range = [each.close for each in due], [each.mean_range for each in due]
        with np.errstate(all="ignore"):  # of numbers that nothing good came of, which are left out
            scores = score_columns(signals, np.array(close), np.array(mean_range))
        summed = [getattr(scores, name) for name in SUMMED]
        finite = np.isfinite(scores.y_return) & np.isfinite(scores.y_range)
        for column in summed:
            finite &= np.isfinite(column)
        columns = [
            [signal.close_time_ms for signal in signals], [signal.target_time_ms for signal in signals],
            [signal.close for signal in signals], close, mean_range,
            scores.y_return.tolist(), scores.y_range.tolist(), *(column.tolist() for column in summed),
        ]  # fmt: skip
        tails = map(_write_tail, zip(*(encode(column)[1:-1].split(b",") for column in columns), strict=True))
        texts = [head + tail for head, tail in zip(map(self._head, signals), tails, strict=True)]
        if not finite.all():
            texts = [text if good else None for text, good in zip(texts, finite.tolist(), strict=True)]  # type: ignore[misc]
        return texts, list(zip(*columns[-len(SUMMED) :], strict=True))  # type: ignore[return-value]

    def _head(self, signal: Signal) -> bytes:
        fields = (
            signal.exchange, signal.symbol, signal.timeframe, signal.horizon_bars, signal.model, signal.bundle,
            signal.epoch, signal.origin,
        )  # fmt: skip
        head = self._heads.get(fields)
        if head is None:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            names = ("exchange", "symbol", "timeframe", "horizon_bars", "model", "bundle", "epoch", "origin")
            named = {"v": SCHEMA_VERSION, **dict(zip(names, fields, strict=True))}
            head = self._heads[fields] = encode(named)[:-1] + b","
        return head
