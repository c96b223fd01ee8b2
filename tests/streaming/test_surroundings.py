"""What the policy is told of jobs, from the records of the log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models.events import JobEvent, RetrainJob, Verdict, encode
from streaming.settings import Settings
from streaming.surroundings import Follower

JOB = RetrainJob(job="a", model="default-1m", why="drift", asked_ms=1, train_until_ms=1, judge_until_ms=2)


def event(state: Any, promote: bool | None = None) -> JobEvent:
    verdict = None
    if promote is not None:
        verdict = Verdict(
            promote=promote,
            challenger="c" * 64,
            champion="b" * 64,
            from_ms=1,
            until_ms=2,
            rows=1,
            blocks=1,
            sentence="",
        )
    return JobEvent(job="a", model="default-1m", state=state, text="", at_ms=0, verdict=verdict)


@pytest.mark.parametrize(
    ("events", "stands"),
    [
        ([], "open"),
        ([event("accepted"), event("progress")], "open"),
        ([event("refused")], "refused"),
        ([event("failed")], "failed"),
        ([event("verdict", promote=False), event("finished")], "refused"),
        ([event("verdict", promote=True)], "promoted"),
        ([event("verdict", promote=True), event("finished")], "promoted"),
        ([event("verdict", promote=True), event("failed")], "failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(each.state for each in value) or "none",
)
def test_job_stands_for_the_policy_where_its_events_say(events: list[JobEvent], stands: str) -> None:
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    follower = Follower(settings)
    told = [("retrain-jobs", encode(JOB)), *(("job-events", encode(each)) for each in events)]
    for offset, (topic, value) in enumerate(told):
        follower._take(settings.topic(topic), SimpleNamespace(value=value, partition=0, offset=offset))
    ((job, state),) = follower.surroundings().jobs["default-1m"]
    assert (job, state) == (JOB, stands)
