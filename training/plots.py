"""The pictures of a report: static SVG, one function a picture, or None where its section is missing.

Enters: sections of a report as plain values. Leaves: SVG strings. Does not know: files, how any figure was made.
Every skill is a ratio to a baseline's error with its 95 % interval; the line at 1 is the baseline, left of or below it
is better. The renderer ends its process where memory is short, so `draw_apart` has a process of its own draw
(`python -m training.plots`: a report in, `{name: svg}` out), and nothing else is lost with it.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from training.chart import (
    COLOURS,
    DASHED,
    HEIGHT,
    WIDTH,
    along,
    by_column,
    by_row,
    colour,
    layer,
    number,
    point,
    shape,
    svg,
)

Rows = Sequence[Mapping[str, Any]]

DRAWN = ("by_symbol", "by_hour", "pit", "reliability", "importance", "training")
DRAWING_S = 120.0
"""Bound on drawing a report; on one busy core it takes 6."""
log = logging.getLogger(__name__)


def draw_apart(report: Mapping[str, Any]) -> dict[str, str]:
    """Every picture that a report has the sections for, by name, drawn by a process of its own.

    A report without pictures is better than none: where drawing fails there are none, and the log says why.
    """
    drawn = {name: report[name] for name in DRAWN if report.get(name)}
    if not drawn:
        return {}
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", __name__],
            input=json.dumps(drawn), capture_output=True, text=True, encoding="utf-8", timeout=DRAWING_S, check=True,
        )  # fmt: skip
        return dict(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or "").strip()[-500:]
        log.warning("the plots of the report could not be drawn error=%s said=%r", error, said)
        return {}


def draw(report: Mapping[str, Any]) -> dict[str, str]:
    """Every picture that a report has the sections for, by name, drawn here."""
    pit = report.get("pit") or {}
    drawn = {
        "skill_by_symbol": skill_by_symbol(report.get("by_symbol")),
        "skill_by_hour": skill_by_hour(report.get("by_hour")),
        "pit_range": pit_histogram(pit.get("range")),
        "pit_return": pit_histogram(pit.get("return")),
        "reliability": reliability(report.get("reliability")),
        "importance": importance(report.get("importance")),
        "loss": loss_by_epoch(report.get("training")),
    }
    return {name: picture for name, picture in drawn.items() if picture is not None}


def skill_by_symbol(by_symbol: Mapping[str, Mapping[str, Any]] | None) -> str | None:
    """Range CRPS of each symbol over HAR's and over the range EMA's; best symbols first."""
    rivals = {"crps_vs_har": "to HAR", "crps_vs_range_ewma": "to the range EMA"}
    points = [
        one
        for symbol, found in (by_symbol or {}).items()
        for key, rival in rivals.items()
        for one in point(found.get("range", {}).get(key), label=symbol, group=rival)
    ]
    return by_row(points, "range CRPS, ratio (below 1 is better)", list(rivals.values()))


def skill_by_hour(rows: Rows | None) -> str | None:
    """Range CRPS over HAR's by hour of the day, UTC."""
    points = [
        one
        for row in rows or ()
        for one in point(row.get("range", {}).get("crps_vs_har"), label=f"{row['hour']:02d}", group="to HAR")
    ]
    return by_column(points, "hour of the close, UTC", "range CRPS, ratio to HAR (below 1 is better)", ["to HAR"])


def importance(rows: Rows | None) -> str | None:
    """Range CRPS with one feature shuffled over that with it intact, features that matter most first."""
    points = [one for row in rows or () for one in point(row["ratio"], label=row["feature"], group="shuffled")]
    return by_row(
        points,
        "range CRPS with the feature shuffled, ratio to intact (above 1 it matters)",
        ["shuffled"],
        descending=True,
    )


def skill_by_window(rows: Rows | None, measure: str = "range CRPS, ratio (below 1 is better)") -> str | None:
    """Skill of a walk-forward by window and scheme.

    Args:
        rows: `window from_ms age_days scheme value low high`, in any order.
        measure: what the values are, for the axis.
    """
    ordered = sorted(rows or (), key=lambda row: row["from_ms"])
    points = [one for row in ordered for one in point(row, label=_day(row["from_ms"]), group=row["scheme"])]
    return by_column(points, "first day of the window, UTC", measure, _schemes(rows or ()))


