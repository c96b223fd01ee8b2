"""A walk forward told to a person: a table in words, and pictures.

Enters: the result as plain values. Leaves: text and SVG. Does not know: how any figure was made.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from training.figures import in_brackets

FILE_NAME = "walk-forward.json"


def in_words(result: dict[str, Any]) -> str:
    """The tables for a person: ratios of range CRPS, each with its 95 % interval."""
    policies = [policy for policy in result["policies"] if policy != "once"]
    head = ["", *(f"{policy} / once" for policy in policies), *(f"{policy} / HAR" for policy in result["policies"])]
    lines = [(row, _date(row["from_ms"])) for row in result["windows"]]
    lines += [(row, f"{row['from_days']:g}-{row['until_days']:g} days") for row in result["ages"]]
    lines += [(result["pooled"], "pooled")]
    text = ["".join(f"{word:>24}" for word in head)]
    for row, name in lines:
        figures = [row["range"][policy]["vs_once"] for policy in policies]
        figures += [row["range"][policy]["vs_har"] for policy in result["policies"]]
        text.append("".join(f"{word:>24}" for word in [name, *(in_brackets(figure, 4) for figure in figures)]))
    text += [verdict["sentence"] for verdict in result["gate"]]
    text.append(f"{result['seconds']:.0f} s, {result['peak_memory_mb']:.0f} MB; every figure is in {FILE_NAME}")
    return "\n".join(text)


def pictures(result: dict[str, Any]) -> dict[str, str]:
    """Ratios to the bundle that was trained once, by window and by that bundle's age."""
    from training.plots import skill_by_age, skill_by_window

    def points(row: dict[str, Any], **place: Any) -> list[dict[str, Any]]:
        policies = [policy for policy in result["policies"] if policy != "once"]
        return [{**place, "scheme": policy, **row["range"][policy]["vs_once"]} for policy in policies]

    windows, ages = result["windows"], result["ages"]
    measure = "range CRPS, ratio to the bundle trained once (below 1 is better)"
    drawn = {
        "windows": skill_by_window([one for row in windows for one in points(row, from_ms=row["from_ms"])], measure),
        "ages": skill_by_age(
            [one for row in ages for one in points(row, age_days=(row["from_days"] + row["until_days"]) / 2)], measure
        ),
    }
    return {name: picture for name, picture in drawn.items() if picture}


def _date(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M")
