"""`python -m tests.exchange --json`: a Binance-shaped exchange on 127.0.0.1, until SIGTERM or, if told, its stdin ends.

Enters: the command line. Leaves: one line with the addresses, then service. Does not know: who asks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from models.errors import CandlewickError
from tests.exchange.intervals import LENGTH_MS
from tests.exchange.options import Options
from tests.exchange.server import Addresses, open_exchange


def main() -> int:
    """Serve; the exit code."""
    parser = _parser()
    given = vars(parser.parse_args())
    as_json, with_parent = given.pop("json"), given.pop("with_parent")
    given["candles"] = tuple(given["candles"])
    try:
        asyncio.run(_serve(Options(**given), as_json=as_json, with_parent=with_parent))
    except (CandlewickError, OSError) as error:
        print(f"simulated exchange: {error}", file=sys.stderr)  # a command's own message
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m tests.exchange", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the first line is one JSON object")
    parser.add_argument("--with-parent", action="store_true", help="end when stdin ends")
    parser.add_argument("--market", choices=("spot", "usdm"), default=defaults.market)
    parser.add_argument("--timeframe", choices=tuple(LENGTH_MS), default=defaults.timeframe, help="of the base grid")
    parser.add_argument(
        "--candles", type=Path, nargs="+", default=defaults.candles, help="files or folders of real ones"
    )
    parser.add_argument("--symbols", type=int, default=defaults.symbols)
    parser.add_argument("--history", type=int, default=defaults.history, help="base bars before the start")
    parser.add_argument("--updates", type=int, default=defaults.updates, help="unfinished frames a bar and symbol")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--port", type=int, default=defaults.port)
    parser.add_argument("--skew-ms", type=float, default=defaults.skew_ms, help="of the exchange's clock")
    parser.add_argument("--close-delay-ms", type=float, default=defaults.close_delay_ms)
    parser.add_argument("--weight-limit", type=int, default=defaults.weight_limit, help="a minute; 0: Binance's")
    parser.add_argument("--ban-s", type=float, default=defaults.ban_s, help="length of a ban by 418")
    parser.add_argument("--ping-s", type=float, default=defaults.ping_s, help="between the server's pings")
    parser.add_argument("--flood", type=float, default=defaults.flood, help="unfinished frames a second on top")
    return parser


async def _serve(options: Options, *, as_json: bool, with_parent: bool) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with open_exchange(options) as addresses:
        _announce(addresses, as_json=as_json)
        if with_parent:
            loop.add_reader(sys.stdin.fileno(), _read, ended)
        await ended.wait()
        if with_parent:
            loop.remove_reader(sys.stdin.fileno())


def _announce(addresses: Addresses, *, as_json: bool) -> None:
    line = (
        json.dumps(asdict(addresses))
        if as_json
        else f"REST {addresses.rest}  websocket {addresses.ws}  control {addresses.control}"
    )
    print(line, flush=True)  # the command's answer


def _read(ended: asyncio.Event) -> None:
    """Take what comes in, which nobody needs; the end of it ends the exchange."""
    with contextlib.suppress(BlockingIOError):
        if not os.read(sys.stdin.fileno(), 4_096):
            ended.set()


if __name__ == "__main__":
    sys.exit(main())
