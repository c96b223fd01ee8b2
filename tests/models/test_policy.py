"""A job, or a reason why not: from the alarm, the champion's age, the jobs so far and the cool-down."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from models.drift import Alarm
from models.events import RetrainJob, decode_drift, decode_job, encode
from models.jobs import patience_ms, why_refused
from models.policy import DAY_MS, HOUR_MS, Job, Policy, Situation, decide, drift_record
from models.series import timeframe_ms
from streaming.settings import TrainSettings
from tests.models.make_bundle import make_spec
from tests.models.make_scores import make_scores

MINUTE_MS = 60_000
NOW_MS = 1_747_526_400_000
POLICY = Policy()
ALARM = Alarm("range_coverage", "drift", NOW_MS, 0.52, 0.81, NOW_MS - HOUR_MS)


def make_situation(**other: Any) -> Situation:
    usual = Situation("default-1m", MINUTE_MS, 3, "b" * 64, NOW_MS - DAY_MS, NOW_MS)
    return usual._replace(**other)


def make_job(asked_ms: int, state: Literal["open", "promoted", "refused", "failed"] = "refused") -> Job:
    until_ms = asked_ms + 6 * HOUR_MS
    dates = {"asked_ms": asked_ms, "train_until_ms": until_ms, "judge_until_ms": until_ms + 6 * HOUR_MS}
    return Job(RetrainJob(job=f"drift-{asked_ms}", model="default-1m", why="drift", **dates), state)


def test_decide_on_an_alarm_of_drift_asks_for_the_closes_after_it_to_train_and_then_to_judge() -> None:
    job = decide(ALARM, make_situation(), POLICY).job
    assert job is not None
    assert (job.model, job.why, job.asked_ms) == ("default-1m", "drift", NOW_MS)
    assert job.train_until_ms == NOW_MS + 360 * MINUTE_MS
    assert job.judge_until_ms == NOW_MS + 720 * MINUTE_MS


def test_decide_counts_bars_of_its_own_timeframe() -> None:
    job = decide(ALARM, make_situation(timeframe_ms=5 * MINUTE_MS), Policy(min_new_bars=100, judge_bars=90)).job
    assert job is not None
    assert job.train_until_ms == NOW_MS + 500 * MINUTE_MS
    assert job.judge_until_ms == NOW_MS + 950 * MINUTE_MS


@pytest.mark.parametrize("horizon", [1, 3, 12, 13, 60])
@pytest.mark.parametrize("timeframe", ["1m", "15m", "1h", "2h", "4h", "1d"])
@pytest.mark.parametrize("policy", [POLICY, Policy(min_new_bars=60, judge_bars=60)], ids=["usual", "hasty"])
def test_decide_of_any_horizon_and_timeframe_asks_for_what_a_trainer_takes_and_has_the_patience_for(
    horizon: int, timeframe: str, policy: Policy
) -> None:
    length_ms = timeframe_ms(timeframe)
    spec = make_spec(horizon_bars=horizon, timeframe_ms=length_ms, trained_until_ms=NOW_MS - DAY_MS)
    job = decide(ALARM, make_situation(timeframe_ms=length_ms, horizon_bars=horizon), policy).job
    assert job is not None
    assert why_refused(job, spec, 0, NOW_MS) == ""
    patience_days_ms = int(TrainSettings().patience_days * DAY_MS)
    assert patience_ms(job.train_until_ms, NOW_MS, patience_days_ms) > job.train_until_ms - NOW_MS
    assert patience_ms(NOW_MS - 900 * DAY_MS, NOW_MS, patience_days_ms) == patience_days_ms  # of a replay
    assert job.train_until_ms - NOW_MS >= 4 * horizon * length_ms


def test_decide_twice_asks_for_one_job() -> None:
    first, second = (decide(ALARM, make_situation(), POLICY).job for _ in range(2))
    assert first == second
    assert first is not None
    later = decide(ALARM, make_situation(now_ms=NOW_MS + MINUTE_MS), POLICY).job
    other = decide(ALARM, make_situation(bundle="c" * 64), POLICY).job
    assert later is not None
    assert other is not None
    assert len({first.job, later.job, other.job}) == 3
    assert first.seed != later.seed


@pytest.mark.parametrize("model", ["default-1m", "x" * 64, "A.B_c-1"])
def test_decide_gives_jobs_that_the_topic_takes(model: str) -> None:
    job = decide(ALARM, make_situation(model=model, now_ms=2**52), POLICY).job
    assert job is not None
    assert decode_job(encode(job)) == job


@pytest.mark.parametrize("level", ["warning", "recovered"])
def test_decide_on_anything_but_drift_asks_for_nothing(level: Literal["warning", "recovered"]) -> None:
    alarm = Alarm("range_pit", level, NOW_MS, 0.6, 0.5, NOW_MS)
    decision = decide(alarm, make_situation(trained_until_ms=0), POLICY)
    assert decision == (None, f"{level}: nothing to train for", alarm)


@pytest.mark.parametrize(("hours", "asks"), [(1, False), (23.9, False), (24, True)])
def test_decide_during_the_cool_down_says_how_long_it_lasts(hours: float, asks: bool) -> None:
    decision = decide(ALARM, make_situation(jobs=(make_job(NOW_MS - int(hours * HOUR_MS)),)), POLICY)
    assert (decision.job is not None) == asks
    assert asks or decision.reason == f"cool-down: {24 - hours:.1f} h to go"
    assert decision.about == ALARM


def test_decide_while_a_job_is_open_waits_for_it_until_it_lapses() -> None:
    policy = Policy(cool_down_ms=0, lapse_ms=2 * HOUR_MS)
    jobs = (make_job(NOW_MS - 13 * HOUR_MS, "open"),)  # judged until an hour ago
    waiting = decide(ALARM, make_situation(jobs=jobs), policy)
    assert waiting.job is None
    assert waiting.reason == f"job {jobs[0].job.job} has not ended"
    assert decide(ALARM, make_situation(jobs=jobs, now_ms=NOW_MS + HOUR_MS), policy).job is not None
    assert decide(ALARM, make_situation(jobs=jobs), Policy(cool_down_ms=0, max_open_jobs=2)).job is not None


def test_decide_where_the_champion_learned_from_later_candles_asks_for_nothing() -> None:
    decision = decide(ALARM, make_situation(trained_until_ms=NOW_MS + 6 * HOUR_MS), POLICY)
    assert decision.job is None
    assert "later candles" in decision.reason


def test_decide_without_an_alarm_or_age_has_nothing_to_publish() -> None:
    assert decide(None, make_situation(), POLICY) == (None, "nothing is due", None)


@pytest.mark.parametrize("state", ["refused", "failed", "promoted"])
def test_decide_while_an_alarm_stands_tries_again_after_the_cool_down(
    state: Literal["refused", "failed", "promoted"],
) -> None:
    standing = (Alarm("range_coverage", "drift", NOW_MS - 30 * HOUR_MS, 0.52, 0.81, NOW_MS - 31 * HOUR_MS),)
    jobs = (make_job(standing[0].target_time_ms, state),)
    assert decide(None, make_situation(standing=standing, jobs=jobs, now_ms=NOW_MS - 7 * HOUR_MS), POLICY).job is None
    decision = decide(None, make_situation(standing=standing, jobs=jobs), POLICY)
    assert decision.job is not None
    assert decision.job.why == "drift"
    assert decision.reason == "attempt 2 of 3: range_coverage has not recovered"
    assert decision.about is not None
    assert (decision.about.level, decision.about.target_time_ms) == ("schedule", NOW_MS)


def test_decide_after_a_promotion_gives_the_newcomer_time_before_the_next_attempt() -> None:
    policy = Policy(cool_down_ms=0, settle_bars=480)
    asked_ms = NOW_MS - 20 * HOUR_MS  # judged until 8 hours ago: 480 bars
    standing = (Alarm("range_coverage", "drift", asked_ms, 0.52, 0.81, asked_ms - HOUR_MS),)
    promoted = make_situation(standing=standing, jobs=(make_job(asked_ms, "promoted"),))
    settling = promoted._replace(now_ms=NOW_MS - MINUTE_MS)
    assert decide(None, settling, policy) == (None, "nothing is due", None)
    again = decide(None, promoted, policy)
    assert again.job is not None
    assert again.reason == "attempt 2 of 3: range_coverage has not recovered"
    refused = settling._replace(jobs=(make_job(asked_ms, "refused"),))
    assert decide(None, refused, policy).job is not None  # nobody new serves, so nothing is waited for
    slower = promoted._replace(timeframe_ms=5 * MINUTE_MS)  # bars, not minutes
    assert decide(None, slower, policy).job is None
    farther = promoted._replace(horizon_bars=15)  # coverage is looked at every fifth close, so recovery takes as long
    assert decide(None, farther, policy).job is None
    last_ms = NOW_MS + 4 * 480 * MINUTE_MS
    assert decide(None, farther._replace(now_ms=last_ms - MINUTE_MS), policy).job is None
    assert decide(None, farther._replace(now_ms=last_ms), policy).job is not None


def test_decide_after_the_last_attempt_waits_for_the_schedule() -> None:
    standing = (Alarm("range_coverage", "drift", NOW_MS - 8 * DAY_MS, 0.52, 0.81, NOW_MS - 9 * DAY_MS),)
    jobs = tuple(make_job(NOW_MS - days * DAY_MS) for days in (8, 6, 4))
    situation = make_situation(standing=standing, jobs=jobs, trained_until_ms=NOW_MS - 9 * DAY_MS)
    assert decide(None, situation, POLICY).job is None
    due = decide(None, situation._replace(now_ms=NOW_MS + 3 * DAY_MS), POLICY).job
    assert due is not None
    assert due.why == "schedule"


def test_decide_on_an_alarm_that_came_during_the_cool_down_makes_up_for_it() -> None:
    standing = (Alarm("return_coverage", "drift", NOW_MS - HOUR_MS, 0.6, 0.8, NOW_MS - HOUR_MS),)
    jobs = (make_job(NOW_MS - DAY_MS, "promoted"),)
    decision = decide(None, make_situation(standing=standing, jobs=jobs), POLICY)
    assert decision.job is not None
    assert decision.reason == "attempt 1 of 3: return_coverage has not recovered"


@pytest.mark.parametrize(("days", "asks"), [(6.9, False), (7, True), (700, True)])
def test_decide_without_an_alarm_challenges_an_old_champion(days: float, asks: bool) -> None:
    decision = decide(None, make_situation(trained_until_ms=NOW_MS - int(days * DAY_MS)), POLICY)
    assert (decision.job is not None) == asks
    if decision.job is not None:
        assert decision.job.why == "schedule"
        assert decision.reason == f"the champion was trained {days:.1f} days ago"


def test_decide_after_a_challenger_was_refused_waits_as_long_again_for_the_next() -> None:
    situation = make_situation(trained_until_ms=NOW_MS - 20 * DAY_MS, jobs=(make_job(NOW_MS - 6 * DAY_MS),))
    assert decide(None, situation, POLICY).job is None
    assert decide(None, situation._replace(now_ms=NOW_MS + DAY_MS), POLICY).job is not None


@pytest.mark.parametrize(("policy", "trained_until_ms"), [(Policy(retrain_after_ms=0), 0), (POLICY, None)])
def test_decide_without_a_schedule_or_an_age_challenges_nobody(policy: Policy, trained_until_ms: int | None) -> None:
    assert decide(None, make_situation(trained_until_ms=trained_until_ms), policy).job is None


def test_drift_record_carries_the_alarm_and_the_decision() -> None:
    decision = decide(ALARM, make_situation(), POLICY)
    record = drift_record(make_scores(0), ALARM, decision)
    assert decode_drift(encode(record)) == record
    assert (record.detector, record.level, record.statistic, record.reference, record.since_ms) == (
        "range_coverage", "drift", 0.52, 0.81, ALARM.since_ms,
    )  # fmt: skip
    assert (record.decision, record.job) == ("retrain", decision.job)
    assert re.fullmatch(r"range_coverage fell from 0\.81 to 0\.52", record.reason)


def test_drift_record_without_a_job_says_why() -> None:
    decision = decide(ALARM, make_situation(jobs=(make_job(NOW_MS - HOUR_MS, "open"),)), POLICY)
    record = drift_record(make_scores(0), ALARM, decision)
    assert (record.decision, record.job, record.reason) == ("none", None, decision.reason)
