"""How long a job waits for its candles."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from streaming.embedded_kafka import EmbeddedKafka
from streaming.reach import NeverReached, reach
from streaming.settings import TrainSettings
from streaming.topics import init_topics
from tests.e2e.system import run, settings_of

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
NOW_MS = 1_750_032_000_000


@pytest.mark.parametrize(("due_days", "waits_days"), [(60, 90), (0, 30), (-700, 30)])
def test_reach_has_the_same_patience_whether_a_close_is_past_or_still_to_come(
    due_days: int, waits_days: int, kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings = settings_of(kafka.bootstrap, topic_prefix, tmp_path, partitions=1)
    settings = settings.model_copy(update={"train": TrainSettings(poll_s=0.001, patience_days=30)})
    run(init_topics(settings))
    days = itertools.count()  # every look at the clock is a day later
    clock = SimpleNamespace(monotonic=lambda: next(days) * 86_400.0, time_ns=lambda: NOW_MS * 1_000_000)
    monkeypatch.setattr("streaming.reach.time", clock)
    with pytest.raises(NeverReached, match="within 30 days of when they were due"):
        run(reach(settings, HOUR_MS, NOW_MS + due_days * DAY_MS))
    assert next(days) == waits_days + 1
