"""Who waits for what a service is to do learns of the end of that service."""

from __future__ import annotations

import asyncio

import pytest
from mode import Service

from streaming.until import until


class Worker(Service):  # type: ignore[misc]  # mode ships no types
    """Sets its event, or breaks before."""

    def __init__(self, breaks: bool) -> None:
        self.breaks, self.done = breaks, asyncio.Event()
        super().__init__()

    @Service.task
    async def _work(self) -> None:
        if self.breaks:
            raise ZeroDivisionError("of the worker")
        self.done.set()


def waited_for(breaks: bool) -> bool:
    async def story() -> bool:
        async with asyncio.timeout(10):
            worker = Worker(breaks)
            await worker.start()
            try:
                await until(worker.done, worker)
            finally:
                await worker.stop()
            return worker.done.is_set()

    return asyncio.run(story())


def test_until_returns_once_the_event_is_set() -> None:
    assert waited_for(breaks=False)


def test_until_a_service_that_breaks_raises_what_broke_it_instead_of_waiting_for_ever() -> None:
    with pytest.raises(ZeroDivisionError, match="of the worker"):
        waited_for(breaks=True)
