"""The benchmarks run, and say their figures in the agreed form. What they measure here means nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.figures import Figure
from benchmarks.workload import Size

SMALL = {
    "hotpath": "Size(100, 8, 8, 60, closes=2_000, rounds=1)",  # with fewer the fastest is done between two looks at it
    "burst": "Size(20, 8, 8, 60, closes=100, rounds=1, bursts=5)",
}
FIGURES = {
    "hotpath": {"hotpath.ratio_to_model", "hotpath.overhead_us", "hotpath.times_stock_faust", "hotpath.rebuild_s"},
    "burst": {"burst.p99_ms", "burst.read_p99_ms"},
}


@pytest.mark.parametrize(
    "name",
    ["burst", pytest.param("hotpath", marks=[pytest.mark.soak])],  # five processes, one after another
)
@pytest.mark.timeout(600)
def test_benchmark_at_a_small_size_gives_its_figures(name: str) -> None:
    program = (
        f"import asyncio, benchmarks.{name} as it; from benchmarks.workload import Size; size = {SMALL[name]}; "
        "print(*(figure.as_json() for figure in asyncio.run(it.run(size))), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=590, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert {figure["name"] for figure in figures} == FIGURES[name]
    for figure in figures:
        assert figure.keys() == {"name", "value", "unit", "against", "command"}
        assert figure["value"] > 0
        assert figure["command"] == f"python -m benchmarks {name} --json"


def test_figure_as_json_is_one_line() -> None:
    text = Figure("a.b", 1.23456, "ms", "something else", "python -m benchmarks a").as_json()
    assert "\n" not in text
    assert json.loads(text)["name"] == "a.b"


def test_size_without_options_is_the_one_we_quote() -> None:
    assert (Size().series, Size().hidden, Size().lookback_bars, Size().warm_up_bars) == (500, 64, 64, 1_500)
