from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"garbage"], ids=["empty", "garbage"])
def test_function_whose_kept_code_is_damaged_is_compiled_anew_and_the_mend_is_named(
    suffix: str, damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "kept_apart.py").write_text("def plus_one(number):\n    return number + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kept_apart", raising=False)
    module = importlib.import_module("kept_apart")
    assert Compiled(module.plus_one, "i8(i8)")(1) == 2
    (kept,) = tmp_path.rglob(f"*.{suffix}")
    kept.write_bytes(damage)
    assert Compiled(module.plus_one, "i8(i8)")(41) == 42
    assert "delete the *.nbi and *.nbc files" in caplog.text


def test_nobody_waits_for_the_compiler_who_does_not_need_it() -> None:
    code = "import models.engine, streaming.ingest, streaming.monitor, sys; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
