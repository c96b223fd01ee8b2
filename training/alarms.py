"""Figures that are too good to be true, and what of a training counts as proven.

Enters: figures of a report; a bundle and the candles it was tested on. Leaves: sentences, and the skills shown.
Does not know: files, how a figure was made. An alarm accuses nobody: it says what to look at before one believes.

Source of the bounds: a study of 1-minute and 5-minute candles of ten symbols each, at horizons of 1, 3 and 15 bars. Its
best honest figures stand beside each bound; each lies well outside. Markets made up for tests may pass them honestly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.candle_table import CandleTable
from models.continuity import COLD_AFTER_ABSENT
from models.errors import CandlewickError
from models.events import Verdict
from models.features import WARM_UP_BARS
from training.bootstrap import Blocks, Figure
from training.dataset import Dataset
from training.evaluate import block_bars
from training.evidence import Evidence, HeldOut, gather
from training.gate import weigh
from training.sentinel import Sentinel
from training.split import Split

Floats = NDArray[np.float64]

YEAR_MS = 365.25 * 86_400_000
SHARPE = "sharpe_before_costs"
"""A leak shows there first. On the 1-minute candles of the study 12 [2, 22] a year was measured, all lost to costs."""


@dataclass(frozen=True)
class Bound:
    """A figure beyond `alarm` is too good, if its interval lies wholly beyond `honest`, the best ever seen or near."""

    section: str
    figure: str
    name: str  # for a person
    above: bool  # whether large is suspicious
    alarm: float
    honest: float
    check: str  # what to look at


LEAK = "a feature or a row that knows the future"
WIDTH = "the calibration, and whether the test span is like the validation span"
BOUNDS = (
    Bound("direction", "accuracy", "direction accuracy", True, 0.56, 0.53, LEAK),
    Bound("direction", "auc", "AUC of the direction", True, 0.56, 0.53, LEAK),
    Bound("direction", SHARPE, "yearly Sharpe ratio of the sign of the forecast before costs", True, 40, 20, LEAK),
    Bound("range", "crps_vs_har", "CRPS of the range against HAR", False, 0.80, 0.90, LEAK),
    Bound("range", "crps_vs_range_ewma", "CRPS of the range against the range EMA", False, 0.75, 0.90, LEAK),
    Bound("return", "crps_vs_baseline", "CRPS of the return against a constant Student-t", False, 0.95, 0.98, LEAK),
    *(
        Bound(section, "coverage80", f"share of the {section} inside its 80 % interval", above, alarm, honest, WIDTH)
        for section in ("range", "return")
        for above, alarm, honest in ((True, 0.90, 0.85), (False, 0.70, 0.75))
    ),
)


class Proof(NamedTuple):
    """What a bundle has proven on its test span."""

    proven: str  # `none`, or skills joined by commas
    reason: str
    verdict: Verdict | None  # of the gate, without a champion; none where it could not judge


def too_good(report: Mapping[str, Any]) -> list[str]:
    """A sentence for every figure of a report that is beyond its bound; figures that are not there are passed over."""
    return [
        f"{bound.name} is {_told(figure)}, {'above' if bound.above else 'below'} {bound.alarm:g} "
        f"({_honest(bound)}): check {bound.check}"
        for bound in BOUNDS
        if (figure := report.get(bound.section, {}).get(bound.figure)) and beyond(bound, figure)
    ]


def beyond(bound: Bound, figure: Figure) -> bool:
    """Whether a figure is beyond its bound; without an interval there are too few rows to say so."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None:
        return False
    if bound.above:
        return value > bound.alarm and low > bound.honest
    return value < bound.alarm and high < bound.honest


def sharpe_before_costs(
    probability_up: Floats, y_return: Floats, block: NDArray[np.int64], blocks_per_year: float
) -> Figure:
    """Sharpe ratio a year of holding every symbol, up or down as the forecast says, in equal risk and without costs.

    Args:
        probability_up: `(n,)`.
        y_return: `(n,)` in volatilities of the horizon, so that every row risks the same.
        block: `(n,)` number of the row's block of time; their means are what varies.
        blocks_per_year: of that length.

    Source: Sharpe 1994, The Sharpe Ratio; yearly by the square root of the number of blocks.
    """
    gain = np.sign(probability_up - 0.5) * y_return
    known, of = np.unique(block, return_inverse=True)
    mean = np.bincount(of, gain, len(known)) / np.bincount(of, minlength=len(known))  # (blocks,)
    root = math.sqrt(blocks_per_year)

    def sharpe(sums: Floats) -> Floats:  # (..., 3) blocks, sum and sum of squares of their means
        count, total, squares = np.moveaxis(sums, -1, 0)
        return np.asarray(root * total / count / np.sqrt(squares / count - (total / count) ** 2))

    return Blocks(known).figure(sharpe, np.stack([np.ones_like(mean), mean, mean**2], axis=1))


def prove(  # noqa: PLR0913 - what was trained, on what, and what is held against it
    bundle: Bundle, table: CandleTable, dataset: Dataset, split: Split, sentinel: Sentinel, alarms: Sequence[str]
) -> Proof:
    """Let the gate judge a bundle on its own test span, against the baselines, with no champion."""
    held_out = judged_candles(bundle, table, dataset, split)
    try:
        evidence = gather(bundle, None, [bundle.spec.baselines], held_out)
        verdict = weigh(evidence, bundle.sha256, None)
    except CandlewickError as error:
        return Proof(*proven_of(None, sentinel, alarms, str(error)), None)
    suspicions = [*alarms, *too_good({"direction": {SHARPE: sharpe_of(evidence)}})]
    return Proof(*proven_of(verdict, sentinel, list(dict.fromkeys(suspicions))), verdict)


def proven_of(
    verdict: Verdict | None, sentinel: Sentinel, alarms: Sequence[str], unjudged: str = "no gate has judged it"
) -> tuple[str, str]:
    """What counts as proven (`none`, or skills joined by commas), and why."""
    if not sentinel.passed:
        return "none", f"the leakage sentinel failed. {sentinel.sentence}"
    if alarms:
        return "none", f"too good to be true: {'; '.join(alarms)}"
    if verdict is None:
        return "none", unjudged
    if not verdict.proven:
        return "none", f"no skill was shown for sure. {verdict.sentence}"
    return ",".join(verdict.proven), f"on the test span, with no leak found. {verdict.sentence}"


def judged_candles(bundle: Bundle, table: CandleTable, dataset: Dataset, split: Split) -> HeldOut:
    """The candles of the test span, and before it those that warm up."""
    back = WARM_UP_BARS + COLD_AFTER_ABSENT + dataset.lookback_bars
    first = max(split.test.first - back, 0)
    last = min(split.test.stop - 1 + dataset.horizon_bars, len(dataset.close_time_ms) - 1)
    candles = table.since(int(table.open_time_ms[first]))
    return HeldOut(candles, bundle.spec.trained_until_ms, int(dataset.close_time_ms[last]))


def sharpe_of(evidence: Evidence) -> Figure:
    """The Sharpe ratio of the challenger's probabilities."""
    bars = block_bars(evidence.timeframe_ms, evidence.horizon_bars)
    block = evidence.close_time_ms // (bars * evidence.timeframe_ms)
    yearly = YEAR_MS / (bars * evidence.timeframe_ms)
    return sharpe_before_costs(evidence.probability_up, evidence.y_return, block, yearly)


def _honest(bound: Bound) -> str:
    return f"honest ones stay {'below' if bound.above else 'above'} {bound.honest:g}"


def _told(figure: Figure) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
