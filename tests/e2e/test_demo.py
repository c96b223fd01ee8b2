"""The tour as a script runs it; for a person, `make demo` is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.system import ROOT

TIMEOUT_S = 3_600


@pytest.mark.soak
@pytest.mark.kafka
@pytest.mark.timeout(TIMEOUT_S + 60)
def test_demo_for_scripts_prints_one_object_and_ends_well(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CANDLEWICK_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-m", "candlewick", "demo", "--json"],
        cwd=tmp_path,
        env=clean | {"PYTHONPATH": str(ROOT), "CANDLEWICK_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    (line,) = done.stdout.splitlines()
    summary = json.loads(line)
    assert (summary["faults"], summary["dead_letters"], summary["late_switches"]) == ({}, 0, 0)
    assert summary["signals"] > 50_000
    assert summary["promotions"] > 0
