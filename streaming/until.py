"""Waiting for what a service of the worker will do, no longer than that service lives.

Enters: an event, and the service that sets it. Leaves: once it is set. Does not know: what it means.
"""

from __future__ import annotations

import asyncio

from mode import Service


async def until(event: asyncio.Event, service: Service) -> None:
    """Wait for the event, or for the end of the service, after which nobody sets it.

    Raises:
        BaseException: what broke the service.
    """
    await service.wait_first(event.wait())
    if service.crash_reason is not None:
        raise service.crash_reason
