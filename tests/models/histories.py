"""Random histories of what series may do (run, pause, skip, repeat), and the rules of order by their letter."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.continuity import COLD_AFTER_ABSENT, MAX_ABSENT
from models.features import WARM_UP_BARS
from tests.models.candle_records import START_SLOT


class History(NamedTuple):
    """The records of one series in the order of its log."""

    slot: NDArray[np.int64]  # (n,)
    absent: NDArray[np.bool_]  # (n,)


def random_history(rng: np.random.Generator, slots: int, wild: bool = True, start: int = START_SLOT) -> History:
    """What a series may do until it has come so many slots further; tame ones neither skip nor repeat any."""
    kinds = ["run", "run", "run", "pause", "pause", "thin"] + ["skip", "repeat", "late"] * wild
    said, newest = list[tuple[int, bool]](), start - 1
    while newest - start < slots:
        spell = _spell(rng, rng.choice(kinds), newest, wild)[: slots // 2]
        newest = max(newest, *(slot for slot, _ in spell)) + 1
        said += [*spell, (newest, False)]
    slot, absent = zip(*said, strict=True)
    return History(np.array(slot, np.int64), np.array(absent, np.bool_))


def joined(*parts: History) -> History:
    """One after the other."""
    return History(np.concatenate([part.slot for part in parts]), np.concatenate([part.absent for part in parts]))


def truthful(history: History) -> History:
    """The same records, but whoever repeats a slot says what was said of it first, as a producer that retries does."""
    first: dict[int, bool] = {}
    absent = [first.setdefault(slot, was) for slot, was in zip(*map(np.ndarray.tolist, history), strict=True)]
    return History(history.slot, np.array(absent, np.bool_))


def _spell(rng: np.random.Generator, kind: str, newest: int, wild: bool) -> list[tuple[int, bool]]:
    match kind:
        case "run":
            return [(newest + 1 + i, False) for i in range(int(rng.choice([1, 30, 300, 1_400, 2_200])))]
        case "pause":
            longest = [1, 2, 20, 59, 60, 61, 75, 119, 120, 130] if wild else [1, 2, 20, 40]
            return [(newest + 1 + i, True) for i in range(int(rng.choice(longest)))]
        case "thin":  # about as many absent as are still allowed
            share = rng.choice([0.04, 0.05, 0.06])
            return [(newest + 1 + i, bool(rng.random() < share)) for i in range(int(rng.choice([200, 1_600])))]
        case "skip":
            return [(newest + int(rng.choice([2, 3, 61, 70, 5_000])), bool(rng.random() < 0.3))]
        case "repeat":
            return [(newest, bool(rng.random() < 0.3)) for _ in range(int(rng.choice([1, 3])))]
    back = int(rng.choice([1, 5, 100]))
    return [(newest - back + i, bool(rng.random() < 0.3)) for i in range(min(back, 40))]


class PlainSeries:
    """The rules of order for one series, candle by candle, by the letter of design.md and docs/adr/0009."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.said: dict[int, bool] = {}  # since the cold start: slot to absent
        self.start: int | None = None
        self.absent_in_a_row = 0

    def take(self, slot: int, absent: bool) -> set[str]:
        """What a record is."""
        found = set()
        if self.last is not None and slot <= self.last:
            return {"duplicate" if slot == self.last else "out_of_order"}
        if self.last is not None and slot > self.last + 1:
            found.add("undeclared_gap")
            self._go_cold()
        self.last = slot
        self.absent_in_a_row = self.absent_in_a_row + 1 if absent else 0
        if self.absent_in_a_row >= COLD_AFTER_ABSENT:
            self._go_cold()
        if not absent:
            found.add("advances")
            if self.start is None:
                found.add("restarts")
                self.start = slot
        if self.start is not None:
            self.said[slot] = absent
        return found

    def _go_cold(self) -> None:
        self.start = None
        self.said.clear()

    def reason(self, warm_up_bars: int, lookback_bars: int) -> str | None:
        """Why the series, just advanced, may not speak."""
        assert self.last is not None
        assert self.start is not None
        if self.last - self.start < warm_up_bars + lookback_bars - 1:
            return "warming_up"
        if any(self.said[self.last - i] for i in range(lookback_bars)):
            return "absent_in_window"
        recent = sum(self.said.get(self.last - i, False) for i in range(WARM_UP_BARS))
        return "too_many_absent" if recent > MAX_ABSENT else None
