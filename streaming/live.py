"""`candlewick replay` and `candlewick up`: a system with candles flowing through it.

Enters: settings and paths of candle files. Leaves: what was replayed. Does not know: windows, models.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.candle_files import read_candles
from models.candle_table import CandleTable
from streaming.clients import bootstrap_servers, new_admin, started
from streaming.exchanging import Live, check_live, exchanging
from streaming.job_feed import Jobs, Pooled, following
from streaming.replay import replay
from streaming.replay_clock import ReplayClock
from streaming.settings import Settings
from streaming.up import ROLES, up

logger = logging.getLogger(__name__)

SHOWN_REJECTS = 20


@dataclass(frozen=True)
class Source:
    """Which candles of which files."""

    paths: Sequence[Path]
    symbols: Sequence[str] = ()  # none: all
    exchange: str = "binance"
    timeframe: str | None = None  # none: the commonest spacing


def load(source: Source) -> CandleTable:
    """Read candle files; rows that cannot be used are logged with file and line.

    Raises:
        CandlewickError: nothing usable, or a symbol that the files do not hold.
    """
    table = read_candles(source.paths, exchange=source.exchange, timeframe=source.timeframe)
    for row in table.rejected[:SHOWN_REJECTS]:
        logger.warning("row left out at=%s:%d reason=%s", row.file, row.line, row.reason)
    if len(table.rejected) > SHOWN_REJECTS:
        logger.warning("and %d more rows left out", len(table.rejected) - SHOWN_REJECTS)
    return table.chosen(source.symbols)


async def run_replay(settings: Settings, source: Source, speed: float | None) -> dict[str, Any]:
    """Replay and wait for nobody."""
    bootstrap_servers(settings)  # no Kafka is said before files are read
    table = load(source)
    progress = await replay(settings, table, speed)
    return asdict(progress) | {"rejected_rows": len(table.rejected)}


async def run_up(settings: Settings, paths: Sequence[Path], speed: float | None, live: Live | None = None) -> None:
    """Keep everything running until cancelled; a replay is its clock, an exchange brings its own."""
    table = load(Source(paths)) if paths else None
    if live is not None:
        check_live(live, settings)
    async with AsyncExitStack() as stack:
        if live is not None:
            settings = await stack.enter_async_context(exchanging(settings, live))
        system = await stack.enter_async_context(up(settings, (*ROLES, "ingest") if live else ROLES))
        await system.ready()
        servers = system.settings.kafka.bootstrap_servers
        _say({"bootstrap": servers, "ready": [child.name for child in system.children]})
        if table is not None:
            await system.or_fail(replay_as_clock(system.settings, table, speed))
            _say({"replayed": True})
        await system.failed


async def replay_as_clock(settings: Settings, table: CandleTable, speed: float | None) -> None:
    """Replay as the clock of the system: it waits for who works on the candles, and for jobs."""
    jobs, pooled, told = Jobs(), Pooled(), ""

    def say(reason: str | None) -> None:
        nonlocal told
        if reason and reason != told:
            logger.info("%s", reason)
        told = reason or ""

    async with started(new_admin(settings)) as admin, following(settings, jobs, pooled):
        clock = ReplayClock(settings, admin, jobs, pooled, say)
        await replay(settings, table, speed, clock)
        await clock.scored()


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
