"""How seldom the detectors cry wolf, and how soon they see a crash: real candles, five bundles a period.

Enters: the real candles beside the checkout. Leaves: figures. Does not know: Kafka. The candles go through the code
that trains, serves and decides, without a broker.

Training takes most of the time. Bundles are kept in the folder for temporary files, under a name that changes with the
code that trains, so a second run is much shorter.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import training
from benchmarks.figures import Figure, spread
from benchmarks.watched import Watched, pooled_scores, watch
from benchmarks.workload import Size
from models.bundle import load
from models.candle_files import read_candles
from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.injection import Injection, inject
from training.command import TrainOptions, train
from training.split import Fractions

logger = logging.getLogger(__name__)

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
KEPT = Path(tempfile.gettempdir()) / "candlewick-drift-bundles"
COMMAND = "python -m benchmarks drift --json"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TRAINERS = (
    *("adamw", "assemble", "baselines", "calibrate", "chunks", "dataset", "likelihood", "log_odds", "loss", "member"),
    *("split", "train"),
)
"""Modules of `training` that a bundle comes out of."""
PHASES = tuple(range(0, 32, 4))
"""Closes by which a watch begins later: ADWIN looks only at every 32nd, and luck should not make a figure."""


@dataclass(frozen=True)
class Period:
    """What is trained on, and what is watched afterwards. Times are UTC ms."""

    files: str  # pattern under the folder of real candles
    train_until_ms: int
    watch_from_ms: int
    watch_until_ms: int
    change_ms: int  # when the market, or we, changed it; calm: the end
    injected: bool = False
    epochs: int = 20


_MAY_18, _JUNE_3 = 1_747_526_400_000, 1_748_964_660_000
CALM = Period("binance_usdm_1m_2025/*.csv.xz", _MAY_18, _MAY_18, _JUNE_3, _JUNE_3)
INJECTED = replace(CALM, watch_until_ms=_MAY_18 + 4 * DAY_MS, change_ms=_MAY_18 + 3 * DAY_MS, injected=True)
CRASH_2020 = Period(  # trained until 10 March, the crash is on the 12th at 10:00
    "binance_spot_1m/*2020covid.csv.xz", 1_583_798_400_000, 1_583_798_400_000, 1_584_180_000_000, 1_584_007_200_000
)
CRASH_2024 = Period(  # trained until 6 July, watched from 22 July, the crash is on 5 August at 00:00
    "binance_spot_5m_2024/*.csv.xz", 1_720_224_000_000, 1_721_606_400_000, 1_722_988_800_000, 1_722_816_000_000
)


@dataclass(frozen=True)
class Study:
    """How much of it."""

    seeds: int = 5
    phases: Sequence[int] = PHASES
    periods: Sequence[Period] = (CALM, INJECTED, CRASH_2020, CRASH_2024)
    data: Path = DATA
    kept: Path = KEPT
    code: str = ""  # hash of what trains; none: as it is when the study begins


async def run(_size: Size) -> list[Figure]:
    """The sizes of the other benchmarks mean nothing here."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        return measure(Study(), pool)


def measure(study: Study, pool: Executor) -> list[Figure]:
    """Train, watch, and say the figures of the four periods, in their order.

    Raises:
        CandlewickError: the real candles are not there.
    """
    study = replace(study, code=study.code or _code())
    tasks = [(period, seed, study) for seed in range(study.seeds) for period in study.periods]
    bundles = {_folder(*task): task for task in tasks}
    list(pool.map(_bundle, bundles.values()))  # first, so that no two processes train the same
    watched = list(pool.map(_watched, tasks))
    calm, injected, crash_2020, crash_2024 = (
        [one for (period, _, _), runs in zip(tasks, watched, strict=True) if period == wanted for one in runs]
        for wanted in study.periods
    )
    changes = [period.change_ms for period in study.periods]
    return [
        _alarms(calm),
        _delay("drift.hours_2020", crash_2020, changes[2], HOUR_MS, "2020-03-12 10:00, BTC and ETH, 1m"),
        _delay("drift.hours_2024", crash_2024, changes[3], HOUR_MS, "2024-08-05 00:00, ten symbols, 5m"),
        _delay("drift.injected_minutes", injected, changes[1], 60_000, "moves x5 in minutes 0-9 of every hour, 1m"),
    ]


def _alarms(runs: Sequence[Watched]) -> Figure:
    closes, per_10k = sum(run.closes for run in runs), 1e4 / sum(run.closes for run in runs)
    said = Counter(f"{alarm.level} {alarm.detector}" for run in runs for alarm in run.alarms)
    rates = ", ".join(f"{name} {count * per_10k:.2f}" for name, count in sorted(said.items())) or "nothing at all"
    text = f"jobs that alarms led to, {len(runs)} watches, {closes:,} calm closes in all; said per 10k: {rates}"
    return Figure("drift.alarms_per_10k", sum(len(run.jobs) for run in runs) * per_10k, "per 10k", text, COMMAND)


def _delay(name: str, runs: Sequence[Watched], change_ms: int, unit_ms: int, what: str) -> Figure:
    """Median time to the first alarm; a watch that saw none counts with all the time that it had."""
    delays = [min((ms for ms in run.drifts() if ms >= change_ms), default=run.until_ms) - change_ms for run in runs]
    unseen = sum(not any(ms >= change_ms for ms in run.drifts()) for run in runs)
    before = sum(ms < change_ms for run in runs for ms in run.drifts())
    text = f"{what}: {spread([delay / unit_ms for delay in delays])}, {unseen} saw nothing, {before} alarms before"
    return Figure(name, median(delays) / unit_ms, "min" if unit_ms == 60_000 else "h", text, COMMAND)


def _bundle(task: tuple[Period, int, Study]) -> Path:
    """The bundle of a period and seed, trained unless it is kept."""
    period, seed, study = task
    files = sorted(study.data.glob(period.files))
    if not files:
        raise CandlewickError(f"no {period.files} under {study.data}: the real candles are needed beside the checkout")
    folder = _folder(*task)
    kept = list(folder.glob("*.safetensors"))
    if kept:
        return kept[0]
    logger.warning("training until_ms=%d seed=%d", period.train_until_ms, seed)
    options = TrainOptions(
        files,
        folder,
        train_until_ms=period.train_until_ms,
        epochs=period.epochs,
        seed=seed,
        fractions=Fractions(0.70, 0.15, 0.15),
        validate="newest",
        members=1,
        report="brief",
    )
    return train(options)


def _folder(period: Period, seed: int, study: Study) -> Path:
    """Where a bundle is kept: named by all that it comes out of."""
    trained_by = f"{study.code} {period.files} {period.train_until_ms} {period.epochs} {seed}"
    return study.kept / hashlib.sha256(trained_by.encode()).hexdigest()[:16]


def _code() -> str:
    folder = Path(training.__file__).parent
    return hashlib.sha256(b"".join((folder / f"{module}.py").read_bytes() for module in TRAINERS)).hexdigest()


def _watched(task: tuple[Period, int, Study]) -> list[Watched]:
    """One watch a phase."""
    period, _, study = task
    bundle = load(_bundle(task))
    table = _table(period, study)
    pooled = pooled_scores(bundle, table, period.watch_from_ms)
    return [watch(pooled[phase:], period.train_until_ms, table.timeframe_ms) for phase in study.phases]


def _table(period: Period, study: Study) -> CandleTable:
    table = read_candles(sorted(study.data.glob(period.files))).until(period.watch_until_ms)
    return inject(table, Injection(period.change_ms)) if period.injected else table
