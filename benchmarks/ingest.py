"""`ingest`: frames a second of one process, the way of a close to the topic, and candles lost, beside ccxt's own loop.

The role runs as everybody runs it, alone on its core; the simulated exchange, the broker and whoever measures share the
other. ccxt's `watch_ohlcv_for_symbols` then has that core, and the same exchange, for itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiokafka import AIOKafkaProducer

from benchmarks.cores import stay_off_worker_core, worker_core
from benchmarks.figures import Figure
from benchmarks.workload import Size
from models.errors import CandlewickError
from models.events import Candle, Message, decode_candle, encode
from models.series import Series
from streaming.clients import new_producer, new_reader, started
from streaming.ledger import Ledger as BookOfCandles
from streaming.packing import acknowledged, send_packed
from streaming.partition import partition_of
from streaming.scrape import free_ports
from streaming.settings import Settings
from streaming.topics import topic_partitions
from streaming.up import environment, kafka
from tests.exchange.client import Simulator, Truth
from tests.exchange.reckoning import Ledger

COMMAND = "python -m benchmarks ingest --json"
FLOOD_S, CLOSES_S, CCXT_S = 15, 40, 30
BURSTS = 200
FLOOD = 200_000
"""Unfinished frames a second that the exchange would send if they were read."""
_START_S, _POLL_S = 120.0, 0.2


async def run(size: Size) -> list[Figure]:
    """Measure; takes about three minutes."""
    stay_off_worker_core()
    return [await _flood(size), *await _closes(size), *await _transactions(size)]


async def _flood(size: Size) -> Figure:
    with Simulator(symbols=200, timeframe="1m", history=100, flood=FLOOD) as exchange:
        async with _worker(exchange, "1m") as (_, port):
            before, began = await _metric(port, "candlewick_frames_total"), time.monotonic()
            await asyncio.sleep(FLOOD_S)
            frames = await _metric(port, "candlewick_frames_total") - before
            rate = frames / (time.monotonic() - began)
    return Figure(
        "ingest.frames_per_s", rate, "1/s",
        f"unfinished bars of 200 symbols through two sockets to their sequencers, {FLOOD_S} s", COMMAND,
    )  # fmt: skip


async def _closes(size: Size) -> list[Figure]:
    with Simulator(symbols=size.series, timeframe="1s", history=200, weight_limit=1_000_000) as exchange:
        async with _worker(exchange, "1s") as (settings, _):
            with Ledger(settings) as ledger:
                latencies_ms, from_ms, until_ms = await _latencies(settings, exchange)
                truths = exchange.truths(from_ms=from_ms, until_ms=until_ms)
                lost = sum(_flaws(ledger, name, truth, from_ms, until_ms) for name, truth in truths.items())
        ccxt_lost, ccxt_closes = await asyncio.to_thread(_ccxt, exchange)
    median, p99 = np.percentile(latencies_ms, [50, 99])
    closes = f"{size.series} symbols closing together, {len(latencies_ms):,} closes"
    return [
        Figure("ingest.close_to_topic_p50_ms", float(median), "ms", f"{closes}; close to read by a consumer", COMMAND),
        Figure("ingest.close_to_topic_p99_ms", float(p99), "ms", f"likewise; most {max(latencies_ms):.0f}", COMMAND),
        Figure("ingest.lost", lost, "candles", f"lost, doubled or wrong, of {len(latencies_ms):,}", COMMAND),
        Figure(
            "ingest.ccxt_lost", ccxt_lost, "candles",
            f"never told final by ccxt's watch_ohlcv_for_symbols, of {ccxt_closes:,} on the same exchange", COMMAND,
        ),
    ]  # fmt: skip


async def _transactions(size: Size) -> list[Figure]:
    """A burst as a transaction beside the same burst without one, in turns."""
    with tempfile.TemporaryDirectory(prefix="candlewick-bench-") as folder:
        settings = Settings(data_dir=Path(folder))
        own = settings.kafka.model_copy(update={"bootstrap_servers": None})
        async with kafka(settings.model_copy(update={"kafka": own})) as (settings, _):
            ledger = BookOfCandles(settings, "binance", 30.0)
            await ledger.open([], 0)
            os.sched_setaffinity(0, {worker_core()})  # this process is the writer now
            spent: tuple[list[float], list[float]] = ([], [])
            async with started(new_producer(settings, linger_ms=0)) as plain:
                for close in range(2 * BURSTS):
                    burst = [_candle(f"S{i:03d}/USDT", close) for i in range(size.series)]
                    began = time.perf_counter()
                    await (_append_plainly(settings, plain, burst) if close % 2 else ledger.append(burst))
                    spent[close % 2].append((time.perf_counter() - began) * 1e3)
            await ledger.close()
    (median, p99), (plain_median, plain_p99) = (np.percentile(each, [50, 99]) for each in spent)
    return [
        Figure(
            "ingest.transaction_cost_p99_ms", float(p99 - plain_p99), "ms",
            f"{BURSTS} bursts of {size.series} candles acknowledged: p99 {p99:.1f}, median {median:.1f}; "
            f"without transactions {plain_p99:.1f} and {plain_median:.1f}", COMMAND,
        )
    ]  # fmt: skip


async def _append_plainly(settings: Settings, producer: AIOKafkaProducer, candles: list[Candle]) -> None:
    messages: dict[int, list[Message]] = {}
    for candle in candles:
        key = Series(candle.exchange, candle.symbol, candle.timeframe).key
        message = Message(key, encode(candle), candle.close_time_ms)
        messages.setdefault(partition_of(key, settings.kafka.partitions), []).append(message)
    acks = []
    for partition, each in messages.items():
        acks += await send_packed(producer, settings.topic("candles"), partition, each)
    await acknowledged(acks)


def _candle(symbol: str, slot: int) -> Candle:
    open_ms = 1_700_000_000_000 // 60_000 * 60_000 + slot * 60_000
    return Candle(
        exchange="binance", symbol=symbol, timeframe="1m", open_time_ms=open_ms, close_time_ms=open_ms + 60_000,
        open=100.25, high=100.75, low=99.5, close=100.5, volume=1234.5, origin="live", received_at_ms=open_ms + 60_004,
    )  # fmt: skip


@contextmanager
def _process(arguments: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=env, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    os.sched_setaffinity(process.pid, {worker_core()})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout
        process.stdout.close()


class _worker:  # noqa: N801 - reads as a word where it is used
    """The role on topics of its own, ready."""

    def __init__(self, exchange: Simulator, timeframe: str) -> None:
        self._exchange, self._timeframe = exchange, timeframe

    async def __aenter__(self) -> tuple[Settings, int]:
        self._folder = tempfile.TemporaryDirectory(prefix="candlewick-bench-")
        folder, port = Path(self._folder.name), free_ports(1)
        there = {
            "rest_url": self._exchange.rest,
            "ws_url": self._exchange.ws,
            "top": 5_000,
            "timeframes": self._timeframe,
        }
        settings = Settings(data_dir=folder)
        settings = settings.model_copy(
            update={
                "exchange": settings.exchange.model_copy(update={**there, "weight_a_minute": 1_000_000}),
                "ingest": settings.ingest.model_copy(update={"warm_up_bars": 50}),
                "kafka": settings.kafka.model_copy(update={"bootstrap_servers": None}),
                "metrics_port": port,
            }
        )
        self._kafka = kafka(settings)
        settings, _ = await self._kafka.__aenter__()
        self._role = _process(["-m", "candlewick", "run", "ingest"], environment(settings, os.environ), folder / "log")
        process = self._role.__enter__()
        assert process.stdout
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), _START_S)
        while line and "ready" not in line:
            line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), _START_S)
        if not line:
            raise CandlewickError(f"ingest did not start:\n{(folder / 'log').read_text()[-2_000:]}")
        return settings, port

    async def __aexit__(self, *error: Any) -> None:
        self._role.__exit__(*error)
        await self._kafka.__aexit__(*error)
        self._folder.cleanup()


async def _metric(port: int, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).split()[1])


async def _latencies(settings: Settings, exchange: Simulator) -> tuple[list[float], int, int]:
    """Milliseconds from each close to its being read, and the span of bars that they come from."""
    found: list[float] = []
    from_ms = (exchange.now_ms // 1_000 + 2) * 1_000
    until_ms = from_ms + CLOSES_S * 1_000
    async with started(new_reader(settings, fetch_max_wait_ms=50)) as reader:
        tps = topic_partitions(settings, "candles")
        reader.assign(tps)
        await reader.seek_to_end(*tps)
        while time.time() * 1_000 < until_ms + 2_000:
            batches = (await reader.getmany(timeout_ms=20)).values()
            now_ms = time.time() * 1_000
            candles = [decode_candle(record.value) for records in batches for record in records]
            found += [now_ms - candle.close_time_ms for candle in candles if from_ms <= candle.open_time_ms < until_ms]
    return found, from_ms, until_ms


def _flaws(ledger: Ledger, name: str, truth: Truth, from_ms: int, until_ms: int) -> int:
    from tests.e2e.live import Live

    return len(ledger.reckon(Live.key(name), truth, from_ms, until_ms, 1_000).flaws)


def _ccxt(exchange: Simulator) -> tuple[int, int]:
    """How many closes ccxt's own loop never told, and of how many."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-m", "benchmarks.ccxt_loop", exchange.rest, exchange.ws, str(CCXT_S)]
        with _process(arguments, dict(os.environ), Path(folder) / "log") as process:
            assert process.stdout
            lines = [json.loads(line) for line in process.stdout]
        if not lines:
            raise CandlewickError(f"ccxt's loop ended early:\n{(Path(folder) / 'log').read_text()[-2_000:]}")
    span, told = lines[0], {(symbol, *row) for symbol, *row in lines[1:]}
    truths = exchange.truths(from_ms=span["from_ms"], until_ms=span["until_ms"])
    rows = [(name, *row) for name, truth in truths.items() for row in truth.rows]
    return sum(tuple(row) not in told for row in rows), len(rows)
