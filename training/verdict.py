"""A verdict of the gate in words: one who is woken by it must see at a glance what was decided, and on what.

Enters: the numbers. Leaves: the verdict with its sentence. Does not know: how the numbers came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from models.events import Ratio, Verdict


class Findings(NamedTuple):
    """The ratios of a verdict, by its fields."""

    range_vs_champion: Ratio | None
    return_vs_champion: Ratio | None
    range_vs_har: Ratio
    return_vs_baseline: Ratio


def put_in_words(verdict: Verdict, closes: int, missed: Sequence[str], unbeaten: Sequence[str]) -> Verdict:
    """Write the verdict's sentence.

    Args:
        verdict: with its numbers.
        closes: how many different times the rows have.
        missed: what the rule asks for and was not shown.
        unbeaten: the baselines of the range that the challenger has not surely beaten.
    """
    told = f"{_decision(verdict)}: {_ratios(verdict)}, each bound at 95 % confidence, on {_where(verdict, closes)}."
    short_of = f" Not shown: {', '.join(missed)}." if missed else ""
    skills = f" Proven over the baselines: {' and '.join(verdict.proven) or 'none'}"
    doubt = f" (the range not over {', '.join(unbeaten)})" if unbeaten else ""
    return msgspec.structs.replace(verdict, sentence=f"{told}{short_of}{skills}{doubt}.")


def _decision(verdict: Verdict) -> str:
    own = verdict.challenger[:8]
    if verdict.champion is None:
        return f"Promote {own}, the first of its model, with no champion to beat"
    if verdict.promote:
        return f"Promote {own} over {verdict.champion[:8]}"
    return f"Refuse {own}, {verdict.champion[:8]} goes on serving"


def _ratios(verdict: Verdict) -> str:
    ranges = {"the champion's": verdict.range_vs_champion, "HAR's": verdict.range_vs_har}
    returns = {"the champion's": verdict.return_vs_champion, "the baseline's": verdict.return_vs_baseline}
    return f"its range CRPS is {_list(ranges)}, its return CRPS {_list(returns)}"


def _list(ratios: dict[str, Ratio | None]) -> str:
    return " and ".join(
        f"{ratio.value:.3f} of {whose} (at most {ratio.bound:.3f})" for whose, ratio in ratios.items() if ratio
    )


def _where(verdict: Verdict, closes: int) -> str:
    begin, end = (
        datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M") for ms in (verdict.from_ms, verdict.until_ms)
    )
    return f"{verdict.rows:,} forecasts of {closes:,} closes in {verdict.blocks} blocks of time, {begin} to {end} UTC"
