"""The tour: a first bundle, live signals, a changed market, the alarm, a challenger, the gate, a swap, a reckoning.

Enters: nothing but the sample. Leaves: a summary whose counts come from the topics. Does not know: any shortcut; every
step is what a user would do, and what the roles do they do by themselves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from models.candle_table import CandleTable
from models.injection import Injection, inject
from streaming.audit import Audit, audit
from streaming.clients import new_admin, started
from streaming.demo_summary import Counted, all_is_well, in_words, loop_lines, summarise, training_of
from streaming.job_feed import Jobs, Pooled, following
from streaming.live import Source, load
from streaming.models_topic import activate, publish
from streaming.read import read_topic
from streaming.replay import Progress, replay
from streaming.replay_clock import ReplayClock
from streaming.scoreboard import Scoreboard
from streaming.scrape import Scrape, free_ports, scrape
from streaming.settings import (
    DriftSettings,
    KafkaSettings,
    MonitorSettings,
    PredictSettings,
    Settings,
    TrainSettings,
)
from streaming.trainer import train
from streaming.up import ROLES, System, up
from streaming.view import Scene, draw

SAMPLE = Path(__file__).parent / "sample"
DAY_MS = 86_400_000
TRAINED_DAYS, CALM_DAYS, ALL_DAYS = 8, 10, 14
"""The first bundle is trained on the first days; from the eleventh on the market is another."""
EPOCHS = 20
COMMIT_INTERVAL_S = 0.1
"""The clock waits for commits: at half a second it would stand still most of the time."""
REFRESH_S = 0.25
LATE_SWITCHES, LAST_SCRAPES = "candlewick_late_switches_total", 20


@dataclass
class Tour:
    """What the steps of the demo share."""

    settings: Settings
    folder: Path
    table: CandleTable
    scene: Scene
    board: Scoreboard
    quiet: bool  # no screen: chapters go to stderr
    jobs: Jobs = field(default_factory=Jobs)
    pooled: Pooled = field(default_factory=Pooled)
    clock: ReplayClock | None = None
    story: str = ""  # the chapter, while nothing holds the clock
    training: tuple[int, int, str] | None = None  # of the first bundle: epoch, of how many, and how it stands
    replayed: int = 0  # candles of earlier replays
    served_s: float = 0.0  # replay running, training and judging left out
    readings: Scrape = field(default_factory=Scrape)

    @property
    def begin_ms(self) -> int:
        """Open time of the first candle."""
        return int(self.table.open_time_ms[0])

    def chapter(self, text: str) -> None:
        """Say what happens now."""
        self.story = text
        self._show(text)

    def held(self, reason: str | None) -> None:
        """The clock stands still, or goes again."""
        self._show(reason or self.story)

    def _show(self, text: str) -> None:
        if text == self.scene.chapter:
            return
        self.scene.chapter = text
        if self.quiet:
            sys.stderr.write(text + "\n")


async def run_demo(settings: Settings, speed: float | None, keep: Path | None, as_json: bool) -> bool:
    """Run the whole tour; True when nothing was missing or wrong."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="candlewick-demo-") if keep is None else nullcontext(str(keep)) as name:
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        _log_to(folder / "demo.log")
        console = Console(stderr=as_json)
        tour = _tour(_own(settings, folder), folder, quiet=as_json or not console.is_terminal)
        summary = await _screened(tour, console, speed)
    summary["seconds"] = round(time.monotonic() - began, 1)
    ok = all_is_well(summary)
    sys.stdout.write((json.dumps(summary) if as_json else in_words(summary)) + "\n")
    return ok


def _own(settings: Settings, folder: Path) -> Settings:
    """The demo has a Kafka and topics of its own, whatever else is set."""
    return settings.model_copy(
        update={
            "kafka": KafkaSettings(),
            "predict": PredictSettings(commit_interval_s=COMMIT_INTERVAL_S),
            "monitor": MonitorSettings(commit_interval_s=COMMIT_INTERVAL_S),
            # Twelve hours of the new market train: with nine, one challenger in three is refused. A refused one is
            # followed by a fresh one at once, and age alone asks for none.
            "drift": DriftSettings(min_new_bars=720, cool_down_hours=1, attempts=3, retrain_after_days=0),
            "train": TrainSettings(epochs=EPOCHS),
            "data_dir": folder,
            "metrics_port": free_ports(len(ROLES)),
        }
    )


def _tour(settings: Settings, folder: Path, quiet: bool) -> Tour:
    real = load(Source([SAMPLE]))
    changed = inject(real, Injection(from_ms=int(real.open_time_ms[0]) + CALM_DAYS * DAY_MS))
    scene = Scene(begin_ms=int(real.open_time_ms[0]), end_ms=int(real.close_time_ms[-1]))
    return Tour(settings, folder, changed, scene, Scoreboard(), quiet)


def _log_to(file: Path) -> None:
    """The screen belongs to the view; what libraries say goes to a file."""
    logging.basicConfig(filename=file, level=logging.INFO, force=True)


async def _screened(tour: Tour, console: Console, speed: float | None) -> dict[str, Any]:
    if tour.quiet:
        return await _steps(tour, speed)
    with Live(draw(tour.scene), console=console, screen=False, auto_refresh=False) as live:

        async def refresh() -> None:
            while True:
                live.update(draw(tour.scene), refresh=True)
                await asyncio.sleep(REFRESH_S)

        drawing = asyncio.create_task(refresh())
        try:
            return await _steps(tour, speed)
        finally:
            drawing.cancel()
            live.update(draw(tour.scene), refresh=True)


