"""`up --exchange`: which exchange a system listens to; and the simulator, an exchange of its own for who has none.

Enters: the command line's words. Leaves: settings that every role is started with. Does not know: how one listens.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from models.errors import CandlewickError
from streaming.settings import ExchangeSettings, Settings

SIMULATOR = "simulator"
SIMULATED = "BTC/USDT,ETH/USDT,SOL/USDT,XRP/USDT"
_START_S, _END_S = 60.0, 5.0


class Live(NamedTuple):
    """What was asked for; what was not is as the settings have it."""

    exchange: str
    symbols: str = ""
    top: int | None = None
    quote: str | None = None
    timeframe: str | None = None


def check_live(live: Live, settings: Settings) -> None:
    """Refuse what will never work, before anything is started.

    Raises:
        CandlewickError: an unknown exchange, a timeframe that it lacks, no symbols, a simulator that is not there.
    """
    if live.exchange == SIMULATOR:
        if importlib.util.find_spec("tests") is None or importlib.util.find_spec("tests.exchange") is None:
            raise CandlewickError("the simulator is part of the source tree: run this in a clone of the repository")
        return
    from streaming.feed.exchanges import check_timeframes, open_exchange  # lazy: it brings ccxt in

    chosen = chosen_settings(settings, live).exchange
    check_timeframes(open_exchange(chosen), chosen.timeframes)
    if not (chosen.symbols or chosen.top):
        raise CandlewickError("which symbols? Give --symbols BTC/USDT,ETH/USDT or --top 50 --quote USDT")


def chosen_settings(settings: Settings, live: Live) -> Settings:
    """The settings with what was asked for."""
    changes: dict[str, object] = {"name": live.exchange}
    if live.symbols or live.top:
        changes |= {"symbols": live.symbols, "top": live.top or 0}
    changes |= {"quote": live.quote} if live.quote else {}
    changes |= {"timeframes": live.timeframe} if live.timeframe else {}
    exchange = ExchangeSettings.model_validate(settings.exchange.model_dump() | changes)
    return settings.model_copy(update={"exchange": exchange})


@asynccontextmanager
async def exchanging(settings: Settings, live: Live) -> AsyncIterator[Settings]:
    """Settings of the exchange asked for; the simulator runs while this lasts.

    Raises:
        CandlewickError: the simulator does not start.
    """
    if live.exchange != SIMULATOR:
        yield chosen_settings(settings, live)
        return
    live = live._replace(exchange="binance", symbols=live.symbols or ("" if live.top else SIMULATED))
    chosen = chosen_settings(settings, live)
    timeframe = chosen.exchange.timeframes.split(",")[0]
    command = (sys.executable, "-m", "tests.exchange", "--json", "--with-parent", "--timeframe", timeframe)
    history = str(settings.ingest.warm_up_bars + 10)
    process = await asyncio.create_subprocess_exec(
        *command, "--history", history, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        addresses = await _addresses(process)
        there = {"rest_url": addresses["rest"], "ws_url": addresses["ws"]}
        yield chosen.model_copy(update={"exchange": chosen.exchange.model_copy(update=there)})
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_S)


async def _addresses(process: asyncio.subprocess.Process) -> dict[str, str]:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_S)
        addresses: dict[str, str] = json.loads(line)
    except (TimeoutError, ValueError) as error:
        raise CandlewickError("the simulator did not start; what it said is above") from error
    return addresses
