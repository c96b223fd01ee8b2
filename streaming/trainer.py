"""Training as processes of their own, started by their command lines; what they say comes back a line at a time.

Enters: commands of `candlewick` and their limits. Leaves: the last thing they said. Does not know: how training works.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from models.errors import CandlewickError
from streaming.confined import confined

STOP_TIMEOUT_S = 5.0
LINE_BYTES = 4 << 20
LOG_END_BYTES, LOG_END_LINES = 8 << 10, 12
ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Arrow's own allocator sets a gigabyte aside at once: a quarter of the limit, though nobody writes to it."""
KAFKA_FAILED = 75
"""Exit code of a command that could not reach Kafka: try again later; the command itself is not at fault."""


class ChildFailed(CandlewickError):  # noqa: N818 - an outcome, named as one
    """A training process ended without its result; the message holds the end of what it said."""


class KafkaFailed(CandlewickError):  # noqa: N818 - likewise
    """It could not reach Kafka; nothing is known against the job."""


@dataclass(frozen=True)
class Limits:
    """What a training process may take."""

    nice: int = 0
    memory_mb: int = 1 << 20
    seconds: float = 86_400.0
    env: Mapping[str, str] = field(default_factory=dict)  # beside our own


async def train(options: Sequence[str], out: Path, report: Callable[[dict[str, Any]], None]) -> Path:
    """Run `candlewick train OPTIONS --out OUT --json`, and tell `report` of every epoch.

    Raises:
        ChildFailed: it failed; the message holds the end of what it said.
    """
    with tempfile.NamedTemporaryFile(prefix="candlewick-train-", suffix=".log") as log:
        return await train_to(options, out, Path(log.name), Limits(), report)


async def train_to(
    options: Sequence[str], out: Path, log: Path, limits: Limits, report: Callable[[dict[str, Any]], None]
) -> Path:
    """The same within limits, its messages in a file."""

    def told(said: dict[str, Any]) -> None:
        if "epoch" in said:
            report(said)

    done = await run_command(["train", *options, "--out", str(out)], log, limits, told)
    if "bundle" not in done:
        raise ChildFailed("candlewick train ended well, and yet without a bundle")
    return out / f"{done['bundle']}.safetensors"


async def run_command(
    words: Sequence[str], log: Path, limits: Limits, report: Callable[[dict[str, Any]], None] = lambda said: None
) -> dict[str, Any]:
    """Run `candlewick WORDS --json` to its end; tell `report` of each object it says, return the last one.

    Cancelled, it ends the process and whatever that has started.

    Raises:
        ChildFailed: it failed, took too long or said nothing; the message holds the end of its log.
        KafkaFailed: it could not reach Kafka.
    """
    command = confined([sys.executable, "-m", "candlewick", *words, "--json"], limits.nice, limits.memory_mb)
    with log.open("ab") as messages:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=messages,
            start_new_session=True,
            limit=LINE_BYTES,
            env={**os.environ, **ENVIRONMENT, **limits.env},
        )
    try:
        async with asyncio.timeout(limits.seconds):
            last = await _listen(process, report)
            code = await process.wait()
    except TimeoutError:
        raise ChildFailed(f"candlewick {words[0]} was not done after {limits.seconds / 3600:g} h") from None
    except ValueError as error:
        raise ChildFailed(f"candlewick {words[0]} said a line of more than {LINE_BYTES:,} bytes") from error
    finally:
        await _end(process)
    _judge_end(words[0], code, last, log)
    return last


async def _listen(process: asyncio.subprocess.Process, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    assert process.stdout  # noqa: S101 - a pipe
    last: dict[str, Any] = {}
    while line := await process.stdout.readline():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # what a library prints
        if isinstance(said, dict):
            last = said
            report(said)
    return last


def _judge_end(name: str, code: int, last: dict[str, Any], log: Path) -> None:
    if code == KAFKA_FAILED:
        raise KafkaFailed(f"candlewick {name}: {_log_end(log)}") from KafkaError()
    if code:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        raise ChildFailed(f"candlewick {name} {how}; the end of its log:\n{_log_end(log)}")
    if not last:
        raise ChildFailed(f"candlewick {name} ended well, and yet said nothing")


def _log_end(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_END_BYTES))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-LOG_END_LINES:]) or "(it said nothing)"


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process, and what it left behind: it leads a group of its own."""
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
