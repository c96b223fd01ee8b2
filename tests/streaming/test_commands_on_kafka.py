"""The commands that work on topics, as a script calls them, on real Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from click.testing import CliRunner, Result

from candlewick import main
from models.events import decode_candle
from streaming.clients import new_admin, new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.read import read_topic
from streaming.settings import KafkaSettings, Settings
from tests.models.make_bundle import make_bundle

Candlewick = Callable[..., Result]
HEADER = "timestamp_ms,symbol,open,high,low,close,volume\n"
MINUTE_MS = 60_000


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Topics of the test's own on the shared broker, also for the commands it calls."""
    monkeypatch.setenv("CANDLEWICK_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("CANDLEWICK_KAFKA__TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("CANDLEWICK_KAFKA__PARTITIONS", "2")
    monkeypatch.chdir(tmp_path)
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap, topic_prefix=topic_prefix, partitions=2),
        data_dir=tmp_path,
    )


@pytest.fixture
def candlewick(settings: Settings) -> Candlewick:
    """Call the command line."""
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


def said(result: Result) -> dict[str, Any]:
    """The one JSON object that a command printed."""
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def write_candles(path: Path, minutes: list[int]) -> Path:
    """A file of one symbol with candles at these minutes."""
    rows = [f"{minute * MINUTE_MS},BTCUSDT,100,101,99,100.5,{minute}" for minute in minutes]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_init_creates_every_topic_once(candlewick: Candlewick) -> None:
    assert len(said(candlewick("init", "--json"))["created"]) == 11
    assert said(candlewick("init", "--json"))["created"] == []


def test_init_refuses_other_partitions_and_retention_naming_topic_and_mend(
    candlewick: Candlewick, settings: Settings
) -> None:
    name = settings.topic("candles")

    async def make() -> None:
        async with started(new_admin(settings)) as admin:
            await admin.create_topics([NewTopic(name, 3, 1, topic_configs={"retention.ms": "604800000"})])
            while name not in await admin.list_topics():  # within the test's time
                await asyncio.to_thread(lambda: None)

    asyncio.run(make())
    refused = candlewick("init")
    assert refused.exit_code == 1
    assert f"{name} has 3 partitions instead of 2" in refused.stderr
    assert f"--entity-name {name} --add-config retention.ms=-1" in refused.stderr


def test_replay_resumes_after_the_tail_and_declares_gaps_absent(
    candlewick: Candlewick, settings: Settings, tmp_path: Path
) -> None:
    said(candlewick("init", "--json"))
    first = write_candles(tmp_path / "first.csv", [10, 11, 13])
    done = said(candlewick("replay", first, "--timeframe", "1m", "--json"))
    assert (done["candles"], done["absent"], done["left_out"]) == (3, 1, 0)
    both = write_candles(tmp_path / "both.csv", [12, 13, 16, 17])  # 12 comes too late, 14 and 15 are missing
    done = said(candlewick("replay", both, "--timeframe", "1m", "--json"))
    assert (done["candles"], done["absent"], done["left_out"]) == (2, 2, 2)

    async def read() -> list[tuple[int, bool]]:
        records = [record async for record in read_topic(settings, "candles")]
        candles = [decode_candle(record.value) for record in records]
        assert all(record.timestamp == candle.close_time_ms for record, candle in zip(records, candles, strict=True))
        return [(candle.open_time_ms // MINUTE_MS, candle.absent) for candle in candles]

    assert asyncio.run(read()) == [
        (10, False), (11, False), (12, True), (13, False), (14, True), (15, True), (16, False), (17, False),
    ]  # fmt: skip


def test_models_are_published_once_activated_by_default_and_rolled_back(candlewick: Candlewick, tmp_path: Path) -> None:
    said(candlewick("init", "--json"))
    files = [tmp_path / name for name in ("one", "two")]
    for seed, file in enumerate(files):
        file.write_bytes(make_bundle(seed=seed, trained_until_ms=5 * MINUTE_MS))
    one = said(candlewick("models", "publish", files[0], "--json"))
    assert one["sent"] is True
    assert said(candlewick("models", "publish", files[0], "--json")) == {"bundle": one["bundle"], "sent": False}
    two = said(candlewick("models", "publish", files[1], "--json"))

    first = said(candlewick("models", "activate", one["bundle"][:10], "--force", "--json"))
    assert first["effective_from_ms"] == 5 * MINUTE_MS  # where its training ended
    candles = write_candles(tmp_path / "candles.csv", [10, 11])
    said(candlewick("replay", candles, "--timeframe", "1m", "--json"))
    second = said(candlewick("models", "activate", files[1], "--force", "--json"))
    assert second["bundle"] == two["bundle"]
    assert second["effective_from_ms"] == 13 * MINUTE_MS  # the newest close is 12
    back = said(candlewick("models", "rollback", "default-1m", "--json"))
    assert (back["bundle"], back["epoch"] > second["epoch"]) == (one["bundle"], True)

    listed = candlewick("models", "list", "--json")
    epochs = [json.loads(line)["epoch"] for line in listed.stdout.splitlines()]
    assert epochs == [first["epoch"], second["epoch"], back["epoch"]]
    assert said(candlewick("models", "show", two["bundle"], "--json"))["model"] == "default-1m"


def test_models_activate_without_force_is_refused_since_only_the_gate_may(candlewick: Candlewick) -> None:
    refused = candlewick("models", "activate", "abc")
    assert refused.exit_code == 1
    assert "--force" in refused.stderr


@pytest.mark.parametrize("name", ["00000000", "nowhere.safetensors"])
def test_models_activate_of_a_bundle_that_is_not_there_names_the_mend(candlewick: Candlewick, name: str) -> None:
    said(candlewick("init", "--json"))
    refused = candlewick("models", "activate", name, "--force")
    assert refused.exit_code == 1
    assert "candlewick models publish" in refused.stderr


def test_dead_letters_list_gives_each_once_though_written_twice(candlewick: Candlewick, settings: Settings) -> None:
    said(candlewick("init", "--json"))
    letter = {"v": 1, "value_base64": "eA==", "key_base64": None, "reason": "not JSON", "topic": "candles",
              "partition": 1, "offset": 7}  # fmt: skip

    async def write() -> None:
        async with started(new_producer(settings)) as producer:
            for _ in range(2):
                await producer.send_and_wait(settings.topic("dead-letters"), json.dumps(letter).encode())

    asyncio.run(write())
    lines = candlewick("dead-letters", "list", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [letter]
