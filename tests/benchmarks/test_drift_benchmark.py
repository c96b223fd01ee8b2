"""The drift benchmark trains, serves, watches, and says its figures. Those of made-up candles mean nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.drift import Period, Study, measure
from benchmarks.figures import GOALS
from models.errors import CandlewickError
from tests.training.make_candles import MINUTE_MS, START_MS, make_table, write_csv

TRAINED, WATCHED = 2_300, 400  # bars


@pytest.fixture
def here() -> Iterator[Executor]:
    """This process does the work: a new one would import torch again."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def small_study(folder: Path) -> Study:
    begin, end = (START_MS + bars * MINUTE_MS for bars in (TRAINED, TRAINED + WATCHED))
    middle = (begin + end) // 2
    calm = Period("candles/*.csv", begin, begin, end, end, epochs=1)
    periods = (calm, replace(calm, change_ms=middle, injected=True), replace(calm, change_ms=middle), replace(calm))
    return Study(seeds=1, phases=(0,), periods=periods, data=folder, kept=folder / "kept", code="as it is")


def test_drift_at_a_small_size_gives_its_figures_and_keeps_its_bundles(tmp_path: Path, here: Executor) -> None:
    write_csv(make_table(TRAINED + WATCHED, ("AAA/USDT",)), tmp_path / "candles")
    study = small_study(tmp_path)
    first = measure(study, here)
    kept = list(study.kept.rglob("*.safetensors"))
    assert len(kept) == 1  # four periods share what they were trained on
    assert {figure.name for figure in first} == {
        "drift.alarms_per_10k", "drift.hours_2020", "drift.hours_2024", "drift.injected_minutes",
    }  # fmt: skip
    for figure in first:
        assert json.loads(figure.as_json())["command"] == "python -m benchmarks drift --json"
        assert figure.value >= 0
    made_ns = kept[0].stat().st_mtime_ns
    assert measure(study, here) == first
    assert kept[0].stat().st_mtime_ns == made_ns


def test_drift_without_the_real_candles_says_where_they_are_missed(tmp_path: Path, here: Executor) -> None:
    with pytest.raises(CandlewickError, match="real candles are needed"):
        measure(small_study(tmp_path), here)


def test_drift_is_among_the_benchmarks_and_has_the_goals_of_the_design() -> None:
    assert "drift" in NAMES
    assert {name: goal[:2] for name, goal in GOALS.items() if name.startswith("drift.")} == {
        "drift.alarms_per_10k": (2, 1), "drift.hours_2020": (3, 2), "drift.hours_2024": (12, 8),
    }  # fmt: skip
