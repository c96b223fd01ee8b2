"""What a process says of itself over HTTP."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any
from wsgiref import simple_server
from wsgiref.simple_server import WSGIServer

import pytest

from models.errors import CandlewickError
from streaming import health
from streaming.scrape import free_ports


def asked(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_health_of_roles_is_200_until_one_of_them_ails() -> None:
    port, ails = free_ports(1), {"ingest": None, "predict": None}  # type: tuple[int, dict[str, str | None]]
    health.serve(port, {role: lambda role=role: ails[role] for role in ails})  # type: ignore[misc]
    status, said = asked(port, "/health")
    assert (status, json.loads(said)) == (200, {"ok": True, "roles": {"ingest": "ok", "predict": "ok"}})
    ails["ingest"] = "the feed is dead"
    status, said = asked(port, "/health")
    assert (status, json.loads(said)["roles"]["ingest"]) == (503, "the feed is dead")
    status, said = asked(port, "/metrics")
    assert status == 200
    assert b"candlewick_" in said or b"python_info" in said


def test_metrics_are_those_of_the_roles_that_run() -> None:
    """A counter at 0 of a role that is not there would set off every alert on one that stands still."""
    port = free_ports(1)
    health.serve(port, {"monitor": lambda: None})
    _, said = asked(port, "/metrics")
    names = {name.decode() for name in re.findall(rb"^# TYPE (\w+)", said, re.MULTILINE)}
    assert {"python_info", "candlewick_outcomes_total", "candlewick_monitor_lag_records"} <= names
    assert not {"candlewick_candles_total", "candlewick_feed_alive", "candlewick_job_running"} & names


def test_health_listens_on_the_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    servers: list[WSGIServer] = []

    def make_server(*asked: Any) -> WSGIServer:
        servers.append(simple_server.make_server(*asked))
        return servers[-1]

    monkeypatch.setattr(health, "make_server", make_server)
    health.serve(free_ports(1), {})
    assert [server.server_address[0] for server in servers] == ["127.0.0.1"]


def test_health_on_a_port_that_is_taken_names_the_mend() -> None:
    port = free_ports(1)
    health.serve(port, {})
    with pytest.raises(CandlewickError, match="CANDLEWICK_METRICS_PORT"):
        health.serve(port, {})
