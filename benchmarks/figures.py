"""What a benchmark says: figures by name, with the floor and the aim that the design sets for them.

Enters: values as they were measured. Leaves: one JSON object a line, or a line for people. Does not know: how they
were measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple


class Goal(NamedTuple):
    """What the design asks of a figure; `more` says whether more is better."""

    floor: float
    aim: float
    more: bool


GOALS = {
    "hotpath.ratio_to_model": Goal(0.80, 0.90, more=True),
    "hotpath.overhead_us": Goal(6, 3, more=False),
    "hotpath.times_stock_faust": Goal(20, 30, more=True),
    "burst.p99_ms": Goal(40, 25, more=False),
    "drift.alarms_per_10k": Goal(2, 1, more=False),
    "drift.hours_2020": Goal(3, 2, more=False),
    "drift.hours_2024": Goal(12, 8, more=False),
    "train.targets_ratio": Goal(30, 45, more=True),
    "train.cpu_ratio_equal_quality": Goal(5, 12, more=True),
    "ingest.frames_per_s": Goal(40_000, 53_000, more=True),
}


class Figure(NamedTuple):
    """One measured value."""

    name: str
    value: float
    unit: str
    against: str  # what it was measured against, or under which conditions, with the figures behind it
    command: str

    def as_json(self) -> str:
        """One object on one line."""
        return json.dumps(self._replace(value=_rounded(self.value))._asdict())

    def __str__(self) -> str:
        value = f"{self.name:28} {_rounded(self.value):>10g} {self.unit:12}"
        return f"{value} {self._judged():34} {self.against}"

    def _judged(self) -> str:
        goal = GOALS.get(self.name)
        if goal is None:
            return ""
        sign = 1 if goal.more else -1
        verdict = "aim met" if sign * self.value >= sign * goal.aim else "floor met"
        if sign * self.value < sign * goal.floor:
            verdict = "BELOW FLOOR"
        return f"floor {goal.floor:g}, aim {goal.aim:g}: {verdict}"


def spread(values: Sequence[float]) -> str:
    """`median (least to most of n)` for the text beside a figure."""
    ordered = sorted(values)
    median = ordered[len(ordered) // 2]
    return f"{_rounded(median):g} ({_rounded(ordered[0]):g} to {_rounded(ordered[-1]):g}, {len(ordered)} runs)"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
