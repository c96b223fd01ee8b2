from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.drift import MAX_ERA_CLOSES
from models.events import Drift, RetrainJob, Scores
from models.policy import Job, Policy
from models.watch import Surroundings, Watch
from tests.models.candle_records import MINUTE, laws

START = 1_700_000_040_000
ALONE = Surroundings({}, {})
POLICY = Policy(min_new_bars=60, judge_bars=60)


def log(closes: int, change: int, back: int, seed: int = 0) -> list[Scores]:
    """Pooled closes of two models, the second on the first one's heels; coverage falls and comes back."""
    rng, made = Random(seed), []
    for close in range(closes):
        for model, bundle in (("default-1m", "a" * 64), ("other-1m", ("b" if close < closes // 2 else "c") * 64)):
            good = 0.3 if change <= close < back else 0.8
            covered = [sum(rng.random() < good for _ in range(20)) for _ in range(2)]
            made.append(
                Scores(
                    model=model,
                    bundle=bundle,
                    epoch=7,
                    timeframe="1m",
                    horizon_bars=3,
                    target_time_ms=START + close * MINUTE,
                    partition=None,
                    outcomes=20,
                    return_crps=8.0,
                    return_crps_ewma=8.2,
                    range_crps=4.0,
                    range_crps_har=4.2,
                    return_pit=10.0,
                    range_pit=10.0,
                    return_covered=covered[0],
                    range_covered=covered[1],
                )
            )
    return made


LOG = log(closes=900, change=300, back=450)


def folded(watch: Watch, records: list[Scores], start: int = 0) -> list[Drift]:
    return [drift for at, one in enumerate(records, start) for drift in watch.fold(at, one, ALONE)]


def test_watch_of_a_change_tells_drift_asks_for_one_job_a_model_and_tells_recovery() -> None:
    drifts = folded(Watch(POLICY), LOG)
    for model in ("default-1m", "other-1m"):
        mine = [drift for drift in drifts if drift.model == model]
        levels = [drift.level for drift in mine if drift.level != "warning"]
        assert levels[0] == "drift"
        assert "recovered" in levels
        (job,) = [drift.job for drift in mine if drift.job is not None]
        assert job.train_until_ms - job.asked_ms == POLICY.min_new_bars * MINUTE
    assert {(drift.decision == "retrain") for drift in drifts if drift.job} == {True}


def test_watch_of_calm_closes_says_nothing_of_level_drift() -> None:
    drifts = folded(Watch(POLICY), log(closes=900, change=0, back=0))
    assert [drift for drift in drifts if drift.level == "drift"] == []


@hypothesis_settings(laws, max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_watch_killed_anywhere_and_rebuilt_from_what_its_commit_remembers_says_the_same_and_nothing_twice(
    seed: int,
) -> None:
    rng = Random(seed)
    wanted, said = folded(Watch(POLICY), LOG), []
    watch, at = Watch(POLICY), 0
    committed: tuple[int, int, dict[str, int]] = (0, 0, {})  # position, rewind, eras
    while at < len(LOG):
        here = min(len(LOG), at + rng.randint(1, 400))
        said += [drift for offset in range(at, here) for drift in watch.fold(offset, LOG[offset], ALONE)]
        at = here
        if rng.random() < 0.7:
            committed = (at, watch.rewind_offset(at), watch.eras)
        if rng.random() < 0.5:
            resume, start, eras = committed
            watch, at = Watch(POLICY, said, eras), start
            for offset in range(start, resume):
                assert watch.fold(offset, LOG[offset], None) == []
            at = resume
    assert said == wanted


def test_rewind_offset_of_watch_holds_back_what_was_wanted_from_earlier() -> None:
    """Partial sums of closes to come may lie before the record that begins the detectors' era."""
    watch = Watch(POLICY)
    watch.fold(5, LOG[0], ALONE)
    assert (watch.rewind_offset(2), watch.rewind_offset(7)) == (2, 5)


def test_watch_forgets_a_model_that_nobody_serves_any_more() -> None:
    watch = Watch(POLICY)
    gone, living = LOG[0], LOG[1]
    watch.fold(0, gone, ALONE)
    for at, close in enumerate((0, MAX_ERA_CLOSES), 1):
        watch.fold(at, msgspec.structs.replace(living, target_time_ms=START + close * MINUTE), ALONE)
    assert (set(watch.eras), watch.rewind_offset(3)) == ({gone.model, living.model}, 0)
    late = msgspec.structs.replace(living, target_time_ms=START + (MAX_ERA_CLOSES + 1) * MINUTE)
    watch.fold(3, late, ALONE)
    assert (set(watch.eras), watch.rewind_offset(4)) == ({living.model}, 1)


def test_watch_counts_the_silence_of_a_model_in_closes_of_its_own() -> None:
    watch, day_ms = Watch(POLICY), 1_440 * MINUTE
    daily = msgspec.structs.replace(LOG[0], timeframe="1d")
    watch.fold(0, daily, ALONE)
    for at, close in enumerate((0, MAX_ERA_CLOSES + 1), 1):
        watch.fold(at, msgspec.structs.replace(LOG[1], target_time_ms=START + close * MINUTE), ALONE)
    assert set(watch.eras) == {daily.model, LOG[1].model}
    watch.fold(3, msgspec.structs.replace(daily, target_time_ms=START + 15 * day_ms), ALONE)
    assert watch.eras[daily.model] == START  # its detectors remember


def test_watch_knows_jobs_that_others_asked_for() -> None:
    job = RetrainJob(
        job="by-hand", model="default-1m", why="person", asked_ms=START + 250 * MINUTE,
        train_until_ms=START + 300 * MINUTE, judge_until_ms=START + 900 * MINUTE,
    )  # fmt: skip
    around = Surroundings({"default-1m": (Job(job, "open"),)}, {})
    watch = Watch(POLICY)
    drifts = [drift for at, one in enumerate(LOG) for drift in watch.fold(at, one, around)]
    mine = [drift for drift in drifts if drift.model == "default-1m" and drift.level == "drift"]
    assert mine
    assert {drift.job for drift in mine} == {None}
    assert "by-hand" in mine[0].reason


def test_watch_challenges_an_old_champion_on_schedule_once() -> None:
    trained = {"a" * 64: START - 8 * 86_400_000, "b" * 64: START, "c" * 64: START}
    watch, around = Watch(POLICY), Surroundings({}, trained)
    calm = log(closes=200, change=0, back=0)
    drifts = [drift for at, one in enumerate(calm) for drift in watch.fold(at, one, around)]
    (drift,) = [drift for drift in drifts if drift.job is not None]
    assert (drift.model, drift.level, drift.target_time_ms) == ("default-1m", "schedule", START)
    assert drift.statistic == pytest.approx(8.0)
