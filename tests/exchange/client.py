"""The simulated exchange as a test holds it: a process, its addresses, its faults and its truth.

Enters: what the exchange shall be. Leaves: a process that is gone when the block ends. Does not know: what is tested.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parents[2]
Row = tuple[int, float, float, float, float, float]
"""Open time (UTC ms), open, high, low, close, volume."""


class Truth(NamedTuple):
    """What is settled of one series."""

    rows: list[Row]  # as each bar was when it closed
    absent: list[int]  # open times without a bar
    revised: list[Row]  # bars that REST shows otherwise by now


class Simulator:
    """`with Simulator(symbols=200, timeframe="1s") as exchange:`; options as of `python -m tests.exchange`."""

    def __init__(self, **options: object) -> None:
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self._command = [sys.executable, "-m", "tests.exchange", "--json", "--with-parent", *arguments]
        self.rest = self.ws = self.control = ""
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self._end()
            raise AssertionError(f"the simulated exchange ended at its start with code {code}")
        addresses = json.loads(line)
        self.rest, self.ws, self.control = addresses["rest"], addresses["ws"], addresses["control"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> int:
        """Let the process end with its stdin; its exit code."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.stdout.close()
        return self.process.wait()

    def fault(
        self, name: str, *, seconds: float | None = None, symbols: list[str] | None = None, **params: object
    ) -> dict[str, Any]:
        """Begin a fault; symbols are named as Binance does, `BTCUSDT`.

        Raises:
            ValueError: the exchange has no such fault, or not with these parameters.
        """
        given = {"seconds": seconds, "symbols": symbols}
        asked = {"name": name, **{key: value for key, value in given.items() if value is not None}, **params}
        return self._ask("/faults", asked)

    def clear(self, name: str | None = None) -> None:
        """End all faults, or those of a name."""
        self._ask("/clear" + (f"?name={name}" if name else ""), {})

    def faults(self) -> dict[str, Any]:
        """What faults there are, and which are at work."""
        return self._ask("/faults")

    def log(self) -> dict[str, Any]:
        """What was served so far."""
        return self._ask("/log")

    def truths(self, timeframe: str | None = None, **span: int) -> dict[str, Truth]:
        """Every symbol's truth, over `from_ms` and `until_ms` (not included) if given."""
        return self._truths({"timeframe": timeframe, **span})

    def truth(self, symbol: str, timeframe: str | None = None, **span: int) -> Truth:
        """One symbol's truth."""
        return self._truths({"symbol": symbol, "timeframe": timeframe, **span})[symbol]

    @property
    def now_ms(self) -> int:
        """UTC milliseconds of the exchange's clock."""
        return int(self.log()["now_ms"])

    def get(self, path: str, **query: object) -> Any:
        """One answer of REST.

        Raises:
            urllib.error.HTTPError: a status other than 200.
        """
        asked = f"{self.rest}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def _truths(self, query: dict[str, object]) -> dict[str, Truth]:
        asked = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        found = self._ask(f"/truth?{asked}")["symbols"]
        return {
            name: Truth([_row(row) for row in told["rows"]], told["absent"], [_row(row) for row in told["revised"]])
            for name, told in found.items()
        }

    def _ask(self, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(self.control + path, data=data, timeout=60) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from error
        return found


def _row(row: list[float]) -> Row:
    return (int(row[0]), row[1], row[2], row[3], row[4], row[5])
