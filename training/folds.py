"""Many splits of one history: windows that walk forward through it, and every choice of groups to test on.

Enters: how many labelled rows each slot has, how to cut. Leaves: spans of slots, purged and with an embargo.
Does not know: candles, features, networks.

A window walks forward as time does: it learns from the bars before a cut and is tested on the rows after it. That is
what serving will see, but it gives each bar one chance only. A combinatorial fold tests on some groups of bars and
learns from all others, later ones too: more tests of one history, at the price of knowing the future. There training
rows lie on both sides of a test group: those whose label would reach into it are purged, and so are those right after
it, whose label overlaps the last one tested, and the embargo after them.
Source: Lopez de Prado 2018, Advances in Financial Machine Learning, ch. 7 (purge, embargo) and 12 (combinatorial).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import CandlewickError
from training.split import MIN_ROWS, Span, Split, held_to_least, validate_spread

Scheme = Literal["expanding", "rolling"]

VALIDATION_SHARE = 0.2
"""Of the rows that a combinatorial fold learns from; in blocks all over them."""


@dataclass(frozen=True)
class Schedule:
    """When a window ends and the next begins, in bars."""

    train_bars: int  # known to the first window, counted from the first slot; its features warm up on the oldest
    step_bars: int  # tested after each cut
    horizon_bars: int
    scheme: Scheme = "expanding"  # learn from all bars before the cut; or, rolling, from the last `train_bars`
    embargo_bars: int = 0  # rows left out of the test right after the cut


class Window(NamedTuple):
    """What one bundle may learn from, and the rows to test it on."""

    step: int  # steps of the schedule that lie before its cut; numbers leave out those without rows to test on
    cut: int  # the first slot that it does not know
    learned: Span  # labels end before the cut
    test: Span


class Fold(NamedTuple):
    """A split, and which groups of bars it tests on."""

    groups: tuple[int, ...]
    split: Split


def walk_forward(rows: NDArray[np.int64], schedule: Schedule) -> list[Window]:
    """Cut windows from the first slot to the last; the last step may be shorter, steps without rows are left out.

    Args:
        rows: `(T,)` how many labelled rows each slot has.
        schedule: in bars.

    Raises:
        CandlewickError: the schedule is none, or leaves too few rows to learn from or to test on.
    """
    _check_schedule(schedule)
    past = np.concatenate([[0], np.cumsum(rows)])  # rows before each slot
    begin, end = (int(np.searchsorted(past, count, side="right")) - 1 for count in (0, past[-1] - 1))
    windows = []
    for step, cut in enumerate(range(schedule.train_bars, end + 1, schedule.step_bars)):
        oldest = max(begin, cut - schedule.train_bars if schedule.scheme == "rolling" else 0)
        learned = Span(oldest, cut - schedule.horizon_bars)
        test = Span(cut + schedule.embargo_bars, min(cut + schedule.step_bars, end + 1))
        known = int(past[max(learned.stop, learned.first)] - past[learned.first])
        if known < 2 * MIN_ROWS:
            raise CandlewickError(
                f"window {step} would learn from {known} rows, at least {2 * MIN_ROWS} are needed: "
                f"give --train-bars above {schedule.train_bars:,}, or a horizon shorter than {schedule.horizon_bars}"
            )
        if past[max(test.stop, test.first)] - past[test.first] >= MIN_ROWS:
            windows.append(Window(step, cut, learned, test))
    if not windows:
        raise CandlewickError(
            f"no rows are left to test on: the candles have {len(rows):,} bars, {schedule.train_bars:,} train first. "
            "Give more candles, or smaller --train-bars"
        )
    return windows


def combinatorial(
    rows: NDArray[np.int64], groups: int, test_groups: int, horizon_bars: int, embargo_bars: int = 0
) -> Iterator[Fold]:
    """Cut history into groups of about equally many rows; one fold for each choice of groups to test on.

    What is learned from is validated in blocks all over it. A fold's bundle has seen bars that are later than those it
    is tested on: good to compare recipes by, never a history of what would have been served.

    Args:
        rows: `(T,)` how many labelled rows each slot has.
        groups: N.
        test_groups: k of them; N over k folds come, in lexical order.
        horizon_bars: H.
        embargo_bars: left out of training after the purge behind each test group.

    Raises:
        CandlewickError: there are no such groups, or a span of a fold keeps too few rows.
    """
    if not 1 <= test_groups < groups:
        raise CandlewickError(f"{test_groups} of {groups} groups cannot be tested on: at least 1, and 1 left to train")
    if embargo_bars < 0 or horizon_bars < 1:
        raise CandlewickError(f"horizon {horizon_bars} and embargo {embargo_bars} must be at least 1 and 0 bars")
    edges = _equal_groups(rows, groups)
    for chosen in itertools.combinations(range(groups), test_groups):
        tested = _joined([(edges[group], edges[group + 1]) for group in chosen])
        purged = tuple((first - horizon_bars, stop + horizon_bars + embargo_bars) for first, stop in tested)
        learned = Span(edges[0], edges[-1], holes=purged)
        between = tuple((a[1], b[0]) for a, b in itertools.pairwise(tested))
        test = Span(tested[0][0], tested[-1][1], holes=between)
        split = Split(*validate_spread(learned, VALIDATION_SHARE, horizon_bars), test)
        yield Fold(chosen, held_to_least(split, rows, horizon_bars))


def _check_schedule(schedule: Schedule) -> None:
    least = {"train_bars": 1, "step_bars": 1, "horizon_bars": 1, "embargo_bars": 0}
    for name, bound in least.items():
        if getattr(schedule, name) < bound:
            raise CandlewickError(f"{name} {getattr(schedule, name)} must be {bound} or more")
    if schedule.scheme not in ("expanding", "rolling"):
        raise CandlewickError(f"scheme {schedule.scheme!r} is unknown: expanding or rolling")


def _equal_groups(rows: NDArray[np.int64], groups: int) -> list[int]:
    """The first slot of each group, and the one after the last: all rows lie between them."""
    past = np.cumsum(rows)
    total = int(past[-1]) if len(past) else 0
    first, last = (int(np.searchsorted(past, count, side="left")) for count in (1, total))
    cuts = [int(np.searchsorted(past, round(total * group / groups), side="right")) for group in range(1, groups)]
    return [first, *cuts, last + 1]


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs of slots in order of time; those that touch become one."""
    joined = runs[:1]
    for first, stop in runs[1:]:
        if first == joined[-1][1]:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((first, stop))
    return joined
