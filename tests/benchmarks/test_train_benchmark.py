"""The benchmark of training runs and says its figures. Those of so little made-up training mean nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import NAMES
from benchmarks.figures import GOALS
from benchmarks.train import MARGIN, Study, figure_of, mean_curve, measure, seconds_until
from models.errors import CandlewickError
from tests.training.make_candles import START_MS, make_table, write_csv

TINY = Study(
    begin_ms=START_MS,
    days=2,
    lookback=8,
    hidden=4,
    rounds=1,
    timed_batches=(3, 3),
    seeds=1,
    epochs=(1, 1),
    checks=(2, 2),
    scored=50,
)
FALLING = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 3.0, 2.0, 2.1]])


def test_train_at_a_small_size_gives_its_figures(tmp_path: Path) -> None:
    folder = write_csv(make_table(1_800, ("AAA/USDT", "BBB/USDT")), tmp_path / "candles")
    figures = measure(replace(TINY, folder=folder))
    assert [figure.name for figure in figures] == ["train.targets_ratio", "train.cpu_ratio_equal_quality"]
    for figure in figures:
        assert json.loads(figure.as_json())["command"] == "python -m benchmarks train --json"
        assert math.isfinite(figure.value)
    assert figures[0].value > 0


def test_train_without_the_real_candles_says_where_they_are_missed(tmp_path: Path) -> None:
    with pytest.raises(CandlewickError, match="real candles are needed"):
        measure(replace(TINY, folder=tmp_path / "nowhere"))


@pytest.mark.parametrize(("aim", "seconds"), [(5.0, 1.0), (4.0, 1.5), (2.5, 2.5), (2.05, 2.95), (1.9, math.inf)])
def test_seconds_until_an_aim_lie_on_the_line_between_two_checks(aim: float, seconds: float) -> None:
    assert seconds_until(FALLING, aim) == pytest.approx(seconds)


def test_mean_curve_ends_where_the_first_seed_ends() -> None:
    mean = mean_curve([FALLING, FALLING[:, :2] + 1])
    np.testing.assert_allclose(mean, [[1.5, 2.5], [5.5, 3.5]])


def test_figure_of_is_the_ratio_of_times_to_half_a_percent_of_the_windows_best() -> None:
    slow = FALLING * [[10.0], [1.0]]
    figure = figure_of(FALLING, slow, seeds=1)
    assert figure.value == pytest.approx(10.0)
    assert f"{2.0 * MARGIN:.5f}" in figure.against
    worse = np.array([FALLING[0], FALLING[1] + 1.0])
    assert figure_of(worse, slow, seeds=1).value == 0  # never as good


def test_train_is_among_the_benchmarks_and_has_the_goals_of_the_design() -> None:
    assert "train" in NAMES
    assert {name: goal for name, goal in GOALS.items() if name.startswith("train.")} == {
        "train.targets_ratio": (30, 45, True),
        "train.cpu_ratio_equal_quality": (5, 12, True),
    }
