"""The model card: what a bundle was trained on, what it is good at and what not, in plain words.

Enters: a report. Leaves: Markdown. Does not know: how any figure was made.
It claims only what an interval says: a figure whose interval lies across the line of its baseline is no skill, and
while the leakage sentinel or an alarm stands, nothing is claimed at all. Names in a report are text, never markup.
"""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from training.figures import RANGE_VS_HAR, Judgement, doubts, in_brackets, judge, known, proven, shown, verdict
from training.report import parts, utc_day, write_whole

CARD_NAME = "model-card.md"
MAX_NAMES = 40
"""Names in one sentence; of more, the number is told."""
FLAGS = {"fractions": "split", "train_until_ms": "until"}
"""Options whose flag is another word than their field."""
HEADS_BUT_DIRECTION = {"range": "The range", "return": "The return's distribution", "price": "The expected price"}
HEADS = HEADS_BUT_DIRECTION | {"direction": "The direction"}


def write_card(folder: Path, report: dict[str, Any]) -> Path:
    """Write `model-card.md`; an older one is replaced only when the new one is complete.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    return write_whole(folder / CARD_NAME, model_card(report))


def model_card(report: dict[str, Any]) -> str:
    """The card as Markdown; sections that the report says nothing about are left out."""
    chapters: dict[str, Callable[[dict[str, Any]], Iterable[str]]] = {
        "Trained on" if "training" in report else "Measured on": _candles,  # an evaluation knows only its own candles
        "Good at": _good_at,
        "Not good at": _not_good_at,
        "How calibrated": _calibrated,
        "Where it may not be used": _not_for,
        "How to reproduce": _reproduce,
    }
    blocks = [f"# Model card: {_text(report.get('model', 'a bundle'))}", *_opening(report)]
    for title, lines in chapters.items():
        found = list(lines(report))
        if found:
            blocks += [f"## {title}", "\n".join(found)]
    return "\n\n".join(blocks) + "\n"


def _opening(report: dict[str, Any]) -> list[str]:
    judged = f"Proven by a gate: **{' and '.join(map(_text, proven(report))) or 'nothing'}**"
    reason = f" ({_text(report['proven_reason'])})" if report.get("proven_reason") else ""
    return [
        f"Bundle `{_code(report.get('bundle', 'unknown'))}`. {judged}{reason}.",
        "Markets are nearly unpredictable: we never claim skill we did not measure. Brackets hold 95 % intervals; a "
        "ratio below 1 beats the baseline."
        + (" Some of the candles behind the figures may have trained it." if report.get("by_sample") else ""),
    ]


def _candles(report: dict[str, Any]) -> Iterable[str]:
    symbols = report.get("symbols") or []
    if symbols:
        yield f"- {len(symbols)} symbol{'s' if len(symbols) > 1 else ''}: {_names(symbols)}"
    exchange = (report.get("options") or {}).get("exchange")
    if exchange:
        yield f"- Exchange: {_text(exchange)}"
    if report.get("timeframe"):
        yield f"- Candles of {_text(report['timeframe'])}" + (
            f", forecasting {_text(report['horizon_bars'])} candles ahead" if report.get("horizon_bars") else ""
        )
    uses = {"train": "to fit it", "validation": "to stop and calibrate it", "test": "to measure it, never to choose it"}
    for part in parts(report):
        use = uses.get(part.name, part.name)
        yield f"- {part.rows:,} rows {_text(use)}, closes from {part.first} to {part.last} (UTC)"
    for symbol, reason in list((report.get("left_out") or {}).items())[:MAX_NAMES]:
        yield f"- Left out: {_text(symbol)} ({_text(reason)})"


def _good_at(report: dict[str, Any]) -> Iterable[str]:
    doubted = doubts(report)
    if doubted:
        yield "Nothing is claimed until this is explained, however good the figures look:"
        yield ""
        yield from (f"- {_text(doubt)}" for doubt in doubted)
        return
    heads = HEADS if "direction" in proven(report) else HEADS_BUT_DIRECTION
    claims = _by_rival(report, "better", "better than", heads)
    yield from claims or ["Nothing that its intervals would bear out."]


def _not_good_at(report: dict[str, Any]) -> Iterable[str]:
    yield from _no_direction(report)
    yield from _by_rival(report, "worse", "worse than", HEADS_BUT_DIRECTION)
    yield from _by_rival(report, "undecided", "not surely better than", HEADS_BUT_DIRECTION)
    yield from _by_rival(report, "unsure", "not to be compared, for want of an interval, with", HEADS_BUT_DIRECTION)
    yield from _weak_cells("symbols", (report.get("by_symbol") or {}).items())
    yield from _weak_cells("hours (UTC)", ((f"{cell['hour']:02d}", cell) for cell in report.get("by_hour") or ()))
    cells = report.get("by_volatility") or ()
    yield from _weak_cells("regimes of volatility", ((cell["regime"], cell) for cell in cells))
    yield "- Profit: none is claimed. No figure here knows costs, slippage or what a trade would have earned."


def _by_rival(report: dict[str, Any], judged: Judgement, clause: str, heads: Mapping[str, str]) -> list[str]:
    """One line a head and rival: the figures that are judged so."""
    lines: dict[tuple[str, str], list[str]] = {}
    for meaning, figure in known(report):
        if meaning.rival and meaning.section in heads and judge(meaning, figure) == judged:
            unit = "AUC" if meaning.kind == "chance" else f"{_score(meaning.score)} {meaning.kind}"
            found = lines.setdefault((meaning.section, meaning.rival), [])
            found.append(f"{unit} {shown(meaning, figure)}")
    return [f"- {heads[head]}, {clause} {_text(rival)}: {', '.join(found)}" for (head, rival), found in lines.items()]


def _score(name: str) -> str:
    return name if name[1:2].isupper() else name.lower()


def _no_direction(report: dict[str, Any]) -> Iterable[str]:
    if "direction" in proven(report):
        return
    auc = (report.get("direction") or {}).get("auc")
    measured = f": AUC {in_brackets(auc)}, where a coin gets 0.5" if auc else ""
    yield f"- Direction: no useful direction has been proven{measured}. Do not trade on `probability_up`."


def _weak_cells(what: str, cells: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterable[str]:
    """Cells whose range ratio to HAR is not surely below 1."""
    found = [(name, (cell.get("range") or {}).get("crps_vs_har")) for name, cell in cells]
    measured = [(name, figure) for name, figure in found if figure and figure.get("value") is not None]
    weak = [name for name, figure in measured if judge(RANGE_VS_HAR, figure) != "better"]
    if weak:
        yield f"- Does not surely beat HAR on the range in {len(weak)} of {len(measured)} {what}: {_names(weak)}"


def _calibrated(report: dict[str, Any]) -> Iterable[str]:
    for meaning, figure in known(report):
        if meaning.nominal is not None:
            yield (
                f"- {meaning.section.capitalize()}: intervals meant to hold {100 * meaning.nominal:.0f} % of all "
                f"outcomes held {shown(meaning, figure)}, {verdict(meaning, figure)}."
            )
    ece = (report.get("direction") or {}).get("ece")
    if ece:
        yield f"- Direction: stated probabilities lie {in_brackets(ece)} from what came, on average."
    if report.get("range") or report.get("return"):
        yield "- No coverage is guaranteed: candles depend on each other, and markets change."


def _not_for(report: dict[str, Any]) -> Iterable[str]:
    timeframe = report.get("timeframe")
    yield f"- Candles of any other timeframe{f' than {_text(timeframe)}' if timeframe else ''}."
    yield "- Symbols and exchanges that it was not trained on: their signals are marked as proven in nothing."
    until = report.get("trained_until_ms")
    since = f" No candle after {utc_day(until)} has trained it; skill fades with age." if until is not None else ""
    yield f"- Regimes that its candles did not hold: crashes, new fees or tick sizes, thin or halted markets.{since}"
    yield from (f"- Measured beyond its training: {_text(one)}" for one in report.get("outside") or ())


def _reproduce(report: dict[str, Any]) -> Iterable[str]:
    options = report.get("options") or {}
    if not options or "training" not in report:
        return
    yield "The same candles, options, lock and type of CPU give the same bundle to the last bit:"
    yield ""
    yield "~~~"
    yield " \\\n    ".join(["candlewick train", *_flags(options)])
    yield "~~~"
    yield ""
    yield f"Seed {_text(options.get('seed', 'unknown'))}; it must give `{_code(report.get('bundle', 'unknown'))}`."


def _flags(options: Mapping[str, Any]) -> Iterable[str]:
    """The options as a command line; paths by their last name, since folders are nobody else's business."""
    yield from (f"--candles {_word(Path(path).name)}" for path in options.get("candles") or ())
    yield "--out DIR"
    for name, value in options.items():
        if name in {"candles", "out"} or value is None or value is False or value in ([], ""):
            continue
        flag = f"--{FLAGS.get(name, name).replace('_', '-')}"
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        yield flag if value is True else f"{flag} {_word(text)}"


def _names(names: Iterable[Any]) -> str:
    every = [_text(name) for name in names]
    more = f" and {len(every) - MAX_NAMES} more" if len(every) > MAX_NAMES else ""
    return ", ".join(every[:MAX_NAMES]) + more


def _text(value: Any) -> str:
    """Text as Markdown shows it: one line, no markup, no HTML."""
    line = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", line)


def _code(value: Any) -> str:
    return re.sub(r"[^0-9A-Za-z._-]", "?", str(value))


def _word(value: str) -> str:
    """One word of a command line, on one line, so that it can close no code block."""
    return shlex.quote(" ".join(value.split()))
