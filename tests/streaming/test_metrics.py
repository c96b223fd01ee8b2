"""Metrics as alerts find them: what docs/operate.md asks of Prometheus is there before anything has happened."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

from prometheus_client.metrics import MetricWrapperBase

from models.events import Drift
from streaming import metrics
from streaming.commits import Commits
from streaming.pool import ScoresOwner, _show
from streaming.settings import Settings

OPERATE = Path(__file__).parents[2] / "docs" / "operate.md"
OF_A_MODEL = {f"candlewick_{name}" for name in ("signals_total", "epoch", "pooled_closes_total", "drift_events_total")}
"""Nobody knows at the start which models there will be."""
READINGS = {("watched-1m", "range_coverage"): 0.8}
FRESH = """
from prometheus_client import generate_latest
from streaming.metrics import OF_ROLE
print("".join(generate_latest(registry).decode() for registry in OF_ROLE.values()))
"""


def selectors() -> list[tuple[str, list[tuple[str, str]]]]:
    """Every metric that an alert of the page names, with the values that it asks of labels, one at a time."""
    alerts = " ".join(re.findall(r"^\| `(.*?)` .*\|", OPERATE.read_text(), re.MULTILINE))
    found = []
    for name, labels in re.findall(r"(candlewick_\w+)(?:\{(.*?)\})?", alerts):
        pairs = re.findall(r'(\w+)=~?"(.*?)"', labels)
        found.append((name, [(label, value) for label, values in pairs for value in values.split(r"\|")]))
    return found


def series(metric: MetricWrapperBase) -> list[dict[str, str]]:
    """The labels of its series."""
    return [sample.labels for family in metric.collect() for sample in family.samples]


def test_alerts_of_the_page_find_their_series_before_the_first_event() -> None:
    """`increase` of a counter whose series begins at 1 is 0: the alert on it would sleep through the first event."""
    fresh = [sys.executable, "-c", FRESH]
    said = subprocess.run(fresh, cwd=OPERATE.parents[1], capture_output=True, text=True, check=True).stdout.splitlines()
    asked = selectors()
    assert len(asked) > 15
    for name, labels in asked:
        of_name = [line for line in said if line.startswith((f"{name} ", f"{name}{{"))]
        if name in OF_A_MODEL:
            assert any(line.startswith(f"# TYPE {name} ") for line in said), name
            continue
        assert of_name, name
        for label, value in labels:
            assert any(f'{label}="{value}"' in line for line in of_name), (name, value)


def test_drift_of_a_watched_model_is_counted_from_0_at_every_level() -> None:
    _show(READINGS)
    levels = {labels["level"] for labels in series(metrics.drift_events) if labels["model"] == "watched-1m"}
    assert levels == set(get_args(get_type_hints(Drift)["level"]))


def test_owner_that_loses_scores_says_nothing_more_of_the_detectors() -> None:
    """Else two processes tell of one detector, and the one that lost it says the same for ever."""
    owner = ScoresOwner(Settings(), producer=None, follower=None)  # type: ignore[arg-type]
    owner._commits = Commits(None, "scores")
    _show(READINGS)
    asyncio.run(owner.assigned([]))
    assert series(metrics.drift_statistic) == []
