from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from models.events import JobEvent, RetrainJob, encode
from streaming.job_feed import Jobs, Pooled
from tests.models.make_scores import make_scores

TRAIN_MS, JUDGE_MS, MINUTE_MS = 1_000_000, 2_000_000, 60_000
JOB = RetrainJob(job="j", model="m", why="drift", asked_ms=500_000, train_until_ms=TRAIN_MS, judge_until_ms=JUDGE_MS)


def event(state: Any, **fields: Any) -> JobEvent:
    return JobEvent(job="j", model="m", state=state, text="", at_ms=0, **fields)


def jobs(*events: JobEvent) -> Jobs:
    known = Jobs()
    known.ask(JOB)
    for each in events:
        known.tell(each)
    return known


TRAINING = event("progress", step="training", share=0.5)
TRAINED = event("progress", step="training", share=1.0)


@pytest.mark.parametrize(
    ("events", "close_ms", "held"),
    [
        ((), TRAIN_MS, None),  # the candle after the last one that trains still goes: it shows that the last is there
        ((), TRAIN_MS + 1, "trains"),
        ((TRAINING,), TRAIN_MS + 1, "trains"),
        ((TRAINED,), TRAIN_MS + 1, None),
        ((TRAINED,), JUDGE_MS, None),
        ((TRAINED,), JUDGE_MS + 1, "judges"),
        (
            (event("progress", step="judging"),),
            TRAIN_MS + 1,
            None,
        ),  # one of an earlier attempt
        ((event("verdict"),), JUDGE_MS + 1, "judges"),  # until the activation is out
        ((event("finished"),), JUDGE_MS + 1, None),
        ((event("refused"),), TRAIN_MS + 1, None),
        ((event("failed"),), JUDGE_MS + 1, None),
    ],
)
def test_held_by_a_job_while_it_has_its_candles_and_is_not_done(
    events: tuple[JobEvent, ...], close_ms: int, held: str | None
) -> None:
    reason = jobs(*events).held_by(close_ms)
    assert (held is None) == (reason is None)
    assert held is None or held in str(reason)


@pytest.mark.parametrize(("version", "held"), [(1, True), (2, False)])
def test_held_by_a_job_of_the_schema_that_trainers_know_and_by_no_other(version: int, held: bool) -> None:
    known = Jobs()
    value = encode(msgspec.structs.replace(JOB, v=version))
    known._take(SimpleNamespace(value=value, topic="retrain-jobs", partition=0, offset=0), is_job=True)
    assert (known.held_by(TRAIN_MS + 1) is not None) == held


def test_held_by_nothing_where_no_job_was_asked_for() -> None:
    assert Jobs().held_by(JUDGE_MS) is None


def test_ask_twice_keeps_the_first() -> None:
    known = jobs()
    known.ask(RetrainJob(job="j", model="other", why="drift", asked_ms=1, train_until_ms=2, judge_until_ms=3))
    assert known.asked == {"j": JOB}


def test_pooled_lags_by_the_closes_that_were_summed_and_not_pooled() -> None:
    pooled = Pooled()
    assert pooled.lag_closes == 0
    summed = make_scores(0)
    later = msgspec.structs.replace(summed, partition=3, target_time_ms=summed.target_time_ms + 7 * MINUTE_MS)
    pooled.take(msgspec.structs.replace(summed, partition=0))
    pooled.take(later)
    assert pooled.lag_closes == 7
    pooled.take(msgspec.structs.replace(later, outcomes=0, target_time_ms=later.target_time_ms + MINUTE_MS))
    assert pooled.lag_closes == 7
    pooled.take(msgspec.structs.replace(later, partition=None))
    assert pooled.lag_closes == 0
