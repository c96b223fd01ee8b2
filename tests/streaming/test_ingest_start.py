"""What the role does before there is an event loop."""

from __future__ import annotations

import subprocess
import sys

MADE = """
import sys
from streaming.ingest import Ingest
from streaming.settings import Settings
assert "ccxt" not in sys.modules, "loaded by whoever only looks at the role"
Ingest(Settings(_env_file=None))
assert "ccxt.pro" in sys.modules
"""


def test_ingest_made_has_loaded_ccxt_so_that_no_event_loop_stands_still_for_it() -> None:
    """A loop that imports for seconds hears no SIGTERM."""
    done = subprocess.run([sys.executable, "-c", MADE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
