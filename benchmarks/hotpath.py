"""`hotpath`: what a candle costs on its way from Kafka to Kafka, beside the model alone and beside a stock Faust agent.

A backlog is worked off by a worker alone on its core; broker, load and observer share the other. Each round measures
all of it one after the other, and a figure is the median of its rounds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.cores import take_worker_core
from benchmarks.figures import Figure, spread
from benchmarks.rig import NULL_WORKER, PREDICT, Cost, Rig, Subject, rig
from benchmarks.stock_faust import OUT
from benchmarks.workload import Size, Workload
from models.errors import CandlewickError

COMMAND = "python -m benchmarks hotpath --json"
STOCK_SHARE = 50
"""The stock agent works off one candle in so many of those that ours does: it would take minutes."""
MODEL_SHARE = 4
"""The real model likewise: a quarter is ten seconds."""
BARE_S = 4.0


@dataclass
class Rounds:
    """Measured values, one a round; times in seconds a candle."""

    bare: list[float] = field(default_factory=list)
    whole: list[Cost] = field(default_factory=list)
    null_model: list[Cost] = field(default_factory=list)
    null_features: list[Cost] = field(default_factory=list)
    stock: list[Cost] = field(default_factory=list)
    rebuild_s: list[float] = field(default_factory=list)
    rebuild_cpu_s: list[float] = field(default_factory=list)


async def run(size: Size, bare_s: float = BARE_S) -> list[Figure]:
    """Measure everything; takes about four minutes at full size."""
    rounds = Rounds()
    closes = size.silent_closes + size.closes
    workload = Workload(size, closes)
    async with rig(workload, backlog=closes) as bench:
        bundle = bench.folder / "bundle.safetensors"
        bundle.write_bytes(workload.bundle())
        for _ in range(size.rounds):
            rounds.bare.append(await _bare(bundle, bare_s))
            await _measure(bench, rounds)
    return list(_figures(size, rounds))


async def _measure(bench: Rig, rounds: Rounds) -> None:
    size = bench.workload.size
    candles = size.series * size.closes
    rounds.whole.append(await _predict(bench, rounds, "predict", PREDICT, candles // MODEL_SHARE))
    rounds.null_model.append(await _predict(bench, rounds, "null-model", NULL_WORKER, candles))
    bare_bones = (*NULL_WORKER, "--null-features")
    rounds.null_features.append(await _predict(bench, rounds, "null-features", bare_bones, candles))
    stock = ("-m", "benchmarks.stock_faust", str(size.lookback_bars))
    before = await bench.acknowledged(OUT)
    async with bench.process("stock", stock) as subject:
        rounds.stock.append(await bench.cost(subject, OUT, before, candles // STOCK_SHARE))


async def _predict(bench: Rig, rounds: Rounds, name: str, arguments: tuple[str, ...], candles: int) -> Cost:
    """Start a worker that has all its memory to rebuild, and then watch it give so many signals."""
    await bench.rewind(bench.workload.size.silent_closes)
    before = await bench.acknowledged("signals")
    async with bench.process(name, arguments) as subject:
        await _rebuilt(subject, rounds if name == "predict" else Rounds())
        return await bench.cost(subject, "signals", before, candles)


async def _rebuilt(subject: Subject, rounds: Rounds) -> None:
    await subject.logged("assigned partitions=")
    began = time.perf_counter()
    await subject.ready()
    rounds.rebuild_s.append(time.perf_counter() - began)


async def _bare(bundle: Path, seconds: float) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare_model", str(bundle), str(seconds),
        stdout=asyncio.subprocess.PIPE, preexec_fn=take_worker_core,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode:
        raise CandlewickError(f"the bare model ended with {process.returncode}")
    return 1.0 / float(said)


def _figures(size: Size, rounds: Rounds) -> Iterator[Figure]:
    ratios = [bare / whole.wall_s for bare, whole in zip(rounds.bare, rounds.whole, strict=True)]
    whole, bare = median(cost.wall_s for cost in rounds.whole), median(rounds.bare)
    yield Figure(
        "hotpath.ratio_to_model", median(ratios), "ratio",
        f"the bare model, h{size.hidden} L{size.lookback_bars}: {1 / bare:,.0f}/s, served {1 / whole:,.0f}/s; "
        f"{spread(ratios)}", COMMAND,
    )  # fmt: skip
    overhead = [cost.cpu_s * 1e6 for cost in rounds.null_model]
    throughput = 1 / median(cost.wall_s for cost in rounds.null_model)
    yield Figure(
        "hotpath.overhead_us", median(overhead), "us/candle",
        f"CPU time of the worker without a model, which does {throughput:,.0f}/s; {spread(overhead)}", COMMAND,
    )  # fmt: skip
    times = [stock.wall_s / ours.wall_s for stock, ours in zip(rounds.stock, rounds.null_features, strict=True)]
    stock, ours = median(cost.wall_s for cost in rounds.stock), median(cost.wall_s for cost in rounds.null_features)
    yield Figure(
        "hotpath.times_stock_faust", median(times), "times",
        f"a stock Faust agent, null model and features on both sides: {1 / stock:,.0f}/s, ours {1 / ours:,.0f}/s; "
        f"{spread(times)}", COMMAND,
    )  # fmt: skip
    yield Figure(
        "hotpath.rebuild_s", median(rounds.rebuild_s), "s",
        f"{size.series} series, {size.silent_closes} closes each, from assignment to serving; "
        f"{spread(rounds.rebuild_s)}", COMMAND,
    )  # fmt: skip
