"""The live terminal view: what a running system does, on one screen.

Enters: a `Scene`. Leaves: something rich can draw. Does not know: where the numbers come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.align import Align
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from models.events import Signal
from models.scoring import COVERAGE
from streaming.scoreboard import RECENT_CLOSES, Recent, Skill

SKILL_ROWS = (
    ("range CRPS / HAR", "range_crps_vs_har", 1.0),
    ("range CRPS / constant", "range_crps_vs_vol60", 1.0),
    ("return CRPS / baseline", "return_crps_vs_baseline", 1.0),
    ("80 % range interval holds", "range_coverage80", None),
    ("80 % return interval holds", "return_coverage80", None),
)
"""Label, key of `Skill.as_dict`, and the line under which the ratio beats its baseline."""
LOOP_LINES = 6
BAND = 0.1
"""Coverage of so few closes swings by itself; further from nominal it is shown in red."""


@dataclass
class Scene:
    """Everything on the screen."""

    chapter: str = "starting"  # what happens now, in words
    clock_ms: int = 0  # of the replayed world
    begin_ms: int = 0
    end_ms: int = 0
    injected: bool = False  # the candles replayed now are made up
    candles: int = 0
    signals: int = 0
    outcomes: int = 0
    signals_per_s: float = 0.0
    batch_candles: str = "-"
    latency: str = "-"
    bundle: str = "none yet"
    epoch: int | None = None
    training: tuple[int, int, str] | None = None  # epoch, of how many, and how it stands
    skill: Skill = field(default_factory=Skill)
    recent: Recent = field(default_factory=Recent)
    loop: Sequence[str] = ()  # what drift, jobs and the gate said last, the newest at the end
    last: Sequence[Signal] = ()


def draw(scene: Scene) -> RenderableType:
    """One screen."""
    top = Table.grid(expand=True, padding=(0, 1))
    top.add_column(ratio=1)
    top.add_column(ratio=1)
    top.add_row(_flow(scene), _skill(scene))
    return Panel(
        Group(_clock(scene), _market(scene), top, _loop(scene.loop), _signals(scene.last)),
        title="[b]candlewick[/b]  real candles, real Kafka, honest signals",
        subtitle="Ctrl-C stops everything and leaves nothing behind",
        border_style="cyan",
    )


def _clock(scene: Scene) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(ratio=2)
    line.add_column(ratio=3)
    line.add_column(justify="right")
    if scene.training:
        done, total, text = scene.training
        line.add_row(Text(scene.chapter, style="bold yellow"), ProgressBar(total=total, completed=done), text)
        return line
    span, done_ms = max(scene.end_ms - scene.begin_ms, 1), max(scene.clock_ms - scene.begin_ms, 0)
    now = f"{datetime.fromtimestamp(scene.clock_ms / 1000, UTC):%Y-%m-%d %H:%M}Z" if scene.clock_ms else ""
    line.add_row(Text(scene.chapter, style="bold green"), ProgressBar(total=span, completed=min(done_ms, span)), now)
    return line


def _market(scene: Scene) -> RenderableType:
    if not scene.injected:
        return Text()
    text = "INJECTED: from here on the demo moves prices five times as far in minutes 0-9 of every hour"
    return Text(text, style="bold white on red")


def _flow(scene: Scene) -> RenderableType:
    table = Table(box=None, show_header=False, title="flow", title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_row("candles", f"{scene.candles:,}")
    table.add_row("signals", f"{scene.signals:,}  ({scene.signals_per_s:,.0f}/s)")
    table.add_row("outcomes", f"{scene.outcomes:,}")
    table.add_row("candles a batch p50 / p99", scene.batch_candles)
    table.add_row("batch to acknowledged p50 / p99", scene.latency)
    table.add_row("bundle", scene.bundle)
    table.add_row("epoch", "-" if scene.epoch is None else str(scene.epoch))
    return table


def _skill(scene: Scene) -> RenderableType:
    skill = scene.skill
    table = Table(box=None, show_header=False, title="so far, measured", title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column(justify="right")
    figures = skill.as_dict()
    for label, key, line in SKILL_ROWS:
        value = figures[key]
        if value is None:
            table.add_row(label, "-")
        elif line is None:
            table.add_row(label, f"{value:.1%}")
        else:
            table.add_row(label, Text(f"{value:.3f}", style="green" if value < line else "red"))
    table.add_row("signals scored", f"{skill.scored:,}")
    for label, coverage in zip(("range", "return"), scene.recent, strict=True):
        shown = Text("-") if coverage is None else Text(f"{coverage:.1%}", style=_coverage_style(coverage))
        table.add_row(f"the same, last {RECENT_CLOSES} closes ({label})", shown)
    return table


def _coverage_style(coverage: float) -> str:
    return "green" if abs(coverage - COVERAGE) <= BAND else "bold red"


def _loop(said: Sequence[str]) -> RenderableType:
    lines = list(said[-LOOP_LINES:]) or ["no drift, no job: nothing has been asked of the trainer"]
    lines += [""] * (LOOP_LINES - len(lines))
    return Group(Text("the loop", style="bold"), *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def _signals(last: Sequence[Signal]) -> RenderableType:
    if not last:
        return Align.center(Text("no signal yet: a bundle speaks on closes after its training", style="dim"))
    table = Table(expand=True, box=None, title="newest signal of each series", title_justify="left", title_style="bold")
    for name in (
        "close (UTC)",
        "symbol",
        "price",
        "range ahead",
        "80 % interval",
        "P(up)",
        "proven",
        "bundle",
        "epoch",
    ):
        table.add_column(name, justify="left" if name in ("close (UTC)", "symbol") else "right", no_wrap=True)
    for signal in last:
        table.add_row(
            f"{datetime.fromtimestamp(signal.close_time_ms / 1000, UTC):%m-%d %H:%M}",
            signal.symbol,
            f"{signal.close:.6g}",
            f"{signal.expected_range_bps:.1f} bps",
            f"{signal.interval_low:.6g} .. {signal.interval_high:.6g}",
            f"{signal.probability_up:.3f}",
            "+".join(signal.proven) or "none",
            signal.bundle[:8],
            "-" if signal.epoch is None else str(signal.epoch),
        )
    return table
