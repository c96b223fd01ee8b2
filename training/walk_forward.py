"""Walking forward: which bundle serves when under each policy, and how good that was, as tables with intervals.

Enters: windows, verdicts, scores of bundles on the rows of each step. Leaves: plain values, ready for JSON.
Does not know: how a bundle is trained, files, processes.

Policies. `once`: the first window's bundle serves on and on. `retrained`: at each cut a new bundle, trained on the bars
before it, takes over at once. `gated`: at each cut a challenger is trained likewise; the gate judges it and the
champion on the bars after the cut, which neither has seen; where it promotes, the challenger serves from the slot after
the last judged one. So a promotion comes as late as it would live: the judged bars are served by the old champion.
Every policy is scored on the same rows. `har` is fitted anew for each window, on the rows that train its bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import CandlewickError
from models.jobs import least_judged_bars
from training.bootstrap import Blocks, Figure
from training.folds import Window
from training.row_scores import block_bars

Floats = NDArray[np.float64]
Policy = Literal["once", "retrained", "gated"]

DAY_MS = 86_400_000
WANTED_BLOCKS = 12
"""A day each: how two bundles compare changes with the market, which stays what it is for hours. Where a span has fewer
days, its blocks are as short as those of a report."""
AGE_BUCKETS = 4


class Scores(NamedTuple):
    """CRPS of one bundle on the rows of one step, each `(n,)`; smaller is better."""

    range: Floats
    return_: Floats
    har: Floats  # of the range, by the bundle's own fit


class Trial(NamedTuple):
    """A challenger before the gate."""

    challenger: int  # number of its window
    first: int  # first judged slot; all bars before it are known to the challenger
    stop: int  # labels end before it; if promoted, the challenger serves from here on


class Swap(NamedTuple):
    """A bundle takes over."""

    slot: int  # the first that it serves
    bundle: int  # number of its window


@dataclass(frozen=True)
class Grid:
    """What turns slots into time."""

    timeframe_ms: int
    horizon_bars: int
    step_bars: int
    close_time_ms: NDArray[np.int64]  # (T,) UTC


@dataclass(frozen=True, eq=False)
class Walked:
    """All rows of all steps, `(n,)` each, in order of time."""

    window: NDArray[np.int64]  # number of the window that a row tests
    slot: NDArray[np.int64]
    har: Floats  # CRPS of the window's own fit
    age_bars: Mapping[Policy, NDArray[np.int64]]  # bars that the bundle which serves the row does not know
    range: Mapping[Policy, Floats]
    return_: Mapping[Policy, Floats]


def trials(windows: Sequence[Window], judge_bars: int, horizon_bars: int) -> list[Trial]:
    """Each bundle but the first goes before the gate, if it is judged early enough to serve any row.

    Raises:
        CandlewickError: the gate could not judge on so few bars.
    """
    least = least_judged_bars(horizon_bars)
    if judge_bars < least:
        raise CandlewickError(f"--judge-bars {judge_bars} are too few: the gate needs {least} at this horizon")
    end = windows[-1].test.stop
    begins = [(number, window.test.first) for number, window in enumerate(windows) if number]
    ready = [Trial(number, first, first + judge_bars) for number, first in begins]
    return [trial for trial in ready if trial.stop < end]


def serving(swaps: Sequence[Swap], slot: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the bundle that serves each slot; the first window's before any swap. Swaps are in order of time."""
    bundles = np.array([0, *(swap.bundle for swap in swaps)])
    return bundles[np.searchsorted([swap.slot for swap in swaps], slot, side="right")]


def gather(
    windows: Sequence[Window],
    slots: Sequence[NDArray[np.int64]],
    scores: Mapping[tuple[int, int], Scores],
    swaps: Sequence[Swap] | None,
) -> Walked:
    """Put together what every policy would have served.

    Args:
        windows: K of them.
        slots: of the rows that each window tests.
        scores: of bundle b on the rows of window w, by `(b, w)`; those that a policy needs.
        swaps: of the gate; None leaves `gated` out.
    """
    policies: dict[Policy, Sequence[Swap]] = {"once": (), "retrained": [Swap(w.cut, n) for n, w in enumerate(windows)]}
    if swaps is not None:
        policies["gated"] = swaps
    numbers = np.concatenate([np.full(len(own), number) for number, own in enumerate(slots)])
    all_slots = np.concatenate(slots)
    cuts = np.array([window.cut for window in windows])
    served = {policy: serving(own, all_slots) for policy, own in policies.items()}
    return Walked(
        window=numbers,
        slot=all_slots,
        har=np.concatenate([scores[number, number].har for number in range(len(windows))]),
        age_bars={policy: all_slots - cuts[bundles] for policy, bundles in served.items()},
        range={policy: _chosen(bundles, numbers, scores, "range") for policy, bundles in served.items()},
        return_={policy: _chosen(bundles, numbers, scores, "return_") for policy, bundles in served.items()},
    )


