"""The compose file names what exists: no engine runs it here, so its references are checked one by one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from candlewick import main
from streaming.embedded_config import server_properties
from streaming.settings import Settings
from streaming.up import ROLES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of the file."""
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


def test_compose_depends_only_on_services_that_are_there(services: dict[str, Any]) -> None:
    wanted = {name for service in services.values() for name in service.get("depends_on", {})}
    assert wanted <= services.keys()


def test_compose_runs_every_role_and_only_commands_that_exist(services: dict[str, Any]) -> None:
    commands = [service["command"] for service in services.values() if service.get("image") == "candlewick"]
    assert {command[1] for command in commands if command[0] == "run"} == {*ROLES, "ingest"}
    for command in commands:
        assert CliRunner().invoke(main, [command[0], "--help"]).exit_code == 0


def test_compose_sets_only_settings_that_exist(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {
        name: value
        for service in services.values()
        for name, value in service["environment"].items()
        if name.startswith("CANDLEWICK_")
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    assert Settings().kafka.bootstrap_servers == "kafka:9092"


def test_image_copies_only_files_that_are_there() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for name in line.split()[:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)


def test_kafka_of_compose_is_set_as_one_node_must_be(services: dict[str, Any]) -> None:
    """By default the log of transactions wants three brokers: `ingest` would never write a candle."""
    environment = services["kafka"]["environment"]
    given = {name.removeprefix("KAFKA_").lower().replace("_", "."): str(value) for name, value in environment.items()}
    lines = server_properties(9092, 9093).splitlines()
    kept = re.compile(r"(offsets|transaction|log|auto)\S*(replication\.factor|min\.isr|retention\.\w+|topics\.enable)=")
    wanted = dict(line.split("=") for line in lines if kept.match(line))
    assert len(wanted) == 6
    assert wanted.items() <= given.items()


def test_compose_starts_what_failed_as_often_as_it_fails_and_after_a_reboot(services: dict[str, Any]) -> None:
    """`on-failure:5` counts over the whole life of a container, and lets it lie after a restart of the engine."""
    policies = {name: service.get("restart") for name, service in services.items() if name != "init"}
    assert set(policies.values()) == {"unless-stopped"}
    assert "container_name" in services["ingest"]  # two of them would end each other for ever
