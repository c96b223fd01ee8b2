"""The gate: whether a challenger may replace what serves, and which skills it has shown.

Enters: a challenger, the champion or none, baselines, and candles that neither has seen. Leaves: a `Verdict`.
Does not know: jobs, topics, files. It proves nothing about the future: a verdict holds for the span that was judged.

The rule, each ratio a sum of CRPS over another's on the same rows, each bound the upper end of a one-sided 95 %
interval: the range's ratio to the champion at most .997 and its bound below 1; the return's bound to the champion at
most 1.002; the range's bound to HAR at most 1.01.
Source of the numbers: another seed alone moves a ratio by .001 to .003; a gain must be larger to be worth a swap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import CandlewickError, InvalidBundle
from models.events import Ratio, Skill, Verdict
from models.spec import Baselines
from training.bootstrap import MIN_BLOCKS, Blocks
from training.evaluate import LEAST_BLOCK_HORIZONS, block_bars
from training.evidence import Evidence, HeldOut, gather
from training.verdict import Findings, put_in_words

Floats = NDArray[np.float64]

WANTED_BLOCKS = 12
"""A short span is cut into so many blocks, shorter than two hours: three blocks of two hours could prove nothing, while
sums of CRPS differences over half an hour are as good as independent (neighbours correlate by .1 or less, measured on
6 days of 1m candles)."""
MOST_BLOCKS = 256
DIRECTION_BLOCKS = 23
"""Of two hours: two days of 1m candles less a label and a warm first close."""
DIRECTION_CONFIDENCE = 0.99
"""Every judged bundle is a new chance to look skilled by accident, and the direction is what people would trade on."""
MOST_BRIER_BOUND = 0.995
"""On real candles a ratio of .999 was significant (AUC .52) and worth nothing after costs: less than half a percent is
no skill to speak of."""


@dataclass(frozen=True)
class Rule:
    """What a challenger must show. Bounds are upper ends of one-sided 95 % intervals."""

    most_range_ratio: float = 0.997  # to the champion, as measured
    range_bound: float = 1.0  # to the champion; it must stay below
    most_return_bound: float = 1.002  # to the champion
    most_har_bound: float = 1.01  # of the range to HAR


DEFAULT_RULE = Rule()


def judge(
    challenger: Bundle,
    champion: Bundle | None,
    baselines: Sequence[Baselines],
    held_out: HeldOut,
    rule: Rule = DEFAULT_RULE,
) -> Verdict:
    """Hold a challenger against the champion and the baselines.

    Without a champion it is promoted in any case, proven or not. A challenger that is unfit to serve (its output is not
    its golden one, or a forecast is no number) is refused by a verdict without ratios.

    Args:
        challenger: the bundle to judge; these very bytes will serve.
        champion: the bundle that serves the slot now, or None.
        baselines: fits to hold it against, usually those of both bundles; of each kind the best one counts.
        held_out: candles, and the span of them to judge.
        rule: what must be shown.

    Raises:
        CandlewickError: no answer is possible: bundles of other slots, a span that one of them was trained on, or one
            that has too few rows or blocks of time.
    """
    _check_slots(challenger, champion, held_out)
    _check_span(challenger, champion, held_out)
    named = challenger.sha256, champion.sha256 if champion else None
    try:
        evidence = gather(challenger, champion, baselines, held_out)
    except InvalidBundle as error:
        return unfit(*named, held_out, str(error))
    return weigh(evidence, *named, rule)


def weigh(evidence: Evidence, challenger: str, champion: str | None, rule: Rule = DEFAULT_RULE) -> Verdict:
    """Apply the rule to scores; bundles are named by their hash.

    Raises:
        CandlewickError: too few blocks of time.
    """
    block, whole = time_blocks(evidence)
    blocks = Blocks(block)
    if blocks.count < MIN_BLOCKS:
        raise CandlewickError(
            f"{blocks.count} blocks of time are too few to judge by, {MIN_BLOCKS} are needed: give a span of "
            f"{(MIN_BLOCKS + 1) * LEAST_BLOCK_HORIZONS * evidence.horizon_bars:,} bars or more"
        )
    findings = _findings(evidence, blocks)
    unbeaten = _unbeaten(evidence, blocks)
    shown: dict[Skill, bool] = {
        "range": not unbeaten,  # over every baseline, not only HAR: no luck adds up over tests that must all be passed
        "return": findings.return_vs_baseline.bound < 1,
        "direction": whole and _direction_shown(evidence, block),
    }
    missed = _missed(findings, rule)
    closes = np.unique(evidence.close_time_ms)
    verdict = Verdict(
        promote=not missed,
        challenger=challenger,
        champion=champion,
        from_ms=int(closes[0]),
        until_ms=int(closes[-1]),
        rows=len(evidence.close_time_ms),
        blocks=blocks.count,
        **findings._asdict(),
        proven=tuple(skill for skill, holds in shown.items() if holds),
        sentence="",
    )
    return put_in_words(verdict, len(closes), missed, unbeaten)


def unfit(challenger: str, champion: str | None, held_out: HeldOut, reason: str) -> Verdict:
    """Refuse a challenger that cannot serve at all."""
    return Verdict(
        promote=False,
        challenger=challenger,
        champion=champion,
        from_ms=held_out.from_ms,
        until_ms=held_out.until_ms,
        rows=0,
        blocks=0,
        sentence=f"Refuse {challenger[:8]}, which is unfit to serve: {reason}.",
    )


def time_blocks(evidence: Evidence) -> tuple[NDArray[np.int64], bool]:
    """The number of each row's block of time, `(n,)`, and whether blocks are as long as one would wish.

    All are equally long: two hours and four horizons, or more; where that gives fewer than a dozen, shorter ones, but
    never shorter than four horizons.
    """
    time, horizon = evidence.close_time_ms, evidence.horizon_bars
    bar = (time - time.min()) // evidence.timeframe_ms
    span = int(bar.max()) + 1
    wanted = block_bars(evidence.timeframe_ms, horizon)
    bars = max(min(wanted, span / WANTED_BLOCKS), LEAST_BLOCK_HORIZONS * horizon)
    count = min(max(int(span / bars), 1), MOST_BLOCKS)
    return bar * count // span, bars >= wanted


def _check_slots(challenger: Bundle, champion: Bundle | None, held_out: HeldOut) -> None:
    timeframe = held_out.candles.timeframe_ms
    if timeframe != challenger.spec.timeframe_ms:
        raise CandlewickError(
            f"the candles are {timeframe:,} ms long, the challenger's {challenger.spec.timeframe_ms:,} ms; "
            "give candles of its timeframe"
        )
    if champion is not None and _slot(champion) != _slot(challenger):
        raise CandlewickError(
            f"the challenger is of {_slot(challenger)}, the champion of {_slot(champion)} (model, ms a bar, bars "
            "ahead): one cannot stand in for the other; judge bundles of one model"
        )


def _check_span(challenger: Bundle, champion: Bundle | None, held_out: HeldOut) -> None:
    if held_out.from_ms >= held_out.until_ms:
        raise CandlewickError(f"the judged span ends at {held_out.until_ms}, not after its begin {held_out.from_ms}")
    for name, bundle in (("challenger", challenger), ("champion", champion)):
        if bundle is not None and bundle.spec.trained_until_ms > held_out.from_ms:
            raise CandlewickError(
                f"the {name} has learned from candles up to {bundle.spec.trained_until_ms}; "
                f"judge it on a span that begins then or later, not at {held_out.from_ms}"
            )


def _slot(bundle: Bundle) -> tuple[str, int, int]:
    return bundle.spec.model, bundle.spec.timeframe_ms, bundle.spec.horizon_bars


def _findings(evidence: Evidence, blocks: Blocks) -> Findings:
    own, other = evidence.challenger, evidence.champion
    return Findings(
        range_vs_champion=_ratio(blocks, own.range, other.range) if other else None,
        return_vs_champion=_ratio(blocks, own.return_, other.return_) if other else None,
        range_vs_har=_ratio(blocks, own.range, evidence.range_baselines["har"]),
        return_vs_baseline=_ratio(blocks, own.return_, evidence.return_baseline),
    )


def _ratio(blocks: Blocks, above: Floats, below: Floats) -> Ratio:
    return Ratio(value=float(above.sum() / below.sum()), bound=blocks.ratio_bound(above, below))


def _missed(findings: Findings, rule: Rule) -> list[str]:
    """What the rule asks for and the challenger has not shown; nothing where there is no champion."""
    spread, back, har = findings.range_vs_champion, findings.return_vs_champion, findings.range_vs_har
    if spread is None or back is None:
        return []
    asked = {
        f"a range ratio of at most {rule.most_range_ratio}": spread.value <= rule.most_range_ratio,
        f"its bound below {rule.range_bound:g}": spread.bound < rule.range_bound,
        f"a return bound of at most {rule.most_return_bound}": back.bound <= rule.most_return_bound,
        f"a bound to HAR of at most {rule.most_har_bound}": har.bound <= rule.most_har_bound,
    }
    return [what for what, shown in asked.items() if not shown]


def _unbeaten(evidence: Evidence, blocks: Blocks) -> list[str]:
    """The baselines of the range that the challenger has not surely beaten."""
    own = evidence.challenger.range
    return [name for name, crps in evidence.range_baselines.items() if not blocks.ratio_bound(own, crps) < 1]


def _direction_shown(evidence: Evidence, block: NDArray[np.int64]) -> bool:
    """Ups must rank above downs AND the Brier score beat the climatological rate by half a percent, both at 99 % over
    two days or more.

    A return of exactly 0 has no direction.
    """
    moved = evidence.y_return != 0
    blocks, chance, up = Blocks(block[moved]), evidence.probability_up[moved], evidence.y_return[moved] > 0
    if blocks.count < DIRECTION_BLOCKS:
        return False
    brier, climatology = (chance - up) ** 2, (evidence.up_rate - up.astype(np.float64)) ** 2
    sharper = blocks.ratio_bound(brier, climatology, DIRECTION_CONFIDENCE) < MOST_BRIER_BOUND
    return sharper and blocks.auc_bound(chance, up, DIRECTION_CONFIDENCE) > 1 / 2
