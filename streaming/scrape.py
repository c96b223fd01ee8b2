"""A role's own metrics, read over loopback for the terminal view.

Enters: a port. Leaves: counters and quantiles of histograms. Does not know: what they are shown beside.
"""

from __future__ import annotations

import asyncio
import random
import socket
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from models.errors import CandlewickError

TIMEOUT_S = 1.0
TRIES = 50
_PORTS = range(12_000, 20_000)
"""Below every system's ephemeral range, where an outgoing connection may take a port before the role has it; and apart
from those of the embedded broker."""


@dataclass(frozen=True)
class Scrape:
    """One reading; empty when the role did not answer."""

    totals: dict[str, float] = field(default_factory=dict)  # summed over labels
    buckets: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # upper bound, cumulative count

    def quantile(self, name: str, q: float) -> float | None:
        """The upper bound of the bucket that holds this quantile."""
        buckets = self.buckets.get(name)
        if not buckets or not buckets[-1][1]:
            return None
        wanted = q * buckets[-1][1]
        return next(bound for bound, count in buckets if count >= wanted)


async def scrape(port: int) -> Scrape:
    """Read `/metrics` of 127.0.0.1."""
    try:
        return await asyncio.to_thread(_read, port)
    except OSError:
        return Scrape()  # not up yet, or restarting


def _read(port: int) -> Scrape:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_S) as answer:
        text = answer.read().decode()
    totals: dict[str, float] = {}
    buckets: dict[str, list[tuple[float, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                buckets.setdefault(family.name, []).append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_total"):
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return Scrape(totals, buckets)


def free_ports(count: int) -> int:
    """The first of so many ports of 127.0.0.1, one after another, that nobody listens on now.

    Raises:
        CandlewickError: none were found.
    """
    for port in random.sample(_PORTS[: 1 - count or None], TRIES):
        with ExitStack() as held, suppress(OSError):
            for each in range(port, port + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", each))
            return port
    raise CandlewickError(f"found no {count} free ports side by side; is this machine out of them?")
