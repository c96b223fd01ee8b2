"""What `up` does with the work inside it, without a Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from models.errors import CandlewickError
from streaming.monitor import Monitor
from streaming.up import System
from tests.e2e.system import settings_of


async def endless(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("the work")


def system(folder: Path) -> System:
    return System(settings_of("127.0.0.1:1", "none.", folder), [], asyncio.get_running_loop().create_future())


def test_or_fail_cancelled_ends_the_work_first(tmp_path: Path) -> None:
    """It would go on against a Kafka that is being stopped, and end in a traceback."""
    ended: list[str] = []

    async def story() -> None:
        waiting = asyncio.create_task(system(tmp_path).or_fail(endless(ended)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert ended == ["the work"]

    asyncio.run(story())


def test_or_fail_raises_what_ended_the_system_and_ends_the_work(tmp_path: Path) -> None:
    ended: list[str] = []

    async def story() -> None:
        failing = system(tmp_path)
        asyncio.get_running_loop().call_soon(failing.failed.set_exception, CandlewickError("predict ended 6 times"))
        with pytest.raises(CandlewickError, match="predict ended 6 times"):
            await failing.or_fail(endless(ended))
        assert ended == ["the work"]

    asyncio.run(story())


def test_monitor_that_is_stopped_before_it_has_begun_ends_quietly(tmp_path: Path) -> None:
    asyncio.run(Monitor(settings_of("127.0.0.1:1", "none.", tmp_path)).stop())
