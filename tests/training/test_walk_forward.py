from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import CandlewickError
from training.folds import Schedule, Window, walk_forward
from training.walk_forward import Grid, Scores, Swap, gather, needed, serving, tables, trials

HOUR_MS = 3_600_000
DAY = 24  # slots
GRID = Grid(HOUR_MS, 3, 7 * DAY, HOUR_MS * np.arange(1, 300 * DAY, dtype=np.int64))


def weeks(count: int) -> list[Window]:
    """A window a week of hours, on one series."""
    rows = np.ones((10 + count) * 7 * DAY, int)
    return walk_forward(rows, Schedule(10 * 7 * DAY, 7 * DAY, 3))


def slots_of(windows: list[Window]) -> list[NDArray[np.int64]]:
    return [np.arange(window.test.first, window.test.stop) for window in windows]


def made_up(windows: list[Window], loss_a_week: float = 0.01) -> dict[tuple[int, int], Scores]:
    """Every bundle on every later step: the older, the worse; HAR is always 1.2 of a fresh one."""
    rng = np.random.default_rng(0)
    scores = {}
    for number, window in enumerate(windows):
        mood = rng.gamma(4.0, 0.25, window.test.slots)
        for bundle in range(number + 1):
            own = mood * (1 + loss_a_week * (number - bundle))
            scores[bundle, number] = Scores(own, np.ones_like(own), 1.2 * mood)
    return scores


@pytest.mark.parametrize("judge_bars", [100, 7 * DAY, 10 * DAY, 20 * DAY])
def test_trials_judge_after_all_that_the_challenger_knows_and_serve_after_all_that_was_judged(judge_bars: int) -> None:
    windows = weeks(8)
    found = trials(windows, judge_bars, 3)
    assert [trial.challenger for trial in found] == list(range(1, 8))[: len(found)]
    assert windows[-1].test.stop - 7 * DAY - judge_bars <= found[-1].stop < windows[-1].test.stop
    for trial in found:
        known = windows[trial.challenger]
        assert known.learned.stop + 3 <= known.cut == trial.first
        assert trial.stop == trial.first + judge_bars
        swaps = [Swap(earlier.stop, earlier.challenger) for earlier in found if earlier.stop <= trial.stop]
        champion = int(serving(swaps[:-1], np.array([trial.stop - 1]))[0])
        assert windows[champion].cut < trial.first  # it has not seen the judged bars either
        assert serving(swaps, np.array([trial.stop - 1, trial.stop])).tolist() == [champion, trial.challenger]


def test_trials_on_fewer_bars_than_the_gate_can_judge_are_refused() -> None:
    with pytest.raises(CandlewickError, match="--judge-bars 83 are too few: the gate needs 84"):
        trials(weeks(3), 83, 3)


def test_serving_before_any_swap_is_the_first_bundle() -> None:
    slot = np.array([5, 10, 11, 30])
    assert serving([], slot).tolist() == [0, 0, 0, 0]
    assert serving([Swap(11, 2), Swap(30, 5)], slot).tolist() == [0, 0, 2, 5]


def test_gather_takes_each_row_from_the_bundle_that_serves_it() -> None:
    windows = weeks(4)
    slots, scores = slots_of(windows), made_up(weeks(4))
    swap = Swap(windows[2].cut + 50, 1)
    assert needed(slots, [swap]) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)}
    walked = gather(windows, slots, scores, [swap])
    of_two = walked.range["gated"][walked.window == 2]
    np.testing.assert_array_equal(of_two[:50], scores[0, 2].range[:50])
    np.testing.assert_array_equal(of_two[50:], scores[1, 2].range[50:])
    np.testing.assert_array_equal(walked.range["retrained"][walked.window == 3], scores[3, 3].range)
    np.testing.assert_array_equal(walked.range["once"][walked.window == 3], scores[0, 3].range)
    assert walked.age_bars["retrained"].max() == 7 * DAY - 1
    assert walked.age_bars["once"].max() == 4 * 7 * DAY - 1
    assert walked.age_bars["gated"][-1] == 3 * 7 * DAY - 1


def test_gather_with_a_score_missing_is_no_table() -> None:
    windows = weeks(3)
    scores = made_up(windows)
    del scores[0, 2]
    with pytest.raises(KeyError):
        gather(windows, slots_of(windows), scores, None)


def test_tables_of_26_weeks_show_the_planted_cost_of_age() -> None:
    windows = weeks(26)
    walked = gather(windows, slots_of(windows), made_up(windows), [Swap(windows[13].cut, 12)])
    found = tables(walked, windows, GRID)
    assert found["policies"] == ["once", "retrained", "gated"]
    assert [(row["from_days"], row["until_days"]) for row in found["ages"]] == [
        (0, 42),
        (42, 84),
        (84, 126),
        (126, 182),
    ]
    by_age = [row["range"]["retrained"]["vs_once"] for row in found["ages"]]
    assert [row["value"] for row in by_age] == sorted((row["value"] for row in by_age), reverse=True)
    assert by_age[3]["value"] == pytest.approx(1 / 1.215, abs=0.003)
    assert by_age[3]["low"] < by_age[3]["value"] < by_age[3]["high"] < by_age[2]["low"]
    assert found["ages"][0]["range"]["gated"]["vs_once"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["windows"][20]["range"]["retrained"]["vs_once"]["value"] == pytest.approx(1 / 1.2)
    assert found["windows"][20]["range"]["gated"]["vs_once"]["value"] == pytest.approx(1.08 / 1.2)
    assert found["windows"][20]["age_days"] == pytest.approx({"once": 143.5, "retrained": 3.5, "gated": 59.5}, abs=0.1)
    assert found["pooled"]["range"]["retrained"]["vs_har"]["value"] == pytest.approx(1 / 1.2)
    assert found["pooled"]["return"]["retrained"]["vs_once"]["value"] == 1.0
    assert found["pooled"]["rows"] == 26 * 7 * DAY


def test_tables_without_a_gate_and_with_few_windows_have_an_age_row_a_step() -> None:
    windows = weeks(2)
    found = tables(gather(windows, slots_of(windows), made_up(windows), None), windows, GRID)
    assert found["policies"] == ["once", "retrained"]
    assert [row["from_days"] for row in found["ages"]] == [0, 7]
    assert found["windows"][0]["range"]["retrained"]["vs_once"]["value"] == 1.0
