"""Training as a process of its own, started by its command line; its progress comes back a line at a time.

Enters: options of `candlewick train`. Leaves: the file of the bundle. Does not know: how training works.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models.errors import CandlewickError

STOP_TIMEOUT_S = 5.0


async def train(options: Sequence[str], out: Path, report: Callable[[dict[str, Any]], None]) -> Path:
    """Run `candlewick train OPTIONS --out OUT --json`, and tell `report` of every epoch.

    Raises:
        CandlewickError: it failed; the message holds the end of what it said.
    """
    command = [sys.executable, "-m", "candlewick", "train", *options, "--out", str(out), "--json"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout  # noqa: S101 - a pipe
    assert process.stderr  # noqa: S101 - likewise
    said = asyncio.ensure_future(process.stderr.read())
    last: dict[str, Any] = {}
    try:
        async for line in process.stdout:
            last = json.loads(line)
            if "epoch" in last:
                report(last)
        code = await process.wait()
        messages = (await said).decode(errors="replace")
    finally:
        said.cancel()
        await _end(process)
    if code or "bundle" not in last:
        raise CandlewickError("training failed:\n" + "\n".join(messages.splitlines()[-12:]))
    return out / f"{last['bundle']}.safetensors"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
