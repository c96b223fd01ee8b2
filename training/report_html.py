"""`report.html`: the report for reading, one file that needs nothing else: no script, no font, no network.

Enters: a report as plain values. Leaves: a file, whole or not at all. Does not know: how any figure was made.
Whatever a report says is text: everything is escaped, and the page forbids itself scripts and requests. Sections that a
report does not have are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

from training.figures import SECTIONS, doubts, in_brackets, in_percent, judge, known, proven, shown, verdict
from training.plots import DRAWN, draw_apart
from training.report import FILE_NAME, parts, write_whole

HTML_NAME = "report.html"
Row = Sequence[str | tuple[str, str]]  # cells: text, or text and the class that shows it
MAX_FACTS, MAX_LIST = 300, 40
"""Rows of a table of facts and entries of a list; of more, the number left out is told."""
MARKS = {"better": "good", "held": "good", "worse": "bad", "too wide": "bad", "too narrow": "bad"}

STYLE = """
body{font:15px/1.5 Helvetica,Arial,sans-serif;color:#222;background:#fff;max-width:60rem;margin:2rem auto;
padding:0 1rem}h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2.2rem;
border-bottom:1px solid #ddd}code{font-size:.85em;overflow-wrap:anywhere}table{border-collapse:collapse;
font-size:.9rem;margin:.6rem 0}th,td{text-align:left;vertical-align:top;padding:.25rem .8rem .25rem 0;
border-bottom:1px solid #eee;overflow-wrap:anywhere}th{font-weight:600}td.n{white-space:nowrap;
font-variant-numeric:tabular-nums}td.good::before{content:"\\2713  ";color:#009E73}
td.bad::before{content:"\\2717  ";color:#D55E00}.box{padding:.6rem 1rem;background:#f3f6f9;
border-left:4px solid #0072B2}.alarm{background:#fdf1ea;border-color:#D55E00}.wide{overflow-x:auto}
figure{margin:1rem 0}figcaption{font-size:.9rem;max-width:46rem}svg{max-width:100%;height:auto}
"""
PICTURES = {
    "skill_by_symbol": (
        "Skill by symbol",
        "Dots left of the dashed line beat the baseline; where the bar (95 % interval) touches the line, nothing is "
        "shown either way. Of more than 40 symbols, the best and the worst.",
    ),
    "skill_by_hour": (
        "Skill by hour of the day",
        "Below the dashed line the range forecast beats HAR. A faint dot has too few blocks of time for an interval. "
        "24 hours are looked at and none is corrected for it: one bar in twenty misses by chance.",
    ),
    "pit_range": (
        "Calibration of the range",
        "A calibrated forecast fills all bars alike, within the band. High at both ends: too sure of itself; high in "
        "the middle: too cautious; leaning: off to one side.",
    ),
    "pit_return": ("Calibration of the return", "Read like the one above."),
    "reliability": (
        "Reliability of the direction",
        "Of all times a rise was given this probability, how often it rose. On the dashed line both agree.",
    ),
    "importance": (
        "What the range forecast uses",
        "The error with one feature shuffled, over the error with it intact. At 1 the feature is not used, or another "
        "says the same.",
    ),
    "loss": ("Training", "Loss by epoch; the ring marks the epoch that was kept."),
}
COLUMNS: Mapping[str, tuple[str, str, Callable[..., str]]] = {  # of cells: section, figure, and how it is written
    "range CRPS, ratio to HAR": ("range", "crps_vs_har", in_brackets),
    "to the range EMA": ("range", "crps_vs_range_ewma", in_brackets),
    "80 % of ranges held": ("range", "coverage80", in_percent),
    "return CRPS, ratio": ("return", "crps_vs_baseline", in_brackets),
    "80 % of returns held": ("return", "coverage80", in_percent),
    "AUC": ("direction", "auc", in_brackets),
}


def write_html(folder: Path, report: dict[str, Any]) -> Path:
    """Write `report.html`; an older one is replaced only when the new one is complete.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    return write_whole(folder / HTML_NAME, page(report, draw_apart(report)))


def page(report: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """The page; `pictures` are SVG elements by the names of `PICTURES`, any of which may be missing."""
    chapters: dict[str, Callable[[], str]] = {
        "Key figures": lambda: _figures(report),
        "Pictures": lambda: _pictures(report, pictures),
        "By symbol": lambda: _cells("symbol", (report.get("by_symbol") or {}).items()),
        "By hour (UTC)": lambda: _cells("hour", _named("hour", report.get("by_hour"))),
        "By volatility": lambda: _cells("regime", _named("regime", report.get("by_volatility"))),
        "Seen in training, or not": lambda: _cells("sample", _named("sample", report.get("by_sample"))),
        "Data": lambda: _data(report),
        "Training": lambda: _facts(_training(report)),
        "Leakage sentinel": lambda: _sentinel(report.get("sentinel")),
        "Limits": _limits,
    }
    made = ((title, make()) for title, make in chapters.items())
    body = _opening(report) + "".join(f"<h2>{escape(title)}</h2>\n{text}" for title, text in made if text)
    title = escape(f"Report of {report.get('model', 'a bundle')}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )


def _opening(report: Mapping[str, Any]) -> str:
    skills = proven(report)
    judged = f"Proven over the baselines: {' and '.join(skills)}" if skills else "Proven: none"
    reason = f" ({report['proven_reason']})" if report.get("proven_reason") else ""
    text = f"<h1>{escape(str(report.get('model', 'A bundle')))}</h1>\n"
    text += f"<p>Bundle <code>{escape(str(report.get('bundle', 'unknown')))}</code></p>\n"
    text += f'<p class="box"><strong>{escape(judged)}</strong>{escape(reason)}</p>\n'
    text += _alarm("Believe no figure below until this is explained:", doubts(report))
    return text + _alarm("How these candles differ from those it was trained on:", report.get("outside") or ())


def _alarm(title: str, lines: Iterable[Any]) -> str:
    points = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return f'<div class="box alarm"><strong>{escape(title)}</strong><ul>{points}</ul></div>\n' if points else ""


def _figures(report: Mapping[str, Any]) -> str:
    rows = [
        (SECTIONS[meaning.section], meaning.name, _n(shown(meaning, figure)), meaning.sense,
         (verdict(meaning, figure), MARKS.get(judge(meaning, figure), "")))
        for meaning, figure in known(report)
    ]  # fmt: skip
    if not rows:
        return ""
    seen = " Some of these candles may have trained it: see below." if report.get("by_sample") else ""
    note = f"<p>95 % intervals in brackets; a ratio below 1 beats the baseline.{seen}</p>\n"
    return note + _table(("", "Figure", "Measured", "What it means", "What may be said"), rows)


def _pictures(report: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    if not pictures and any(report.get(section) for section in DRAWN):
        return "<p>The pictures could not be drawn here; the tables below hold their figures.</p>\n"
    return "".join(
        f'<figure role="group"><figcaption><strong>{escape(title)}.</strong> {escape(caption)}</figcaption>\n'
        f"{pictures[name]}</figure>\n"
        for name, (title, caption) in PICTURES.items()
        if name in pictures
    )


def _cells(what: str, cells: Iterable[tuple[Any, Mapping[str, Any]]]) -> str:
    """A row a cell; columns that no cell has are left out."""
    every = list(cells)
    kept = {
        title: (section, key, say)
        for title, (section, key, say) in COLUMNS.items()
        if any(key in (cell.get(section) or {}) for _, cell in every)
    }
    rows: list[Row] = [
        (
            str(name),
            _n(f"{cell.get('rows', 0):,}"),
            *(_n(say((cell.get(section) or {}).get(key))) for section, key, say in kept.values()),
        )
        for name, cell in every
    ]
    return _table((what, "rows", *kept), rows) if rows else ""


def _named(by: str, cells: Iterable[Mapping[str, Any]] | None) -> Iterable[tuple[Any, Mapping[str, Any]]]:
    return ((cell[by], cell) for cell in cells or ())


def _data(report: Mapping[str, Any]) -> str:
    spans = [(part.name, _n(f"{part.rows:,}"), _n(part.first), _n(part.last)) for part in parts(dict(report))]
    table = _table(("part", "rows", "first close (UTC)", "last close (UTC)"), spans) if spans else ""
    names = ("timeframe", "horizon_bars", "symbols", "rejected_rows", "left_out", "data")
    return table + _facts({name: report[name] for name in names if report.get(name)})


def _training(report: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: value for name, value in (report.get("training") or {}).items() if name != "history"}
    names = ("seconds", "peak_memory_mb", "options")
    return facts | {name: report[name] for name in names if report.get(name) is not None}


def _sentinel(sentinel: Mapping[str, Any] | None) -> str:
    if not sentinel:
        return ""
    ratio = f" Ratio {in_brackets(sentinel.get('ratio'))}, in {sentinel.get('seconds', 0):.1f} s."
    told = "Passed" if sentinel.get("passed") else "FAILED"
    sentence = str(sentinel.get("sentence", "")).rstrip(".")
    return f"<p><strong>{told}.</strong> {escape(sentence)}.{escape(ratio)}</p>\n"


def _limits() -> str:
    limits = (
        "Markets are nearly unpredictable: we never claim skill we did not measure.",
        "Every figure describes one span of time. Another span, another regime, another result.",
        "Intervals come from drawing whole blocks of time anew, since neighbouring candles are no separate evidence. "
        "Many figures stand here and none is corrected for it: of twenty intervals, one misses.",
        "Coverage is measured, not guaranteed.",
        "No figure knows costs: nothing here says that trading on a forecast would have earned anything.",
        "The direction is a diagnostic until a gate has proven it.",
        f"Every number is in {FILE_NAME}, beside this file.",
    )
    return f"<ul>{''.join(f'<li>{escape(limit)}</li>' for limit in limits)}</ul>\n"


def _facts(facts: Mapping[str, Any]) -> str:
    """Nested plain values as a table of two columns."""
    rows = [(name, value) for name, value in islice(_flat(facts), MAX_FACTS + 1)]
    if len(rows) > MAX_FACTS:
        rows[MAX_FACTS] = ("...", f"the rest is in {FILE_NAME}")
    return _table(("", ""), rows) if rows else ""


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    for name, value in facts.items():
        path = f"{above}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}: ")
        else:
            yield path, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        more = f" and {len(value) - MAX_LIST} more" if len(value) > MAX_LIST else ""
        return ", ".join(map(str, value[:MAX_LIST])) + more
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1_000 else f"{value:,.1f}"
    return "none" if value is None else f"{value:,}" if type(value) is int else str(value)


def _n(text: str) -> tuple[str, str]:
    """A cell of numbers, kept on one line."""
    return text, "n"


def _table(head: Sequence[str], rows: Iterable[Row]) -> str:
    """Cells are text, or text and the class that shows it; all of it is escaped here."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = (
        "".join(
            f"<td>{escape(cell)}</td>" if isinstance(cell, str) else f'<td class="{cell[1]}">{escape(cell[0])}</td>'
            for cell in row
        )
        for row in rows
    )
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>\n<tr>{titles}</tr>\n{body}\n</table></div>\n'
