"""The tour: embedded Kafka, a first bundle, live signals, a second one swapped in between two candles, the reckoning.

Enters: nothing but the sample. Leaves: a summary whose counts come from the topics. Does not know: any shortcut; every
step is what a user would do.
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

from models.bundle import load as load_bundle
from models.candle_table import CandleTable
from streaming.audit import Audit, audit
from streaming.clients import new_admin, started
from streaming.live import Source, load
from streaming.models_topic import activate, publish
from streaming.read import read_topic
from streaming.replay import FollowCommits, Progress, replay
from streaming.scoreboard import Scoreboard
from streaming.scrape import Scrape, free_port, scrape
from streaming.settings import KafkaSettings, PredictSettings, Settings
from streaming.trainer import train
from streaming.up import System, up
from streaming.view import Scene, draw

SAMPLE = Path(__file__).parent / "sample"
DAY_MS = 86_400_000
FIRST_UNTIL_DAYS, SECOND_UNTIL_DAYS, ALL_DAYS = 8, 11, 14
EPOCHS = 20
COMMIT_INTERVAL_S = 0.1
"""The clock waits for commits: at half a second it would stand still most of the time."""
REFRESH_S = 0.25


@dataclass
class Tour:
    """What the steps of the demo share."""

    settings: Settings
    folder: Path
    table: CandleTable
    scene: Scene
    board: Scoreboard
    quiet: bool  # no screen: chapters go to stderr
    gate: FollowCommits | None = None
    served_s: float = 0.0  # replay running, training and judging left out
    readings: Scrape = field(default_factory=Scrape)

    @property
    def begin_ms(self) -> int:
        """Open time of the first candle."""
        return int(self.table.open_time_ms[0])

    def chapter(self, text: str) -> None:
        """Say what happens now."""
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
    ok = not summary["signals_missing"] and summary["signals"] > 0 and summary["activations"] == 2
    sys.stdout.write((json.dumps(summary) if as_json else _in_words(summary, ok)) + "\n")
    return ok


def _own(settings: Settings, folder: Path) -> Settings:
    """The demo has a Kafka and topics of its own, whatever else is set."""
    return settings.model_copy(
        update={
            "kafka": KafkaSettings(),
            "predict": PredictSettings(commit_interval_s=COMMIT_INTERVAL_S),
            "data_dir": folder,
            "metrics_port": free_port(),
        }
    )


def _tour(settings: Settings, folder: Path, quiet: bool) -> Tour:
    table = load(Source([SAMPLE]))
    scene = Scene(begin_ms=int(table.open_time_ms[0]), end_ms=int(table.close_time_ms[-1]))
    return Tour(settings, folder, table, scene, Scoreboard(), quiet)


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
    tour.chapter("starting Kafka and the role predict")
    async with up(tour.settings) as system, AsyncExitStack() as stack:
        tour.settings = system.settings
        first = await _trained(tour, "first", FIRST_UNTIL_DAYS)
        await system.ready()
        await stack.enter_async_context(_watched(tour))
        await _serve(tour, first, "the first bundle serves from where its training ended")
        admin = await stack.enter_async_context(started(new_admin(tour.settings)))
        tour.gate = FollowCommits(tour.settings, admin, tour.settings.group("predict"))
        await _replayed(tour, system, None, FIRST_UNTIL_DAYS, f"replaying days 1 to {FIRST_UNTIL_DAYS} to warm up")
        await _replayed(tour, system, speed, SECOND_UNTIL_DAYS, "replaying on with the first bundle")
        second = await _trained(tour, "second", SECOND_UNTIL_DAYS)
        await _serve(tour, second, "swapping in the second bundle between two candles")
        await _replayed(tour, system, speed, ALL_DAYS, "replaying on with the second bundle")
        tour.chapter("counting from the topics what should be there and what is")
        found = await _audited(tour)
        letters = [letter async for letter in read_topic(tour.settings, "dead-letters")]
        tour.readings = await scrape(tour.settings.metrics_port)
        tour.chapter("done")
        return _summary(tour, found, len(letters))


async def _trained(tour: Tour, which: str, until_days: int) -> Path:
    """A bundle from the candles up to a day; meanwhile the replay stands still."""
    tour.chapter(f"training the {which} bundle on days 1 to {until_days}; the replay stands still")
    tour.scene.training = (0, EPOCHS, "reading candles")

    def report(progress: dict[str, Any]) -> None:
        text = f"epoch {progress['epoch']} of {progress['of']}, {progress['eta_s']:.0f} s left"
        tour.scene.training = (int(progress["epoch"]), int(progress["of"]), text)

    options = ["--candles", str(SAMPLE), "--until", str(tour.begin_ms + until_days * DAY_MS), "--epochs", str(EPOCHS)]
    try:
        return await train(options, tour.folder / "bundles" / which, report)
    finally:
        tour.scene.training = None


async def _serve(tour: Tour, file: Path, chapter: str) -> None:
    tour.chapter(chapter)
    bundle = load_bundle(file)
    tour.board.specs[bundle.sha256] = bundle.spec
    sha256, _ = await publish(tour.settings, file.read_bytes())
    epoch, _ = await activate(tour.settings, sha256, "forced: the demo, which has no gate yet")
    tour.scene.bundle, tour.scene.epoch = sha256[:12], epoch


async def _replayed(tour: Tour, system: System, speed: float | None, until_days: int, chapter: str) -> None:
    tour.chapter(chapter)
    began = time.monotonic()

    def report(progress: Progress) -> None:
        tour.scene.clock_ms = progress.last_close_ms

    part = tour.table.until(tour.begin_ms + until_days * DAY_MS)
    assert tour.gate is not None  # noqa: S101 - made before the first replay
    await system.or_fail(replay(tour.settings, part, speed, tour.gate, report))
    await system.or_fail(tour.gate.caught_up())
    tour.served_s += time.monotonic() - began


async def _audited(tour: Tour) -> Audit:
    """In a thread, since it works hard and the screen goes on."""
    return await asyncio.to_thread(lambda: asyncio.run(audit(tour.settings)))


@asynccontextmanager
async def _watched(tour: Tour) -> AsyncIterator[None]:
    """Keep the scene up to date from the topics and the role's metrics."""
    tasks = [asyncio.create_task(tour.board.follow(tour.settings)), asyncio.create_task(_refresh_scene(tour))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _refresh_scene(tour: Tour) -> None:
    while True:
        tour.readings = await scrape(tour.settings.metrics_port)
        scene, board = tour.scene, tour.board
        scene.candles, scene.signals, scene.signals_per_s = board.candles, board.signals, board.signals_per_s()
        scene.skill, scene.last = board.skill, board.last()
        scene.batch_candles = _quantiles(tour.readings, "candlewick_batch_candles", 1, "")
        scene.latency = _quantiles(tour.readings, "candlewick_batch_seconds", 1_000, " ms")
        await asyncio.sleep(REFRESH_S)


def _quantiles(readings: Scrape, name: str, scale: float, unit: str) -> str:
    bounds = (readings.quantile(name, 0.5), readings.quantile(name, 0.99))
    return " / ".join("-" if bound is None else f"<= {bound * scale:,.6g}{unit}" for bound in bounds)


def _summary(tour: Tour, found: Audit, dead_letters: int) -> dict[str, Any]:
    return {
        "candles": found.candles,
        "signals": found.signals,
        "signals_missing": found.missing + found.wrong + found.wrong_bundle + found.unexpected,
        "duplicates": found.duplicates,
        "withheld": found.withheld,
        "dead_letters": dead_letters,
        "activations": len(tour.board.specs),
        "late_switches": int(tour.readings.totals.get("candlewick_late_switches_total", 0)),
        "signals_per_s": round(found.signals / tour.served_s) if tour.served_s else 0,
        "skill": tour.board.skill.as_dict()
        | {"by_bundle": {sha256[:12]: skill.as_dict() for sha256, skill in tour.board.skill_by_bundle.items()}},
    }


def _in_words(summary: dict[str, Any], ok: bool) -> str:
    skill = summary["skill"]
    withheld = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in summary["withheld"].items())
    return f"""
{summary["candles"]:,} candles became {summary["signals"]:,} signals in {summary["seconds"]:.0f} s, training included.
Counted again from the topics: {summary["signals_missing"]} missing or wrong, {summary["duplicates"]} duplicates, \
{summary["dead_letters"]} dead letters, {summary["late_switches"]} late switches.
Withheld on purpose: {withheld or "none"}.
Two bundles served; every signal names the one that made it.

What it is good for: the range of the next 3 minutes. On {skill["scored"]:,} signals its CRPS was
{skill["range_crps_vs_har"]} of a HAR model's and {skill["range_crps_vs_vol60"]} of a constant's (below 1 is better).
The 80 % interval of the range held {skill["range_coverage80"]:.1%} of the time, that of the price \
{skill["return_coverage80"]:.1%}.
What it is not good for: the direction. Nothing is proven there, and no signal claims it.
{"All is well." if ok else "SOMETHING IS WRONG: see the counts above."}"""
