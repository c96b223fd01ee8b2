"""What a job asks of training: above all that what came last trains, for that is what the job is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.events import RetrainJob
from models.jobs import needed_bars
from models.policy import Policy
from streaming.job_options import history_bars, train_options
from streaming.settings import TrainSettings
from tests.models.make_bundle import make_spec
from training.split import MIN_ROWS, Fractions, Split, split_spread

MINUTE_MS = 60_000
SPEC = make_spec()
JOB = RetrainJob(job="a", model=SPEC.model, why="drift", asked_ms=0, train_until_ms=1, judge_until_ms=2)


def split_of(series: int, bars: int, lost: int = 0) -> Split:
    """The split that training makes of a job's candles; of each series so many bars more than usual give no row."""
    exported: dict[str, Any] = {"series": ["any"] * series, "candles": series * bars}
    words = train_options(JOB, SPEC, exported, TrainSettings())
    shares = Fractions(*map(float, words[words.index("--split") + 1].split(",")))
    rows = np.zeros(bars, int)
    rows[SPEC.warm_up_bars + SPEC.lookback_bars - 1 + lost : bars - SPEC.horizon_bars] = series
    return split_spread(rows, shares, SPEC.horizon_bars)


@pytest.mark.parametrize("bars", [5_000, 20_160, 43_200, 131_400])
@pytest.mark.parametrize("series", [10, 100])
def test_train_options_of_any_history_let_all_but_the_newest_forty_bars_train(bars: int, series: int) -> None:
    train = split_of(series, bars).train
    assert bars - train.stop <= 40
    assert train.holds(np.arange(bars))[train.stop - Policy().min_new_bars : train.stop].all()


@pytest.mark.parametrize(("bars", "lost"), [(2_700, 0), (5_000, 2_000), (131_400, 0), (131_400, 100_000)])
def test_train_options_of_a_single_series_leave_just_the_rows_to_test_on_that_a_span_must_have(
    bars: int, lost: int
) -> None:
    split = split_of(1, bars, lost)
    assert split.test.slots == MIN_ROWS
    assert bars - split.train.stop == MIN_ROWS + 2 * SPEC.horizon_bars


def test_history_of_few_series_is_what_is_wanted_and_of_many_what_fits_into_memory() -> None:
    usual = TrainSettings()
    assert {history_bars(SPEC, series, usual) for series in (0, 1, 60)} == {usual.history_bars}
    held = [history_bars(SPEC, series, usual) * series for series in (100, 200, 400)]
    assert max(held) - min(held) < 400  # candles in all
    assert held[0] * 300 < 3_000 << 20
    assert history_bars(SPEC, 200, TrainSettings(memory_mb=8_192)) > 2 * history_bars(SPEC, 200, usual)


@pytest.mark.parametrize("memory_mb", [256, 1_400, 2_000])
def test_history_is_never_less_than_training_needs(memory_mb: int) -> None:
    assert history_bars(SPEC, 5_000, TrainSettings(memory_mb=memory_mb)) == needed_bars(SPEC)
