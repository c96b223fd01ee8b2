from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from models.continuity import COLD_AFTER_ABSENT, MARK_BARS, MAX_ABSENT, REWIND_BARS, Continuity, Verdict
from models.features import WARM_UP_BARS
from models.spec import MAX_LOOKBACK_BARS
from tests.models.candle_records import START_SLOT
from tests.models.histories import History, PlainSeries, random_history, truthful

SPANS = [(WARM_UP_BARS, MAX_LOOKBACK_BARS), (WARM_UP_BARS, 64), (300, 8), (1, 1)]  # warm-up and lookback
ONE = np.array([0], np.intp)


def say(continuity: Continuity, slot: int, absent: bool = False, offset: int = 0) -> Verdict:
    return continuity.accept(ONE, np.array([slot]), np.array([absent]), np.array([offset]))


def found(verdict: Verdict, place: int = 0) -> set[str]:
    """What a record was found to be."""
    return {name for name in Verdict._fields[:-1] if getattr(verdict, name)[place]}


def reason(continuity: Continuity, warm_up_bars: int = WARM_UP_BARS, lookback_bars: int = 64) -> str | None:
    held = [name for name, mask in continuity.withheld(ONE, warm_up_bars, lookback_bars).items() if mask.item()]
    assert len(held) <= 1
    return held[0] if held else None


def running(slots: int, absent: Sequence[int] = ()) -> Continuity:
    """A series that has said so many slots, some of them absent."""
    continuity = Continuity(1)
    for i in range(slots):
        say(continuity, START_SLOT + i, i in absent, offset=i)
    return continuity


def rounds(histories: Sequence[History], first: Sequence[int] | None = None) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Record number `i` of every history that has one, from its own `first` on."""
    ends = np.array([len(history.slot) for history in histories])
    begins = np.zeros(len(histories), np.int64) if first is None else np.array(first)
    for i in range(int(ends.max())):
        rows = np.flatnonzero((begins <= i) & (i < ends))
        if len(rows):
            yield i, rows


def columns(histories: Sequence[History]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Slots and absents `(longest, series)`."""
    longest = max(len(history.slot) for history in histories)
    slot, absent = np.zeros((longest, len(histories)), np.int64), np.zeros((longest, len(histories)), np.bool_)
    for row, history in enumerate(histories):
        slot[: len(history.slot), row], absent[: len(history.absent), row] = history
    return slot, absent


def test_accept_of_a_first_candle_starts_the_series() -> None:
    verdict = say(Continuity(1), START_SLOT)
    assert (verdict.advances.item(), verdict.restarts.item()) == (True, True)
    assert not any((verdict.duplicate.item(), verdict.out_of_order.item(), verdict.undeclared_gap.item()))


def test_accept_of_an_absent_slot_advances_time_alone() -> None:
    continuity = running(3)
    assert not say(continuity, START_SLOT + 3, absent=True).advances.item()
    verdict = say(continuity, START_SLOT + 4)
    assert (verdict.advances.item(), verdict.restarts.item()) == (True, False)


def test_accept_of_a_first_absent_does_not_start_the_series() -> None:
    continuity = Continuity(1)
    assert not say(continuity, START_SLOT, absent=True).advances.item()
    assert continuity.is_cold(ONE).item()
    assert say(continuity, START_SLOT + 1).restarts.item()


@pytest.mark.parametrize(("step", "kind"), [(0, "duplicate"), (-1, "out_of_order"), (-500, "out_of_order")])
def test_accept_of_what_was_said_before_changes_nothing(step: int, kind: str) -> None:
    continuity = running(10)
    verdict = say(continuity, START_SLOT + 9 + step)
    assert found(verdict) == {kind}
    assert not say(continuity, START_SLOT + 10).undeclared_gap.item()


def test_accept_after_a_gap_nobody_declared_starts_anew() -> None:
    verdict = say(running(2_000), START_SLOT + 2_001)
    assert found(verdict) == {"advances", "restarts", "undeclared_gap"}


@pytest.mark.parametrize(("absents", "restarts"), [(COLD_AFTER_ABSENT - 1, False), (COLD_AFTER_ABSENT, True)])
def test_accept_after_60_absent_in_a_row_starts_anew(absents: int, restarts: bool) -> None:
    continuity = running(100 + absents, absent=range(100, 100 + absents))
    assert continuity.is_cold(ONE).item() is restarts
    assert say(continuity, START_SLOT + 100 + absents).restarts.item() is restarts