async def _steps(tour: Tour, speed: float | None) -> dict[str, Any]:
    tour.chapter("starting Kafka and the roles predict, monitor and train")
    async with up(tour.settings) as system, AsyncExitStack() as stack:
        tour.settings = system.settings
        first = await _trained(tour)
        await system.ready()
        await stack.enter_async_context(_watched(tour))
        await _serve(tour, first)
        admin = await stack.enter_async_context(started(new_admin(tour.settings)))
        tour.clock = ReplayClock(tour.settings, admin, tour.jobs, tour.pooled, tour.held)
        await _replayed(tour, system, None, TRAINED_DAYS, f"replaying days 1 to {TRAINED_DAYS} to warm up")
        await _replayed(tour, system, speed, CALM_DAYS, "replaying on with the first bundle")
        tour.scene.injected = True
        await _replayed(tour, system, speed, ALL_DAYS, "replaying on; the market has changed")
        tour.chapter("counting from the topics what should be there and what is")
        await system.or_fail(tour.clock.scored())
        found = await _audited(tour)
        letters = [letter async for letter in read_topic(tour.settings, "dead-letters")]
        late = await late_switches(tour.settings.metrics_port)
        tour.chapter("done")
        return summarise(Counted(found, len(letters), late, tour.served_s), tour.board, tour.jobs)


async def _trained(tour: Tour) -> Path:
    """The first bundle; all later ones the trainer makes by itself."""
    tour.chapter(f"training the first bundle on days 1 to {TRAINED_DAYS}")
    tour.training = (0, EPOCHS, "reading candles")

    def report(progress: dict[str, Any]) -> None:
        text = f"epoch {progress['epoch']} of {progress['of']}, {progress['eta_s']:.0f} s left"
        tour.training = (int(progress["epoch"]), int(progress["of"]), text)

    until_ms = tour.begin_ms + TRAINED_DAYS * DAY_MS
    options = ["--candles", str(SAMPLE), "--until", str(until_ms), "--epochs", str(EPOCHS)]
    # A week is short: most of it trains. What proves is the gate, on what comes later.
    options += ["--members", "1", "--split", "0.7,0.15,0.15", "--validate", "newest", "--report", "brief"]
    try:
        return await train(options, tour.folder / "bundles" / "first", report)
    finally:
        tour.training = None


async def _serve(tour: Tour, file: Path) -> None:
    tour.chapter("the first bundle serves from where its training ended")
    sha256, _ = await publish(tour.settings, file.read_bytes())
    await activate(tour.settings, sha256, "forced: the first bundle of the demo")


async def _replayed(tour: Tour, system: System, speed: float | None, until_days: int, chapter: str) -> None:
    tour.chapter(chapter)
    began = time.monotonic()

    def report(progress: Progress) -> None:
        tour.scene.clock_ms = progress.last_close_ms
        tour.scene.candles = progress.candles + tour.replayed

    part = tour.table.until(tour.begin_ms + until_days * DAY_MS)
    assert tour.clock is not None  # noqa: S101 - made before the first replay
    done = await system.or_fail(replay(tour.settings, part, speed, tour.clock, report))
    tour.replayed += done.candles
    await system.or_fail(tour.clock.caught_up())
    tour.served_s += time.monotonic() - began


async def late_switches(port: int) -> int | None:
    """What predict has counted; None when it does not say."""
    for _ in range(LAST_SCRAPES):
        totals = (await scrape(port)).totals
        if LATE_SWITCHES in totals:
            return int(totals[LATE_SWITCHES])
        await asyncio.sleep(REFRESH_S)
    return None


async def _audited(tour: Tour) -> Audit:
    """In a thread, since it works hard and the screen goes on."""
    return await asyncio.to_thread(lambda: asyncio.run(audit(tour.settings)))


@asynccontextmanager
async def _watched(tour: Tour) -> AsyncIterator[None]:
    """Keep the scene up to date from the topics and the role's metrics."""
    async with following(tour.settings, tour.board, tour.jobs, tour.pooled):
        drawing = asyncio.create_task(_refresh_scene(tour))
        try:
            yield
        finally:
            drawing.cancel()


async def _refresh_scene(tour: Tour) -> None:
    while True:
        tour.readings = await scrape(tour.settings.metrics_port)
        scene, board = tour.scene, tour.board
        scene.signals, scene.signals_per_s, scene.outcomes = board.signals, board.signals_per_s(), board.outcomes
        scene.skill, scene.recent, scene.last = board.skill, board.recent(), board.last()
        scene.training = tour.training or training_of(tour.jobs)
        if board.activations:
            newest = board.activations[-1]
            scene.bundle, scene.epoch = newest.activation.bundle[:12], newest.offset
        _tell(tour, loop_lines(board.drift, tour.jobs))
        scene.batch_candles = _quantiles(tour.readings, "candlewick_batch_candles", 1, "")
        scene.latency = _quantiles(tour.readings, "candlewick_batch_seconds", 1_000, " ms")
        await asyncio.sleep(REFRESH_S)


def _tell(tour: Tour, lines: list[str]) -> None:
    if tour.quiet:
        for line in lines:
            if line not in tour.scene.loop:
                sys.stderr.write(line + "\n")
    tour.scene.loop = lines


def _quantiles(readings: Scrape, name: str, scale: float, unit: str) -> str:
    bounds = (readings.quantile(name, 0.5), readings.quantile(name, 0.99))
    return " / ".join("-" if bound is None else f"<= {bound * scale:,.6g}{unit}" for bound in bounds)