def needed(slots: Sequence[NDArray[np.int64]], swaps: Sequence[Swap]) -> set[tuple[int, int]]:
    """Pairs of a bundle and a window on whose rows (their slots) it must be scored, beside its own."""
    pairs = {(0, number) for number in range(len(slots))}
    for number, own in enumerate(slots):
        pairs |= {(int(bundle), number) for bundle in np.unique(serving(swaps, own))}
    return {(bundle, number) for bundle, number in pairs if bundle != number}


def tables(walked: Walked, windows: Sequence[Window], grid: Grid) -> dict[str, Any]:
    """Skill pooled, by window, and by the age of the bundle that was trained once."""
    return {
        "policies": list(walked.range),
        "pooled": _figures(walked, np.ones(len(walked.slot), bool), grid),
        "windows": [_window_row(walked, number, window, grid) for number, window in enumerate(windows)],
        "ages": _age_rows(walked, windows, grid),
    }


def _chosen(
    bundles: NDArray[np.int64], numbers: NDArray[np.int64], scores: Mapping[tuple[int, int], Scores], head: str
) -> Floats:
    """`(n,)`: of each row, the score of the bundle that serves it."""
    chosen = np.full(len(bundles), np.nan)
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        for bundle in np.unique(bundles[rows]):
            mine = bundles[rows] == bundle
            chosen[rows[mine]] = getattr(scores[int(bundle), int(number)], head)[mine]
    return chosen


def _window_row(walked: Walked, number: int, window: Window, grid: Grid) -> dict[str, Any]:
    rows = walked.window == number
    tested = np.flatnonzero(rows)[[0, -1]]
    first, last = grid.close_time_ms[walked.slot[tested]].tolist()
    return {
        "window": number,
        "from_ms": first,  # of the rows' closes
        "until_ms": last,
        "trained_until_ms": int(grid.close_time_ms[window.cut - 1]),
        "age_days": {policy: _days(float(bars[rows].mean()), grid) for policy, bars in walked.age_bars.items()},
        **_figures(walked, rows, grid),
    }


def _age_edges(windows: Sequence[Window]) -> list[int]:
    """Steps at which a bucket of age begins, and the end; all are about equally long."""
    steps = windows[-1].step + 1
    long = max(steps // AGE_BUCKETS, 1)
    return [*range(0, long * min(AGE_BUCKETS, steps), long), steps]


def _age_rows(walked: Walked, windows: Sequence[Window], grid: Grid) -> list[dict[str, Any]]:
    steps = np.array([window.step for window in windows])[walked.window]
    found = []
    for first, stop in pairwise(_age_edges(windows)):
        rows = (steps >= first) & (steps < stop)
        if rows.any():
            days = {"from_days": _days(first * grid.step_bars, grid), "until_days": _days(stop * grid.step_bars, grid)}
            found.append({**days, **_figures(walked, rows, grid)})
    return found


def _figures(walked: Walked, rows: NDArray[np.bool_], grid: Grid) -> dict[str, Any]:
    """Ratios of CRPS on some rows: of each policy to `once` and, of the range, to HAR."""
    blocks = Blocks(_blocks(walked.slot[rows], grid))
    once, once_return, har = walked.range["once"][rows], walked.return_["once"][rows], walked.har[rows]
    figures: dict[str, dict[str, dict[str, Figure]]] = {"range": {}, "return": {}}
    for policy in walked.range:
        own, own_return = walked.range[policy][rows], walked.return_[policy][rows]
        figures["range"][policy] = {"vs_once": blocks.ratio(own, once), "vs_har": blocks.ratio(own, har)}
        figures["return"][policy] = {"vs_once": blocks.ratio(own_return, once_return)}
    return {"rows": int(rows.sum()), **figures}


def _blocks(slot: NDArray[np.int64], grid: Grid) -> NDArray[np.int64]:
    """Number of the block of time of each row: a day, or shorter where there are few days."""
    short = block_bars(grid.timeframe_ms, grid.horizon_bars)
    long = max(DAY_MS // grid.timeframe_ms, short)
    span = int(slot.max() - slot.min()) + 1
    return slot // (long if span >= WANTED_BLOCKS * long else short)


def _days(bars: float, grid: Grid) -> float:
    return round(bars * grid.timeframe_ms / DAY_MS, 3)
