"""A live system for tests: the simulated exchange, `ingest` as a process, and the ledger held against the truth.

Enters: a broker and a folder. Leaves: processes, gone when the block ends. Does not know: which fault is tested.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from models.series import Series, canonical_symbol
from streaming.scrape import free_ports
from tests.e2e.system import System, Worker
from tests.eventually import eventually
from tests.exchange.client import Simulator
from tests.exchange.reckoning import Ledger, Reckoning

STEP_MS = 1_000
WARM_UP_BARS = 40


class Live:
    """200 symbols of bars of one second, unless told otherwise."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, **exchange: object) -> None:
        """Args: `exchange` takes options of `python -m tests.exchange`."""
        usual = {"symbols": 200, "timeframe": "1s", "history": WARM_UP_BARS + 200, "weight_limit": 1_000_000}
        self.system = System(bootstrap, prefix, folder)
        self.exchange = Simulator(**{**usual, **exchange})
        self.ledger = Ledger(self.system.settings)
        self.port = free_ports(1)  # of the newest worker's /metrics and /health
        self._workers = 0

    def __enter__(self) -> Self:
        self.system.__enter__()
        self.exchange.__enter__()
        self.ledger.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.system.__exit__(kind, error, trace)
        self.exchange.__exit__(kind, error, trace)
        self.ledger.__exit__(kind, error, trace)

    def ingest(self, *command: str, **env: str) -> Worker:
        """Start the role, as a person would but for the pace of a second."""
        self._workers += 1
        self.port = free_ports(1)
        mine = {
            "CANDLEWICK_METRICS_PORT": str(self.port),
            "CANDLEWICK_EXCHANGE__REST_URL": self.exchange.rest,
            "CANDLEWICK_EXCHANGE__WS_URL": self.exchange.ws,
            "CANDLEWICK_EXCHANGE__TOP": "1000",
            "CANDLEWICK_EXCHANGE__TIMEFRAMES": "1s",
            "CANDLEWICK_EXCHANGE__WEIGHT_A_MINUTE": "1000000",
            "CANDLEWICK_EXCHANGE__REQUEST_TIMEOUT_S": "2",
            "CANDLEWICK_EXCHANGE__KEEP_ALIVE_S": "1",
            "CANDLEWICK_EXCHANGE__SILENT_SOCKET_S": "2",
            "CANDLEWICK_INGEST__WARM_UP_BARS": str(WARM_UP_BARS),
            "CANDLEWICK_INGEST__DEAD_S": "4",
            "CANDLEWICK_INGEST__TRANSACTION_TIMEOUT_S": "5",
        }
        arguments = command or ("-m", "candlewick", "run", "ingest")
        return self.system.worker(f"ingest{self._workers}", *arguments, **{**mine, **env})

    def health(self) -> dict[str, Any]:
        """What the newest worker says of itself; `ok` goes with the status."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=60) as answer:
                said: dict[str, Any] = json.load(answer)
                assert said["ok"]
        except urllib.error.HTTPError as error:
            said = json.load(error)
            if error.code != 503 or said["ok"]:
                raise
        return said

    def metric(self, name: str) -> float:
        """One of the newest worker's metrics, without labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(name + " ")).split()[1])

    def wait_for(self, until_ms: int, apart: Collection[str] = (), timeout_s: float = 120) -> None:
        """Wait until the ledger of every listed symbol, but these, goes to a close."""

        # Asked once: while the exchange tells its truth it sends nothing.
        names = self.exchange.truths(from_ms=until_ms - STEP_MS, until_ms=until_ms)
        keys = {self.key(name) for name in names} - set(apart)

        def behind() -> list[str]:
            marks = self.ledger.marks()
            return [key for key in keys if marks.get(key, 0) < until_ms]

        deadline = time.monotonic() + timeout_s
        eventually(lambda: not behind() or time.monotonic() > deadline, timeout_s + 5)
        left = behind()
        assert not left, f"{len(left)} series never came to {until_ms}, as {left[:3]}"

    @staticmethod
    def key(name: str, timeframe: str = "1s") -> str:
        """The topic's key of a symbol of Binance."""
        return Series("binance", canonical_symbol(name), timeframe).key.decode()

    def reckon(self, from_ms: int, until_ms: int, apart: Collection[str] = ()) -> list[Reckoning]:
        """Every series over a span."""
        truths = self.exchange.truths(from_ms=from_ms, until_ms=until_ms)
        return [
            self.ledger.reckon(self.key(name), truth, from_ms, until_ms, STEP_MS)
            for name, truth in truths.items()
            if self.key(name) not in apart
        ]

    def assert_flawless(self, from_ms: int, until_ms: int, apart: Collection[str] = ()) -> int:
        """Nothing lost, doubled, out of order or wrong; gives how many bars were compared."""
        found = self.reckon(from_ms, until_ms, apart)
        flaws = [flaw for one in found for flaw in one.flaws]
        assert not flaws, f"{len(flaws)} flaws, as {flaws[:5]}"
        return sum(one.compared for one in found)
