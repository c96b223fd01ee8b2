"""What the demo tells: a line for each turn of the loop while it runs, and the reckoning at its end.

Enters: counts from the topics, drift records, jobs. Leaves: a summary as one object, and in plain words. Does not know:
how the demo brought it about.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from models.events import Drift
from models.jobs import JobState, at
from streaming.audit import FAULTS, Audit
from streaming.job_feed import Jobs
from streaming.scoreboard import Scoreboard

SHOWN_LEVELS = ("drift", "recovered")
PERCENT = 100
LINE = 118


class Counted(NamedTuple):
    """What the topics and the roles say at the end."""

    audit: Audit
    dead_letters: int
    late_switches: int | None  # None: predict did not say
    served_s: float  # replay running


def loop_lines(drift: Sequence[Drift], jobs: Jobs) -> list[str]:
    """What the loop did so far, in order of the market's time."""
    said = [(each.target_time_ms, 0, _drift_line(each)) for each in drift if each.level in SHOWN_LEVELS]
    for job in jobs.asked.values():
        said.append((job.asked_ms, 1, f"{at(job.asked_ms)} job asked for: {job.job}"))
        state = jobs.states.get(job.job, JobState())
        if state.verdict is None and state.end is None and state.last is not None:
            said.append((job.asked_ms, 2, f"{at(job.asked_ms)} the job now: {state.last.text}"))
        for when, event in ((job.judge_until_ms, state.verdict), (job.judge_until_ms, state.end)):
            if event is not None:
                said.append((when, 2, f"{at(when)} {event.state}: {event.text}"))
    return [text for _, _, text in sorted(said, key=lambda line: line[:2])]


def _drift_line(drift: Drift) -> str:
    moved = f"{drift.detector} {drift.reference:.2f} -> {drift.statistic:.2f}"
    return f"{at(drift.target_time_ms)} {drift.level.upper()} {moved} since {at(drift.since_ms)}; {drift.reason}"


def training_of(jobs: Jobs) -> tuple[int, int, str] | None:
    """How far the training that is under way is: done, of how many, in words."""
    for state in jobs.states.values():
        last = state.last
        if state.end is None and last is not None and last.step == "training" and last.share is not None:
            return round(PERCENT * last.share), PERCENT, last.text
    return None


def summarise(counted: Counted, board: Scoreboard, jobs: Jobs) -> dict[str, Any]:
    """The one object that `candlewick demo --json` prints."""
    found = counted.audit
    verdicts = [state.verdict.verdict for state in jobs.states.values() if state.verdict and state.verdict.verdict]
    return {
        "candles": found.candles,
        "signals": found.signals,
        "signals_missing": found.missing + found.overtaken + found.wrong + found.wrong_bundle + found.unexpected,
        "faults": {fault: count for fault in FAULTS if (count := getattr(found, fault))},
        "duplicates": found.duplicates,
        "withheld": found.withheld,
        "dead_letters": counted.dead_letters,
        "outcomes": board.outcomes,
        "drift_events": sum(drift.level == "drift" for drift in board.drift),
        "retrain_jobs": len(jobs.asked),
        "gate_verdicts": len(verdicts),
        "promotions": sum(verdict.promote for verdict in verdicts),
        "verdicts": [verdict.sentence for verdict in verdicts],
        "activations": len(board.activations),
        "late_switches": counted.late_switches,
        "signals_per_s": round(found.signals / counted.served_s) if counted.served_s else 0,
        "skill": board.skill.as_dict(),
        "skill_after_the_change": {sha256[:12]: skill.as_dict() for sha256, skill in board.skill_injected.items()},
    }


def all_is_well(summary: dict[str, Any]) -> bool:
    """The audit found no fault, nothing is unknown, and the loop closed."""
    known = not summary["faults"] and summary["late_switches"] is not None
    return known and summary["promotions"] > 0 and summary["activations"] >= 2


def in_words(summary: dict[str, Any]) -> str:
    """The summary for a person."""
    skill = summary["skill"]
    withheld, late = _listed(summary["withheld"]), summary["late_switches"]
    return f"""
{summary["candles"]:,} candles became {summary["signals"]:,} signals and {summary["outcomes"]:,} outcomes in \
{summary["seconds"]:.0f} s, training included.
Counted again from the topics: {summary["signals_missing"]} missing or wrong, {summary["duplicates"]} duplicates, \
{summary["dead_letters"]} dead letters, {"an unknown number of" if late is None else late} late switches.
Withheld on purpose: {withheld or "none"}.

The loop: {_counted(summary["drift_events"], "drift event")}, {_counted(summary["retrain_jobs"], "job")}, \
{_counted(summary["gate_verdicts"], "verdict")}, {_counted(summary["promotions"], "promotion")}.
{_verdicts(summary["verdicts"])}
{_after_the_change(summary)}

What it is good for: the range of the next 3 minutes. On {skill["scored"]:,} signals of real candles its CRPS was
{skill["range_crps_vs_har"]} of a HAR model's and {skill["range_crps_vs_vol60"]} of a constant's (below 1 is better).
The 80 % interval of the range held {_share(skill["range_coverage80"])} of the time, that of the price \
{_share(skill["return_coverage80"])}.
What it is not good for: the direction. Nothing is proven there, and no signal claims it.
{"All is well." if all_is_well(summary) else _wrong(summary)}"""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in counts.items())


def _verdicts(sentences: Sequence[str]) -> str:
    return "\n".join(textwrap.fill(f"The gate: {sentence}", LINE, subsequent_indent="  ") for sentence in sentences)


def _after_the_change(summary: dict[str, Any]) -> str:
    lines = [
        f"  {sha256}: range {_share(skill['range_coverage80'])}, price {_share(skill['return_coverage80'])}, "
        f"on {skill['scored']:,} signals"
        for sha256, skill in summary["skill_after_the_change"].items()
    ]
    return "\n".join(["How often 80 % intervals held after the demo changed the market, by bundle:", *lines])


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _wrong(summary: dict[str, Any]) -> str:
    if summary["faults"]:
        return f"SOMETHING IS WRONG: the audit found {_listed(summary['faults'])}."
    if summary["late_switches"] is None:
        return "SOMETHING IS WRONG: predict did not answer at the end; its log is in the folder that --keep names."
    return "THE LOOP DID NOT CLOSE: no challenger was promoted; what the gate said is above."
