"""What a backfill got and what the exchange does not have, for a person and for a script.

Enters: spans and counts of each symbol. Leaves: JSON or words. Does not know: where the candles came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.kline import Span
from streaming.history.dates import in_words
from streaming.history.spans import slots

MOST_SPANS = 1_000
"""Told of a symbol in JSON; the longest ones. The counts are complete."""
MOST_SPANS_IN_WORDS = 5


@dataclass
class Filled:
    """What became of one symbol."""

    symbol: str
    wanted: Span
    timeframe_ms: int
    held: int = 0  # candles that the dataset had before
    new: int = 0
    unusable: int = 0
    absent: list[Span] = field(default_factory=list)  # agreed by two reads
    done: bool = False

    @property
    def expected(self) -> int:
        """Bars that there could be."""
        return slots(self.wanted, self.timeframe_ms)

    @property
    def before_listing(self) -> Span | None:
        """Bars before the exchange's first one."""
        begins = self.absent and self.absent[0].first_ms == self.wanted.first_ms
        return self.absent[0] if begins and self.held + self.new else None

    @property
    def gaps(self) -> list[Span]:
        """What is absent after the first candle."""
        return self.absent[1:] if self.before_listing else self.absent

    def report(self) -> dict[str, Any]:
        """As JSON takes it; times are open times in UTC milliseconds, both ends included."""
        listing, gaps = self.before_listing, self.gaps
        before = slots(listing, self.timeframe_ms) if listing else 0
        told = sorted(
            sorted(gaps, key=lambda span: span.first_ms - span.last_ms)[:MOST_SPANS], key=lambda s: s.first_ms
        )
        return {
            "expected": self.expected - before,
            "rows": self.held + self.new,
            "held": self.held,
            "new": self.new,
            "absent": sum(slots(span, self.timeframe_ms) for span in gaps),
            "unusable": self.unusable,
            "first_open_ms": listing.last_ms + self.timeframe_ms if listing else self.wanted.first_ms,
            "listed_later": listing is not None,
            "absent_spans": [
                {"first_ms": s.first_ms, "last_ms": s.last_ms, "bars": slots(s, self.timeframe_ms)} for s in told
            ],
            "absent_spans_in_all": len(gaps),
            "complete": self.done,
        }


def gap_report(exchange: str, timeframe: str, wanted: Span, filled: Sequence[Filled]) -> dict[str, Any]:
    """The whole of it: `symbols` and `totals`; `complete` says that nothing was left to ask for."""
    symbols = {own.symbol: own.report() for own in filled}
    names = ("expected", "rows", "held", "new", "absent", "unusable")
    return {
        "exchange": exchange,
        "timeframe": timeframe,
        "first_ms": wanted.first_ms,
        "last_ms": wanted.last_ms,
        "symbols": symbols,
        "totals": {name: sum(own[name] for own in symbols.values()) for name in names},
        "complete": all(own.done for own in filled),
    }


def report_in_words(report: dict[str, Any]) -> str:
    """The same for a person: a line a symbol, what is absent below it, and the sum."""
    lines = [line for symbol, own in report["symbols"].items() for line in _symbol_in_words(symbol, own, report)]
    totals = report["totals"]
    lines.append(
        f"{totals['new']:,} new candles of {len(report['symbols'])} series of {report['exchange']} "
        f"{report['timeframe']}; the dataset has {totals['rows']:,} of {totals['expected']:,}, "
        f"{totals['absent']:,} absent at the exchange"
        + ("" if report["complete"] else "; NOT COMPLETE: the same command goes on from here")
    )
    return "\n".join(lines)


def _symbol_in_words(symbol: str, own: dict[str, Any], report: dict[str, Any]) -> list[str]:
    since = f"{in_words(own['first_open_ms'])} to {in_words(report['last_ms'])}"
    lines = [f"{symbol}: {own['rows']:,} of {own['expected']:,} candles, {own['new']:,} of them new, {since}"]
    if own["listed_later"]:
        lines.append("  the exchange has none before")
    spans = sorted(own["absent_spans"], key=lambda span: -span["bars"])
    for span in spans[:MOST_SPANS_IN_WORDS]:
        lines.append(f"  {span['bars']:,} absent from {in_words(span['first_ms'])} to {in_words(span['last_ms'])}")
    if own["absent_spans_in_all"] > MOST_SPANS_IN_WORDS:
        lines.append(f"  and {own['absent_spans_in_all'] - MOST_SPANS_IN_WORDS:,} shorter spans")
    if own["unusable"]:
        lines.append(f"  {own['unusable']:,} bars of the exchange could not be used")
    if not own["complete"]:
        lines.append("  not complete")
    return lines
