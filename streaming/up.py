"""Everything in one command: a broker unless one is given, the topics, every role as a supervised process.

Enters: settings. Leaves: a running system, and nothing of it when the block ends. Does not know: where candles come
from.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

from models.errors import CandlewickError
from streaming.clients import is_of_kafka, new_admin, started
from streaming.embedded_kafka import BrokerConfig, EmbeddedKafka
from streaming.kafka_jars import default_cache
from streaming.settings import Settings
from streaming.supervise import Child
from streaming.topics import create_topics

T = TypeVar("T")

POLL_S = 0.2
REASON_S = 3.0
ROLES = ("predict", "monitor", "train")
"""Every role that works on candles, a process each; metrics are on `metrics_port`, the next one, and so on."""


@dataclass
class System:
    """What `up` keeps alive."""

    settings: Settings
    children: list[Child]
    failed: asyncio.Future[None]  # carries what ended it

    async def ready(self) -> None:
        """Wait until every role serves.

        Raises:
            CandlewickError: one of them could not be kept alive.
        """
        for child in self.children:
            await self.or_fail(child.ready.wait())

    async def or_fail(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for this, or for the failure that makes it pointless."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self.failed), return_when=asyncio.FIRST_COMPLETED)
            if self.failed.done():
                self.failed.result()
            return await task
        finally:  # cancelled, too: what works on would only find Kafka gone
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def broker_config(settings: Settings, port: int = 0, folder: Path | None = None) -> BrokerConfig:
    """The embedded broker that these settings describe."""
    return BrokerConfig(
        folder=folder or settings.broker_dir,
        cache=default_cache(),
        port=port,
        heap_mb=settings.broker.heap_mb,
        java_home=settings.broker.java_home,
    )


@asynccontextmanager
async def kafka(settings: Settings) -> AsyncIterator[tuple[Settings, EmbeddedKafka | None]]:
    """Settings that name a Kafka with every topic: the one that was set, else an embedded one while this lasts."""
    broker = None
    async with AsyncExitStack() as stack:
        if settings.kafka.bootstrap_servers is None:
            broker = await stack.enter_async_context(running(EmbeddedKafka(broker_config(settings))))
            reachable = settings.kafka.model_copy(update={"bootstrap_servers": broker.bootstrap})
            settings = settings.model_copy(update={"kafka": reachable})
            await stack.enter_async_context(_reason_of(broker))
        async with started(new_admin(settings)) as admin:
            await create_topics(admin, settings)
        yield settings, broker


@asynccontextmanager
async def _reason_of(broker: EmbeddedKafka) -> AsyncIterator[None]:
    """Where Kafka fails, say why the broker ended if it did: its clients know only that it is gone."""
    try:
        yield
    except Exception as error:
        if not is_of_kafka(error):
            raise
        for _ in range(int(REASON_S / POLL_S)):  # connections break a moment before the process has ended
            if why := broker.failure():
                raise CandlewickError(why) from error
            await asyncio.sleep(POLL_S)
        raise


@asynccontextmanager
async def running(broker: EmbeddedKafka) -> AsyncIterator[EmbeddedKafka]:
    """A broker that is ready; cancelled while it starts, it gives up. Left only once it has ended, whoever hurries."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:  # waits, too, where the wait below is cancelled by a second Ctrl-C
        starting = loop.run_in_executor(pool, broker.start)
        try:
            await asyncio.shield(starting)
            yield broker
        finally:
            broker.give_up()
            stopping = loop.run_in_executor(pool, broker.stop)
            await asyncio.shield(asyncio.gather(starting, return_exceptions=True))
            await asyncio.shield(stopping)


@asynccontextmanager
async def up(settings: Settings, roles: Sequence[str] = ROLES) -> AsyncIterator[System]:
    """A running system: Kafka, topics, roles.

    Raises:
        CandlewickError: whatever cannot be started, with its mend.
    """
    async with kafka(settings) as (reachable, broker):
        children = [_child(reachable, role, index) for index, role in enumerate(roles)]
        keepers = [asyncio.create_task(child.keep()) for child in children]
        if broker:
            keepers.append(asyncio.create_task(_watch(broker)))
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for keeper in keepers:
            keeper.add_done_callback(lambda done: _pass_on(done, failed))
        try:
            yield System(reachable, children, failed)
        finally:
            await asyncio.gather(*(child.stop() for child in children))
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            failed.cancel()


async def _watch(broker: EmbeddedKafka) -> None:
    while (why := broker.failure()) is None:  # noqa: ASYNC110 - a process has no event to wait for
        await asyncio.sleep(POLL_S)
    raise CandlewickError(why)


def _pass_on(done: asyncio.Task[None], failed: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) and not failed.done():
        failed.set_exception(error)


def _child(settings: Settings, role: str, index: int) -> Child:
    if settings.kafka.bootstrap_servers is None:
        raise CandlewickError("a role needs to know its Kafka; this is a mistake of the caller")
    env = environment(settings, os.environ)
    if settings.metrics_port:
        env["CANDLEWICK_METRICS_PORT"] = str(settings.metrics_port + index)
    command = [sys.executable, "-m", "candlewick", "run", role, "--with-parent"]
    return Child(role, command, env, settings.data_dir / "logs" / f"{role}.log")


def environment(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Variables that give a child these very settings, whatever else is set around it or in a `.env`.

    A group is one variable as JSON, which can say none and empty too; secrets it has from where this process has them,
    but for those that stood in such a variable.
    """
    kept = {name: value for name, value in around.items() if not _is_overruled(settings, name.upper())}
    groups = {name: value for name, value in settings if isinstance(value, BaseModel)}
    plain = {name: str(value) for name, value in settings if name not in groups}
    told = plain | {name: group.model_dump_json(exclude=_secrets(group)) for name, group in groups.items()}
    told |= {
        f"{name}__{inner}": getattr(group, inner).get_secret_value()
        for name, group in groups.items()
        if f"CANDLEWICK_{name.upper()}" in map(str.upper, around)
        for inner in _secrets(group)
    }
    return kept | {f"CANDLEWICK_{name.upper()}": value for name, value in told.items()}


def _is_overruled(settings: Settings, variable: str) -> bool:
    name, _, inner = variable.removeprefix("CANDLEWICK_").lower().partition("__")
    if not variable.startswith("CANDLEWICK_") or name not in type(settings).model_fields:
        return False
    return inner not in _secrets(getattr(settings, name))


def _secrets(group: Any) -> set[str]:
    return {name for name, value in group if isinstance(value, SecretStr)} if isinstance(group, BaseModel) else set()