def test_withheld_ends_with_the_warm_up_and_the_window() -> None:
    first_to_speak = WARM_UP_BARS + 64 - 1  # the oldest candle of its window has a whole warm-up behind it
    assert reason(running(first_to_speak)) == "warming_up"
    assert reason(running(first_to_speak + 1)) is None


@pytest.mark.parametrize(("age", "withheld"), [(1, "absent_in_window"), (63, "absent_in_window"), (64, None)])
def test_withheld_while_an_absent_slot_lies_in_the_window(age: int, withheld: str | None) -> None:
    assert reason(running(1_700, absent=[1_699 - age])) == withheld


@pytest.mark.parametrize(("absents", "withheld"), [(MAX_ABSENT, None), (MAX_ABSENT + 1, "too_many_absent")])
def test_withheld_while_more_than_5_percent_of_the_warm_up_are_absent(absents: int, withheld: str | None) -> None:
    slots = 3_200
    spread = range(slots - 100 - 16 * absents, slots - 100, 16)  # the last well before the window
    assert reason(running(slots, absent=spread)) == withheld
    assert reason(running(slots + 1_500, absent=spread)) is None


def test_rows_of_a_call_do_not_depend_on_each_other() -> None:
    rng = np.random.default_rng(5)
    histories = [random_history(rng, 100) for _ in range(4)]
    slot, absent = columns(histories)
    together = Continuity(4)
    alone = [Continuity(1) for _ in histories]
    for i, rows in rounds(histories):
        verdict = together.accept(rows, slot[i, rows], absent[i, rows], np.full(len(rows), i))
        for place, row in enumerate(rows.tolist()):
            own = say(alone[row], slot[i, row], absent[i, row], i)
            assert found(verdict, place) == found(own)


def test_grow_keeps_what_is_known() -> None:
    continuity = running(1_700, absent=[1_690])
    continuity.grow(5)
    assert reason(continuity) == "absent_in_window"
    assert continuity.is_cold(np.arange(1, 5)).all()
    assert continuity.rewind_offsets(ONE).item() == 0
    assert not say(continuity, START_SLOT + 1_700).undeclared_gap.item()


def test_reset_forgets_a_row_altogether() -> None:
    continuity = running(1_700, absent=[1_690])
    continuity.reset(ONE)
    assert say(continuity, START_SLOT + 2).restarts.item()
    assert reason(continuity, warm_up_bars=0, lookback_bars=1) is None


@pytest.mark.parametrize("seed", range(2))
def test_continuity_agrees_with_the_rules_by_their_letter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    histories = [random_history(rng, int(rng.choice([50, 1_700, 2_500]))) for _ in range(5)]
    slot, absent = columns(histories)
    continuity, plain = Continuity(5), [PlainSeries() for _ in histories]
    for i, rows in rounds(histories):
        verdict = continuity.accept(rows, slot[i, rows], absent[i, rows], np.full(len(rows), i))
        wanted = [plain[row].take(int(slot[i, row]), bool(absent[i, row])) for row in rows.tolist()]
        assert [found(verdict, place) for place in range(len(rows))] == wanted, i
        assert not verdict.calm or all(what == {"advances"} for what in wanted)
        speaks = rows[verdict.advances]
        for spans in SPANS if i % 11 == 0 else ():
            masks = continuity.withheld(speaks, *spans)
            for place, row in enumerate(speaks.tolist()):
                held = [name for name, mask in masks.items() if mask[place]]
                assert held == [name for name in [plain[row].reason(*spans)] if name], (i, row, spans)


# --- the law of rebuilding: whoever starts at the rewind offset decides as if it had never stopped


