"""One Faust app a role, and the worker that runs any set of them in one process.

Enters: role names. Leaves: a process that ends with 0 when asked to stop and with 1 when a broken invariant stopped it.
Does not know: what a role does.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import faust
from faust.app.base import BootStrategy

from models.errors import CandlewickError
from streaming import health
from streaming.batches import IN_FLIGHT
from streaming.channel import BatchChannel
from streaming.clients import bootstrap_servers
from streaming.monitor import Monitor
from streaming.predict import Predict
from streaming.settings import Settings
from streaming.train import Train

logger = logging.getLogger(__name__)

HANG_S = 60.0
"""An event loop that does not turn for so long never will."""
TROUBLE_S = 1.0
END_S = 11.0
"""SIGTERM drains within 10 s; so soon after it the process is gone, one way or the other."""


class OwnConsumers(BootStrategy):
    """Faust hosts the agents; the roles bring their own Kafka clients (docs/adr/0001)."""

    enable_kafka = False
    enable_web = False


def new_app(settings: Settings, role: str) -> faust.App:
    """The Faust app of a role."""

    class App(faust.App):
        BootStrategy = OwnConsumers
        logger = logging.getLogger("faust.app")

        async def on_first_start(self) -> None:
            """Make no folders: there are no tables to keep in them, and a container may have nowhere to write."""

    return App(
        f"candlewick-{role}",
        broker=f"kafka://{bootstrap_servers(settings)}",
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        web_enabled=False,
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
            except Exception as error:
                # Faust would go on with the next batch, whose commit would cover this one; nothing may be lost.
                await role.crash(error)
                return

    app.service(role)
    return app, role


def train_app(settings: Settings) -> tuple[faust.App, Train]:
    """Jobs to verdicts, one at a time."""
    app = new_app(settings, "train")
    role = Train(settings)
    app.service(role)
    return app, role


def monitor_app(settings: Settings) -> tuple[faust.App, Monitor]:
    """Signals to outcomes, their sums, drift, and jobs."""
    app = new_app(settings, "monitor")
    role = Monitor(settings)
    app.service(role)
    return app, role


def ingest_app(settings: Settings) -> tuple[faust.App, Any]:
    """An exchange's bars to candles."""
    from streaming.ingest import Ingest  # lazy: the other roles have no use for ccxt

    app = new_app(settings, "ingest")
    role = Ingest(settings)
    app.service(role)
    return app, role


ROLES: dict[str, Callable[[Settings], tuple[faust.App, Any]]] = {
    "ingest": ingest_app,
    "predict": predict_app,
    "monitor": monitor_app,
    "train": train_app,
}


def run_roles(settings: Settings, roles: Sequence[str], with_parent: bool = False) -> None:
    """Run these roles until a signal or a failure; says `{"ready": [...]}` on stdout once all of them serve.

    Raises:
        CandlewickError: an unknown role.
        Exception: whatever broke; the process is to end with it.
    """
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise CandlewickError(f"no role is called {', '.join(unknown)}; the roles are: {', '.join(ROLES)}")
    roles = list(dict.fromkeys(roles))  # named twice, it runs once
    made = [ROLES[role](settings) for role in roles]
    ailments = {name: _ailment(role) for name, (_, role) in zip(roles, made, strict=True)}
    health.serve(settings.metrics_port, ailments)
    (first, _), *others = made
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Roles(first, *(app for app, _ in others), override_logging=False, redirect_stdouts=False, loop=loop)
    worker.add_future(_say_ready(list(roles), [role.ready for _, role in made]))
    worker.add_future(_say_troubles(ailments))
    if with_parent:
        _end_with_stdin(loop)
    worker.execute()


def _end_with_stdin(loop: asyncio.AbstractEventLoop) -> None:
    """SIGTERM to this very process once the pipe from its parent ends: the parent is gone, whatever became of it."""

    def ended() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(sys.stdin, ended)


class Roles(faust.Worker):
    """The supervisor of the process, without Faust's banner, and with an end that nothing can put off."""

    logger = logging.getLogger("faust.worker")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, quiet=True, **kwargs)
        self.spinner = None

    def execute(self) -> None:
        """Start, run until a signal or a failure, stop.

        Raises:
            Exception: what broke.
        """
        self._starting_fut = self.loop.create_task(self.start())  # a signal cancels it by this name
        failure: BaseException | None = None
        try:
            self.loop.run_until_complete(self._starting_fut)
        except asyncio.CancelledError:
            logger.info("asked to stop while starting")
        except Exception as error:
            failure = error
        # From here on something may hang that hung before; whatever is not done in time is left as it is.
        faulthandler.dump_traceback_later(END_S, exit=True)
        self.loop.run_until_complete(self._signal_stop_future or self.stop())
        _close(self.loop)
        if failure := failure or self.crash_reason:
            raise failure

    @faust.Service.task
    async def _show_life(self) -> None:
        """A loop that no longer turns is ended from outside of it; what it hangs on is printed."""
        while not self.should_stop:
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            await self.sleep(1.0)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    for again in (signal.SIGTERM, signal.SIGINT):  # it is ending already
        signal.signal(again, signal.SIG_IGN)


def _ailment(role: Any) -> health.Ailment:
    """What a role says is wrong with it; one that says nothing is well once it is ready."""
    if hasattr(role, "ailment"):
        return role.ailment  # type: ignore[no-any-return]
    return lambda: None if role.ready.is_set() else "starting"


async def _say_troubles(ailments: Mapping[str, health.Ailment]) -> None:
    """Says `{"trouble": {...}}` whenever what is wrong changes by more than figures; empty: all is well again."""
    said: dict[str, str] = {}
    while True:
        await asyncio.sleep(TROUBLE_S)
        troubles = {role: why for role, ailment in ailments.items() if (why := ailment()) and why != "starting"}
        if {role: _without_figures(why) for role, why in troubles.items()} != said:
            said = {role: _without_figures(why) for role, why in troubles.items()}
            sys.stdout.write(json.dumps({"trouble": troubles}) + "\n")
            sys.stdout.flush()


def _without_figures(text: str) -> str:
    return "".join(letter for letter in text if not letter.isdigit())


async def _say_ready(roles: list[str], ready: list[asyncio.Event]) -> None:
    await asyncio.gather(*(event.wait() for event in ready))
    sys.stdout.write(json.dumps({"ready": roles}) + "\n")
    sys.stdout.flush()
