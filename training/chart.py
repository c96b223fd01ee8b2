"""How figures with intervals are drawn: dots and error bars by row, by column or along a number, as static SVG.

Enters: points `{value, low, high, group, ...}`. Leaves: SVG strings. Does not know: what the points measure.
Charts are written in Vega-Lite's own JSON and drawn by vl-convert: the renderer alone takes a third of the time that it
takes behind a library that writes this JSON. Nothing is fetched, no script runs where an SVG is shown, and no element
has an id, so many fit into one page. The renderer is heavy: it is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Points = list[dict[str, Any]]
Spec = dict[str, Any]
"""A part of a Vega-Lite chart, as JSON has it."""

VEGA_LITE = "v5.20"
"""The grammar these charts are written in; a renderer knows many."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Told apart by colour-blind people. Source: Okabe & Ito 2008, Color Universal Design."""
SHAPES = ("circle", "diamond", "square", "triangle-up")
INK, QUIET = "#222222", "#8a8a8a"
WIDTH, HEIGHT, ROW_HEIGHT = 600, 240, 16
MAX_ROWS = 40
"""Symbols or features that fit on a screen; of more, the best and the worst are drawn."""
DASHED: Mapping[str, Any] = {"color": INK, "strokeDash": [5, 4], "strokeWidth": 1}
CONFIG: Mapping[str, Any] = {
    "background": "#ffffff", "font": "Helvetica, Arial, sans-serif",
    "aria": False,  # the page describes the picture as a whole
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": INK, "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 12,
        "gridColor": "#ececec", "domainColor": QUIET, "tickColor": QUIET, "labelLimit": 180, "titlePadding": 8,
    },
    "legend": {
        "orient": "top", "direction": "horizontal", "title": None, "labelFontSize": 12, "labelColor": INK,
        "symbolSize": 80, "labelLimit": 0, "columnPadding": 18,
    },
}  # fmt: skip


def point(figure: Mapping[str, Any] | None, **place: Any) -> Points:
    """One point where the figure has a value, else none; without an interval it is drawn as a faint dot alone."""
    if not figure or figure.get("value") is None:
        return []
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    return [place | {"value": value, "low": value if low is None else low, "high": value if high is None else high}]


def by_row(points: Points, measure: str, groups: Sequence[str], *, descending: bool = False) -> str | None:
    """A row a label, sorted by its first group; the line at 1 is the baseline."""
    if not points:
        return None
    labels = _outermost(_sorted_labels(points, groups[0], descending))
    kept = [one for one in points if one["label"] in set(labels)]
    rows = {"field": "label", "type": "nominal", "title": None, "sort": labels}
    place = {"y": rows | {"axis": {"grid": False, "ticks": False, "labelPadding": 8}}, **_offset("yOffset", groups)}
    return svg(*_with_intervals(kept, "x", measure, groups, place), width=WIDTH - 100, height={"step": ROW_HEIGHT})


def by_column(points: Points, axis: str, measure: str, groups: Sequence[str]) -> str | None:
    """A column a label, in the order given; the line at 1 is the baseline."""
    if not points:
        return None
    labels = list(dict.fromkeys(one["label"] for one in points))
    ticks = {"grid": False, "labelAngle": 0, "labelOverlap": "greedy", "labelSeparation": 6, "labelFlush": True}
    columns = {"field": "label", "type": "nominal", "title": axis, "sort": labels, "axis": ticks}
    place = {"x": columns | {"scale": {"paddingInner": 0.15}}, **_offset("xOffset", groups)}
    return svg(*_with_intervals(points, "y", measure, groups, place))


def along(points: Points, field: str, axis: str, measure: str, groups: Sequence[str]) -> str | None:
    """Points along a number; the line at 1 is the baseline."""
    if not points:
        return None
    scale = _room_for([one[field] for one in points], air=0.02)
    return svg(*_with_intervals(points, "y", measure, groups, {"x": number(field, axis, scale=scale)}))


def number(field: str, title: str, **more: Any) -> Spec:
    """A field as a place on an axis."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def layer(mark: str, values: Points, encoding: Spec, **looks: Any) -> Spec:
    """Marks of one kind for values that travel inside the chart."""
    return {"mark": {"type": mark, **looks}, "data": {"values": values}, "encoding": encoding}


def colour(groups: Sequence[str]) -> Spec:
    """A colour a group, with a legend where there is more than one."""
    return _told_apart(groups, COLOURS)


def shape(groups: Sequence[str]) -> Spec:
    """A shape a group, so that colour is never alone; on dots only."""
    return _told_apart(groups, SHAPES)


def svg(*layers: Spec, width: float = WIDTH, height: float | Spec = HEIGHT) -> str:
    """Layers over each other as one SVG element."""
    import vl_convert

    spec = {"layer": list(layers), "width": width, "height": height, "config": CONFIG}
    return str(vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE, allowed_base_urls=[]))


def _with_intervals(points: Points, axis: str, measure: str, groups: Sequence[str], place: Spec) -> list[Spec]:
    """A line at 1, bars from low to high and dots; `axis` is that of the values."""
    scale = _room_for([1.0, *(one[end] for one in points for end in ("low", "high"))], air=0.04)
    line, low, value = (number(field, measure, scale=scale) for field in ("value", "low", "value"))
    base = place | {"color": colour(groups)}
    faint = {"condition": {"test": "datum.low == datum.high", "value": 0.35}, "value": 0.95}
    return [
        layer("rule", [{"value": 1}], {axis: line}, **DASHED),
        layer("rule", points, base | {axis: low, f"{axis}2": {"field": "high"}}, strokeWidth=2, opacity=0.6),
        layer("point", points, base | {axis: value, "shape": shape(groups), "opacity": faint}, filled=True, size=50),
    ]


def _room_for(values: Sequence[float], air: float) -> Spec:
    """From the lowest to the highest value, with a share of that as air at both ends."""
    low, high = min(values), max(values)
    room = air * (high - low) or 0.01
    return {"domain": [low - room, high + room], "zero": False, "nice": False}


def _told_apart(groups: Sequence[str], choices: Sequence[str]) -> Spec:
    scale = {"domain": list(groups), "range": [choices[i % len(choices)] for i in range(len(groups))]}
    legend = {} if len(groups) > 1 else {"legend": None}
    return {"field": "group", "type": "nominal", "scale": scale, **legend}


def _offset(channel: str, groups: Sequence[str]) -> Spec:
    """Side by side, not over each other."""
    return {channel: {"field": "group", "type": "nominal", "sort": list(groups)}} if len(groups) > 1 else {}


def _sorted_labels(points: Points, group: str, descending: bool) -> list[str]:
    """Labels by their value in a group; those without one come last."""
    values = {one["label"]: one["value"] for one in points if one["group"] == group}
    others = list(dict.fromkeys(one["label"] for one in points if one["label"] not in values))
    return sorted(values, key=lambda label: values[label], reverse=descending) + others


def _outermost(labels: list[str]) -> list[str]:
    half = MAX_ROWS // 2
    return labels if len(labels) <= MAX_ROWS else labels[:half] + labels[-half:]
