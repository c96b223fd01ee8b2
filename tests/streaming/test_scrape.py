"""Ports for a role's metrics, chosen before the role is there to take them."""

from __future__ import annotations

import socket

import pytest

from models.errors import CandlewickError
from streaming import scrape
from streaming.scrape import free_ports


def test_free_ports_lie_side_by_side_below_the_ephemeral_range() -> None:
    """Above, one connection of the demo itself could take a port until its role had failed six times."""
    first = free_ports(3)
    assert 1024 < first < first + 2 < 20_000
    for port in range(first, first + 3):
        socket.create_server(("127.0.0.1", port)).close()


def test_free_ports_none_left_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_ports(1))) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(scrape, "_PORTS", range(port, port + 1))
        monkeypatch.setattr(scrape, "TRIES", 1)
        with pytest.raises(CandlewickError, match="found no 1 free ports side by side"):
            free_ports(1)
