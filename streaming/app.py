"""One Faust app a role, and the worker that runs any set of them in one process.

Enters: role names. Leaves: a process that ends with 0 when asked to stop and with 1 when a broken invariant stopped it.
Does not know: what a role does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import faust
from faust.app.base import BootStrategy

from models.errors import CandlewickError
from streaming import metrics
from streaming.batches import IN_FLIGHT
from streaming.channel import BatchChannel
from streaming.clients import bootstrap_servers
from streaming.predict import Predict
from streaming.settings import Settings

logger = logging.getLogger(__name__)


class OwnConsumers(BootStrategy):
    """Faust hosts the agents; the roles bring their own Kafka clients (docs/adr/0001)."""

    enable_kafka = False
    enable_web = False


def new_app(settings: Settings, role: str) -> faust.App:
    """The Faust app of a role."""

    class App(faust.App):
        BootStrategy = OwnConsumers

    return App(
        f"candlewick-{role}",
        broker=f"kafka://{bootstrap_servers(settings)}",
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        web_enabled=False,
        datadir=settings.data_dir / "faust",
    )


def predict_app(settings: Settings) -> tuple[faust.App, Predict]:
    """Candles to signals: a source fetches batches, an agent serves them."""
    app = new_app(settings, "predict")
    channel = BatchChannel(app, maxsize=IN_FLIGHT)
    role = Predict(settings, channel)

    @app.agent(channel)
    async def predict(batches: Any) -> None:
        async for batch in batches:
            try:
                await role.serve(batch)
            except Exception as error:  # Faust would acknowledge it and go on; nothing may be lost
                logger.exception("a batch failed")
                await role.crash(error)
                raise

    app.service(role)
    return app, role


ROLES: dict[str, Callable[[Settings], tuple[faust.App, Any]]] = {"predict": predict_app}


def run_roles(settings: Settings, roles: Sequence[str], with_parent: bool = False) -> None:
    """Run these roles until a signal or a failure; says `{"ready": [...]}` on stdout once all of them serve.

    Raises:
        CandlewickError: an unknown role.
        Exception: whatever broke; the process is to end with it.
    """
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise CandlewickError(f"no role is called {', '.join(unknown)}; the roles are: {', '.join(ROLES)}")
    metrics.serve(settings.metrics_port)
    made = [ROLES[role](settings) for role in roles]
    (first, _), *others = made
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Roles(first, *(app for app, _ in others), override_logging=False, redirect_stdouts=False, loop=loop)
    worker.add_future(_say_ready(list(roles), [role.ready for _, role in made]))
    if with_parent:
        _end_with_stdin(loop)
    worker.execute_from_commandline()


def _end_with_stdin(loop: asyncio.AbstractEventLoop) -> None:
    """SIGTERM to this very process once the pipe from its parent ends: the parent is gone, whatever became of it."""

    def ended() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(sys.stdin, ended)


class Roles(faust.Worker):
    """The supervisor of the process, without Faust's banner."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, quiet=True, **kwargs)
        self.spinner = None


async def _say_ready(roles: list[str], ready: list[asyncio.Event]) -> None:
    await asyncio.gather(*(event.wait() for event in ready))
    sys.stdout.write(json.dumps({"ready": roles}) + "\n")
    sys.stdout.flush()
