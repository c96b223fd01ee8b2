from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from models.events import Drift, JobEvent, RetrainJob, Verdict
from streaming import demo, health
from streaming.audit import FAULTS, Audit
from streaming.demo_summary import Counted, all_is_well, in_words, loop_lines, summarise, training_of
from streaming.job_feed import Jobs
from streaming.scoreboard import Scoreboard
from streaming.scrape import free_ports

HOUR_MS = 3_600_000
ASKED_MS = 1_748_570_400_000  # 2025-05-30 02:00 UTC
JOB = RetrainJob(
    job="drift-1", model="m", why="drift", asked_ms=ASKED_MS, train_until_ms=ASKED_MS + HOUR_MS,
    judge_until_ms=ASKED_MS + 2 * HOUR_MS,
)  # fmt: skip


def drift(level: Any, target_time_ms: int) -> Drift:
    return Drift(
        model="m", bundle="b", epoch=1, timeframe="1m", target_time_ms=target_time_ms, detector="range_coverage",
        level=level, statistic=0.5, reference=0.8, since_ms=ASKED_MS - HOUR_MS, decision="none", reason="why",
    )  # fmt: skip


def verdict(promote: bool) -> Verdict:
    return Verdict(
        promote=promote, challenger="c", champion="b", from_ms=0, until_ms=1, rows=1, blocks=1, sentence="It is better."
    )


def jobs(promote: bool = True) -> Jobs:
    known = Jobs()
    known.ask(JOB)
    said: list[tuple[Any, dict[str, Any]]] = [
        ("accepted", {}),
        ("verdict", {"verdict": verdict(promote), "bundle": "c"}),
        ("finished", {}),
    ]
    for state, extra in said:
        known.tell(JobEvent(job="drift-1", model="m", state=state, text=f"said {state}", at_ms=0, **extra))
    return known


def summary(promote: bool = True, late: int | None = 0, **audit: Any) -> dict[str, Any]:
    board = Scoreboard(drift=[drift("drift", ASKED_MS), drift("warning", ASKED_MS)], outcomes=7)
    board.activations = [None, None]  # type: ignore[list-item]  # only counted
    return summarise(Counted(Audit(**audit), 0, late, 2.0), board, jobs(promote)) | {"seconds": 1.0}


def test_loop_lines_follow_the_markets_time_and_leave_warnings_out() -> None:
    said = [drift("recovered", ASKED_MS + 3 * HOUR_MS), drift("warning", ASKED_MS), drift("drift", ASKED_MS)]
    lines = loop_lines(said, jobs())
    assert [line.split()[2] for line in lines] == ["DRIFT", "job", "verdict:", "finished:", "RECOVERED"]
    assert lines[0].startswith("2025-05-30 02:00Z DRIFT range_coverage 0.80 -> 0.50")


def test_loop_lines_show_where_a_job_stands_until_its_verdict() -> None:
    known = Jobs()
    known.ask(JOB)
    known.tell(JobEvent(job="drift-1", model="m", state="progress", text="waiting for the candles", at_ms=0))
    assert loop_lines([], known)[-1].endswith("the job now: waiting for the candles")
    assert not any("the job now" in line for line in loop_lines([], jobs()))


def test_training_of_jobs_shows_the_one_under_way() -> None:
    known = Jobs()
    assert training_of(known) is None
    known.tell(JobEvent(job="j", model="m", state="progress", text="epoch 3", at_ms=0, step="training", share=0.25))
    assert training_of(known) == (25, 100, "epoch 3")
    known.tell(JobEvent(job="j", model="m", state="failed", text="", at_ms=0))
    assert training_of(known) is None


def test_summarise_counts_what_the_loop_did() -> None:
    found = summary(candles=9, signals=8)
    assert {name: found[name] for name in ("drift_events", "retrain_jobs", "gate_verdicts", "promotions")} == {
        "drift_events": 1, "retrain_jobs": 1, "gate_verdicts": 1, "promotions": 1,
    }  # fmt: skip
    assert (found["activations"], found["outcomes"], found["signals_per_s"]) == (2, 7, 4)
    assert json.loads(json.dumps(found)) == found
    assert all_is_well(found)
    assert "All is well." in in_words(found)
    assert "The gate: It is better." in in_words(found)


def test_summary_of_the_demo_has_the_keys_that_scripts_rely_on() -> None:
    """`run_demo` adds `seconds`."""
    assert list(summary()) == [
        "candles", "signals", "signals_missing", "faults", "duplicates", "withheld", "dead_letters", "outcomes",
        "drift_events", "retrain_jobs", "gate_verdicts", "promotions", "verdicts", "activations", "late_switches",
        "signals_per_s", "skill", "skill_after_the_change", "seconds",
    ]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_all_is_well_only_when_the_audit_found_no_fault(fault: str) -> None:
    counted: dict[str, Any] = {fault: 3}
    found = summary(**counted)
    assert not all_is_well(found)
    assert found["faults"] == {fault: 3}
    assert f"the audit found 3 {fault.replace('_', ' ')}." in in_words(found)


def test_all_is_well_only_when_a_challenger_was_promoted() -> None:
    refused = summary(promote=False)
    assert not all_is_well(refused)
    assert "THE LOOP DID NOT CLOSE" in in_words(refused)


def test_all_is_well_only_when_predict_said_how_many_switches_came_late() -> None:
    unknown = summary(late=None)
    assert not all_is_well(unknown)
    assert "an unknown number of late switches" in in_words(unknown)
    assert "predict did not answer" in in_words(unknown)


def test_late_switches_of_a_role_that_does_not_answer_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "REFRESH_S", 0.0)
    port = free_ports(1)
    assert asyncio.run(demo.late_switches(port)) is None
    health.serve(port, {"predict": lambda: None})
    assert asyncio.run(demo.late_switches(port)) == 0
