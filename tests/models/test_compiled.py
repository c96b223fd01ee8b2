from __future__ import annotations

import subprocess
import sys

import numpy as np

from models.compiled import Compiled, U, compiled, helper


@helper
def _doubled(number):  # type: ignore[no-untyped-def]
    return 2 * number


@compiled("i8(i8[::1])")
def sum_of_doubles(numbers):  # type: ignore[no-untyped-def]
    total = 0
    for i in range(U(len(numbers))):
        total += _doubled(numbers[i])
    return total


def test_compiled_function_calls_its_helpers_and_is_compiled_once() -> None:
    assert sum_of_doubles(np.arange(5)) == 20
    assert sum_of_doubles.make_ready() is sum_of_doubles.make_ready()
    assert sum_of_doubles(np.arange(3)) == 6


def test_function_that_nothing_can_be_kept_of_is_compiled_all_the_same() -> None:
    """As where neither the folder of the source nor the user's cache can be written."""
    of_no_file: dict[str, object] = {"__name__": __name__}
    exec("def plus_one(number):\n    return number + 1", of_no_file)
    assert Compiled(of_no_file["plus_one"], "i8(i8)")(41) == 42  # type: ignore[arg-type]


def test_nobody_waits_for_the_compiler_who_does_not_need_it() -> None:
    code = "import models.engine, streaming.ingest, streaming.monitor, sys; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
