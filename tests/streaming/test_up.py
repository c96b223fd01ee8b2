"""What `up` does with the work inside it, without a Kafka."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from aiokafka.errors import KafkaConnectionError
from pydantic import SecretStr

from models.errors import CandlewickError
from streaming.embedded_kafka import EmbeddedKafka
from streaming.monitor import Monitor
from streaming.settings import ExchangeSettings, KafkaSettings, Settings, TrainSettings
from streaming.up import System, environment, kafka, running
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


def test_environment_gives_a_child_these_very_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up --top 50` served the symbols of a `.env`, and the demo trained on the dataset of the settings around it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("CANDLEWICK_EXCHANGE__SYMBOLS=ETH/USDT\nCANDLEWICK_TRAIN__DATASET=/elsewhere\n")
    around = {"PATH": "/bin", "candlewick_train__dataset": "/elsewhere", "CANDLEWICK_KAFKA__SASL_PASSWORD": "secret"}
    around |= {"CANDLEWICK_BROKER__JAVA_HOME": "/java", "CANDLEWICK_CACHE_DIR": "/cache"}
    kafka = KafkaSettings(bootstrap_servers="one:1", sasl_password=SecretStr("secret"))
    wanted = Settings(
        kafka=kafka, exchange=ExchangeSettings(symbols="", top=50), train=TrainSettings(), data_dir=tmp_path
    )  # fmt: skip
    child = environment(wanted, around)
    assert child["PATH"] == "/bin"
    assert child["CANDLEWICK_CACHE_DIR"] == "/cache"
    assert [name for name, value in child.items() if "secret" in value] == ["CANDLEWICK_KAFKA__SASL_PASSWORD"]
    monkeypatch.setattr(os, "environ", child)
    assert Settings() == wanted


def test_environment_keeps_a_secret_that_stood_in_the_variable_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    around = {"CANDLEWICK_KAFKA": '{"sasl_username": "anna", "sasl_password": "secret", "bootstrap_servers": "one:1"}'}
    monkeypatch.setattr(os, "environ", around)
    wanted = Settings()
    monkeypatch.setattr(os, "environ", environment(wanted, around))
    assert Settings() == wanted
    assert wanted.kafka.sasl_password == SecretStr("secret")


def test_environment_yields_to_a_variable_of_one_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's commands are given Kafka's address beside it."""
    wanted = settings_of("one:1", "mine.", tmp_path)
    monkeypatch.setattr(os, "environ", environment(wanted, {}) | {"CANDLEWICK_KAFKA__BOOTSTRAP_SERVERS": "two:2"})
    assert Settings().kafka.bootstrap_servers == "two:2"
    assert Settings().topic("candles") == "mine.candles"


def test_kafka_whose_broker_died_says_why_instead_of_what_its_clients_met(tmp_path: Path) -> None:
    """With its disk full, the demo ended with "Is it up? Try again once it is"."""

    async def story() -> None:
        async with kafka(Settings(kafka=KafkaSettings(partitions=1), data_dir=tmp_path)) as (_, broker):
            assert broker is not None
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            raise KafkaConnectionError("Connection closed")

    with pytest.raises(CandlewickError, match="Kafka was killed from outside"):
        asyncio.run(story())


class SlowBroker(EmbeddedKafka):
    """Takes its time to stop, and is hurried by a second Ctrl-C meanwhile."""

    def __init__(self, hurry: Callable[[], object], left: threading.Event, told: list[str]) -> None:
        self._hurry, self._left, self._told = hurry, left, told

    def start(self) -> Self:
        return self

    def give_up(self) -> None:
        """Nothing is under way."""

    def stop(self) -> None:
        self._hurry()
        self._left.wait(0.3)  # who does not wait has left by then
        self._told.append("stopped")


def test_running_broker_is_left_only_once_it_has_ended_though_one_is_in_a_hurry() -> None:
    """Else the demo removes the folder of a broker that still writes."""
    told: list[str] = []

    async def story() -> None:
        left = threading.Event()
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        assert me is not None
        try:
            async with running(SlowBroker(lambda: loop.call_soon_threadsafe(me.cancel), left, told)):
                pass
        finally:
            told.append("left")
            left.set()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(story())
    assert told == ["stopped", "left"]