class Life:
    """A continuity taken through histories, and what it made of every record, `(longest, series)`."""

    def __init__(self, histories: Sequence[History], first: Sequence[int] | None = None) -> None:
        slot, absent = columns(histories)
        self.advances, self.stale = np.zeros(slot.shape, np.bool_), np.zeros(slot.shape, np.bool_)
        self.rewind = np.zeros(slot.shape, np.int64)  # after the record; of no use while cold
        self.cold = np.ones(slot.shape, np.bool_)
        continuity, self._columns = Continuity(len(histories)), np.zeros((4, *slot.shape), np.int64)
        for i, rows in rounds(histories, first):
            verdict = continuity.accept(rows, slot[i, rows], absent[i, rows], np.full(len(rows), i))
            self.advances[i, rows], self.stale[i, rows] = verdict.advances, verdict.duplicate | verdict.out_of_order
            self.rewind[i, rows], self.cold[i, rows] = continuity.rewind_offsets(rows), continuity.is_cold(rows)
            for column, name in zip(self._columns, COLUMNS, strict=True):
                column[i, rows] = getattr(continuity, name)[rows]

    def withheld(self, warm_up_bars: int, lookback_bars: int) -> NDArray[np.int64]:
        """Number of the reason not to speak at each record, 0 is none."""
        every = Continuity(self.cold.size)
        for column, name in zip(self._columns, COLUMNS, strict=True):
            setattr(every, name, column.ravel())
        masks = every.withheld(np.arange(self.cold.size), warm_up_bars, lookback_bars).values()
        reasons = sum(number * mask for number, mask in enumerate(masks, start=1))
        return np.where(self.advances, np.reshape(reasons, self.cold.shape), 0)


COLUMNS = ("last_slot", "start_slot", "last_absent", "absent_count")  # all that `withheld` looks at


@pytest.mark.parametrize("seed", range(2))
def test_rebuilt_continuity_decides_as_one_that_never_stopped(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.choice([1_900, 3_000], 60).tolist()
    histories = [truthful(random_history(rng, slots, wild=row % 4 != 0)) for row, slots in enumerate(lengths)]
    ends = np.array([len(history.slot) for history in histories])
    rows, life, stopped = np.arange(len(histories)), Life(histories), rng.integers(ends)
    for _ in range(2):  # a third process takes over from the second one's commit
        others_need = rng.choice([0, 1, 60, 2_000], len(rows))  # so many records more
        first = np.where(life.cold[stopped, rows], stopped + 1, life.rewind[stopped, rows])
        assert (first <= stopped + 1).all()
        rebuilt = Life(histories, np.maximum(first - others_need, 0).tolist())
        spans = [(life.withheld(*each), rebuilt.withheld(*each)) for each in SPANS]
        for row, end in enumerate(ends):
            after = slice(begin_of_agreement(life, row, int(stopped[row])), end)
            np.testing.assert_array_equal(rebuilt.advances[after, row], life.advances[after, row], f"row {row}")
            np.testing.assert_array_equal(rebuilt.stale[after, row], life.stale[after, row], f"row {row}")
            for wanted, found in spans:
                np.testing.assert_array_equal(found[after, row], wanted[after, row], f"row {row}")
        life, stopped = rebuilt, rng.integers(stopped, ends)


def test_rebuilt_continuity_whose_rewind_meets_a_long_pause_decides_the_same() -> None:
    """The longest pause that is no cold start, at every place around the rewind offset; 59 slots of it are lost."""
    histories, stopped = [], np.arange(-70, 70) + 259 + REWIND_BARS
    for slots in stopped.tolist():
        absent = np.zeros(slots + 300, np.bool_)
        absent[200:259] = True
        histories.append(History(START_SLOT + np.arange(len(absent)), absent))
    rows, life = np.arange(len(histories)), Life(histories)
    rebuilt = Life(histories, life.rewind[stopped, rows].tolist())
    wanted, found = life.withheld(*SPANS[0]), rebuilt.withheld(*SPANS[0])
    for row in rows.tolist():
        np.testing.assert_array_equal(found[stopped[row] + 1 :, row], wanted[stopped[row] + 1 :, row])


def begin_of_agreement(life: Life, row: int, stopped: int) -> int:
    """At once; but of a cold series nothing is kept, so records out of order go unnoticed until its next good one."""
    if not life.cold[stopped, row]:
        return stopped + 1
    good = np.flatnonzero(~life.stale[stopped + 1 :, row])
    return stopped + 1 + int(good[0]) if len(good) else len(life.stale)


@pytest.mark.parametrize("absents_before", [0, 1, 58, 59])
def test_rewind_offset_lies_one_span_back_and_no_further_than_needed(absents_before: int) -> None:
    continuity = running(5_000, absent=range(5_000 - 1 - REWIND_BARS - absents_before, 5_000 - 1 - REWIND_BARS))
    back = 4_999 - continuity.rewind_offsets(ONE).item()
    assert REWIND_BARS <= back < REWIND_BARS + MARK_BARS


def test_rewind_offset_of_a_young_series_is_its_start() -> None:
    assert running(500).rewind_offsets(ONE).item() == 0
    started_anew = running(2_700, absent=range(2_100, 2_170))
    assert started_anew.rewind_offsets(ONE).item() == 2_170