def skill_by_age(rows: Rows | None, measure: str = "range CRPS, ratio (below 1 is better)") -> str | None:
    """Skill of a walk-forward by the champion's age in days; arguments as in `skill_by_window`."""
    points = [one for row in rows or () for one in point(row, age=row["age_days"], group=row["scheme"])]
    return along(points, "age", "age of the champion, days", measure, _schemes(rows or ()))


def reliability(rows: Rows | None) -> str | None:
    """How often the price rose, against the probability that was stated; on the diagonal both agree.

    Args:
        rows: `predicted observed low high rows`, one a bin.
    """
    points = [one for row in rows or () for one in point({**row, "value": row["observed"]}, predicted=row["predicted"])]
    if not points:
        return None
    ends = [one[name] for one in points for name in ("predicted", "low", "high")]
    domain = [max(min(ends) - 0.01, 0.0), min(max(ends) + 0.01, 1.0)]
    axis = {"scale": {"domain": domain, "nice": False, "zero": False}, "axis": {"tickCount": 6, "format": ".2f"}}
    x = number("predicted", "stated probability of a rise", **axis)
    y, low = (number(name, "share that rose", **axis) for name in ("value", "low"))
    return svg(
        layer("line", [{"predicted": end, "value": end} for end in domain], {"x": x, "y": y}, **DASHED),
        layer("rule", points, {"x": x, "y": low, "y2": {"field": "high"}}, color=COLOURS[0], strokeWidth=2),
        layer("point", points, {"x": x, "y": y}, color=COLOURS[0], filled=True, opacity=1, size=60),
        width=HEIGHT + 60, height=HEIGHT + 60,
    )  # fmt: skip


def pit_histogram(section: Mapping[str, Any] | None) -> str | None:
    """Where the truth fell in its forecast distribution; calibrated forecasts fill all bars alike, within the band.

    Args:
        section: `shares` of equal bins from 0 to 1, and `low high`, between which a calibrated share lies.
    """
    shares = list((section or {}).get("shares") or ())
    if not section or not shares:
        return None
    low, high, count = section.get("low"), section.get("high"), len(shares)
    bars = [{"from": i / count, "to": (i + 1) / count, "share": share, "floor": 0} for i, share in enumerate(shares)]
    band = [{"from": 0, "to": 1, "share": high, "floor": low}] if low is not None and high is not None else []
    x = number("from", "place of the truth in its forecast", axis={"format": ".2~f", "grid": False, "tickCount": 5})
    y = number("share", "share of forecasts", axis={"format": "~%", "tickCount": 5}, scale={"zero": True})
    place = {"x": x | {"scale": {"domain": [0, 1]}}, "x2": {"field": "to"}, "y": y, "y2": {"field": "floor"}}
    return svg(
        layer("bar", bars, place, color=COLOURS[0], opacity=0.85, stroke="white"),
        layer("rect", band, place, color=COLOURS[1], opacity=0.3),
        layer("rule", [{"share": 1 / count}], {"y": y}, **DASHED),
        width=WIDTH // 2 + 40, height=HEIGHT - 40,
    )  # fmt: skip


def loss_by_epoch(training: Mapping[str, Any] | None) -> str | None:
    """Loss on the training rows and on the validation rows; a ring marks the epoch that was kept.

    Args:
        training: `best_epoch`, and `history` with `epoch train_loss validation_score`.
    """
    names = {"train_loss": "training", "validation_score": "validation"}
    history, best = (training or {}).get("history") or (), (training or {}).get("best_epoch")
    points = [
        {"epoch": row["epoch"], "loss": row[key], "group": name, "kept": row["epoch"] == best and key != "train_loss"}
        for row in history
        for key, name in names.items()
        if row.get(key) is not None
    ]
    if not points:
        return None
    last, groups = max(one["epoch"] for one in points), list(names.values())
    axis = {"format": "d", "grid": False, "values": list(range(1, last + 1, max(1, round(last / 12))))}
    x = number("epoch", "epoch", axis=axis, scale={"domain": [1, last], "nice": False, "padding": 12})
    base = {"x": x, "y": number("loss", "loss", scale={"zero": False, "padding": 12}), "color": colour(groups)}
    kept = [one for one in points if one["kept"]]
    return svg(
        layer("line", points, base, strokeWidth=2),
        layer("point", points, base | {"shape": shape(groups)}, filled=True, opacity=1, size=40),
        layer("point", kept, base, size=200, strokeWidth=2, shape="circle", opacity=1),
    )


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%Y-%m-%d}"


def _schemes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({row["scheme"] for row in rows})


if __name__ == "__main__":
    sys.stdout.write(json.dumps(draw(json.load(sys.stdin))))
