from __future__ import annotations

from typing import Any

import pytest

from models.events import JobEvent, RetrainJob, Verdict
from models.jobs import LEAST_TRAINED_BARS, JobState, at, least_judged_ms, needed_from_ms, state_of, why_refused
from tests.models.make_bundle import make_spec

MINUTE_MS, HOUR_MS, YEAR_MS = 60_000, 3_600_000, 366 * 86_400_000
TRAINED_MS = 1_700_000_040_000
SPEC = make_spec(trained_until_ms=TRAINED_MS)
TRAIN_MS = TRAINED_MS + 10 * 24 * HOUR_MS


def event(state: Any, text: str = "", **fields: Any) -> JobEvent:
    return JobEvent(job="j", model="m", state=state, text=text, at_ms=0, **fields)


def verdict(promote: bool) -> Verdict:
    return Verdict(
        promote=promote, challenger="x", champion=None, from_ms=0, until_ms=1, rows=1, blocks=1, sentence="so it is"
    )


def refusal(oldest_ms: int | None = 0, newest_ms: int | None = TRAIN_MS, **fields: Any) -> str:
    spans: dict[str, Any] = {"train_until_ms": TRAIN_MS, "judge_until_ms": TRAIN_MS + 6 * HOUR_MS}
    job = RetrainJob(job="j", model="default-1m", why="drift", asked_ms=0, **spans | fields)
    return why_refused(job, SPEC, oldest_ms, newest_ms)


def test_state_of_no_events_is_the_first_attempt_of_a_job_nobody_took_up() -> None:
    assert state_of([]) == JobState()
    assert (JobState().attempt, JobState().taken_up, JobState().end) == (1, 0, None)


def test_state_counts_those_who_took_it_up_and_attempts_that_failed() -> None:
    state = state_of([event("accepted", attempt=1), event("progress", attempt=2), event("accepted", attempt=2)])
    assert (state.taken_up, state.attempt, state.end) == (2, 2, None)


def test_state_of_two_verdicts_holds_the_first() -> None:
    first, second = event("verdict", verdict=verdict(True)), event("verdict", verdict=verdict(False))
    assert state_of([first, second]).verdict is first


def test_state_of_a_verdict_event_without_a_verdict_has_none() -> None:
    assert state_of([event("verdict")]).verdict is None


@pytest.mark.parametrize("end", ["finished", "refused", "failed"])
def test_state_after_its_end_never_changes(end: str) -> None:
    ended = state_of([event("accepted"), event(end)])
    assert ended.end is not None
    for late in ("accepted", "progress", "finished", "failed"):
        assert ended.after(event(late, attempt=9)) is ended
    assert ended.after(event("verdict", verdict=verdict(True))) is ended


def test_state_ignores_events_of_another_schema_version() -> None:
    assert state_of([event("finished", v=2)]) == JobState()


def test_job_with_dates_in_order_and_candles_enough_is_not_refused() -> None:
    assert refusal() == ""
    enough_ms = least_judged_ms(SPEC)
    assert enough_ms == max(60, 28 * SPEC.horizon_bars) * MINUTE_MS
    assert refusal(train_until_ms=TRAIN_MS - enough_ms, judge_until_ms=TRAIN_MS) == ""  # all there already


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"judge_until_ms": TRAIN_MS}, "is not after train_until_ms"),
        ({"judge_until_ms": TRAIN_MS - 1}, "is not after train_until_ms"),
        ({"judge_until_ms": TRAIN_MS + least_judged_ms(SPEC) - 1}, "bars between train_until_ms and judge_until_ms"),
        ({"judge_until_ms": TRAIN_MS + YEAR_MS + 1}, "more than a year after train_until_ms"),
        ({"judge_until_ms": 2**53}, "more than a year after train_until_ms"),
        ({"train_until_ms": TRAINED_MS - 1}, "before the end of the champion's own training"),
        ({"newest_ms": TRAIN_MS - YEAR_MS - 1}, "more than a year after the newest candle"),
        ({"oldest_ms": None}, "holds none of this model's timeframe"),
        ({"newest_ms": None}, "holds none of this model's timeframe"),
        ({"oldest_ms": needed_from_ms(SPEC, TRAIN_MS) + 1}, "it begins at"),
    ],
)
def test_job_that_cannot_be_done_is_refused_with_the_reason(wrong: dict[str, Any], reason: str) -> None:
    assert reason in refusal(**wrong)


def test_needed_candles_reach_back_by_warm_up_window_horizon_and_some_rows() -> None:
    bars = SPEC.warm_up_bars + SPEC.lookback_bars + SPEC.horizon_bars + LEAST_TRAINED_BARS
    assert TRAIN_MS - needed_from_ms(SPEC, TRAIN_MS) == bars * MINUTE_MS
    assert refusal(oldest_ms=needed_from_ms(SPEC, TRAIN_MS)) == ""


def test_at_shows_minutes_and_plain_numbers_beyond_all_calendars() -> None:
    assert at(TRAINED_MS) == "2023-11-14 22:14Z"
    assert at(2**62) == str(2**62)
