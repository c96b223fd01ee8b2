from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.reports import figure, full_report
from training.figures import (
    MEANINGS,
    RANGE_VS_HAR,
    Judgement,
    Meaning,
    doubts,
    in_brackets,
    in_percent,
    judge,
    known,
    proven,
    shown,
    verdict,
)

BY_NAME = {(meaning.section, meaning.key): meaning for meaning in MEANINGS}
AUC, ACCURACY = BY_NAME["direction", "auc"], BY_NAME["direction", "accuracy"]
COVERAGE, LOG_SCORE = BY_NAME["range", "coverage80"], BY_NAME["range", "log_score_vs_har"]


@pytest.mark.parametrize(
    ("meaning", "value", "half", "judged"),
    [
        (RANGE_VS_HAR, 0.95, 0.01, "better"),
        (RANGE_VS_HAR, 0.995, 0.01, "undecided"),
        (RANGE_VS_HAR, 1.05, 0.01, "worse"),
        (RANGE_VS_HAR, 0.5, None, "unsure"),
        (LOG_SCORE, -0.04, 0.01, "better"),
        (LOG_SCORE, 0.04, 0.01, "worse"),
        (LOG_SCORE, 0.004, 0.01, "undecided"),
        (AUC, 0.53, 0.01, "better"),
        (AUC, 0.505, 0.01, "undecided"),
        (AUC, 0.47, 0.01, "worse"),
        (COVERAGE, 0.805, 0.01, "held"),
        (COVERAGE, 0.85, 0.01, "too wide"),
        (COVERAGE, 0.75, 0.01, "too narrow"),
        (ACCURACY, 0.9, 0.01, "described"),
    ],
)
def test_judge_follows_the_interval(meaning: Meaning, value: float, half: float | None, judged: Judgement) -> None:
    assert judge(meaning, figure(value, half)) == judged
    assert verdict(meaning, figure(value, half))


@given(low=st.floats(0.5, 1.5), width=st.floats(0, 0.5))
def test_judge_a_ratio_whose_interval_reaches_1_is_neither_better_nor_worse(low: float, width: float) -> None:
    high = low + width
    judged = judge(RANGE_VS_HAR, {"value": (low + high) / 2, "low": low, "high": high})
    assert (judged == "undecided") == (low <= 1 <= high)
    assert (judged == "better") == (high < 1)


def test_known_reads_in_order_and_leaves_out_what_has_no_value() -> None:
    report = full_report()
    report["direction"]["auc"] = figure(None)
    names = [(meaning.section, meaning.key) for meaning, _ in known(report)]
    assert ("direction", "auc") not in names
    assert names == [name for name in BY_NAME if name in names]
    assert len(names) == sum(len(report[section]) for section in ("range", "return", "price", "direction")) - 1


def test_known_with_a_new_rival_names_it_and_judges_it_by_its_score() -> None:
    report = {"range": {"crps_vs_oracle": figure(1.2), "log_score_vs_oracle": figure(-1.0), "depth": figure(3.0)}}
    assert [(meaning.name, judge(meaning, found)) for meaning, found in known(report)] == [
        ("CRPS, ratio to oracle", "worse"),
        ("Log score, less that of oracle", "better"),
        ("depth", "described"),
    ]


def test_shown_gives_a_digit_more_where_an_end_would_look_like_the_line() -> None:
    assert shown(RANGE_VS_HAR, {"value": 0.998, "low": 0.9962, "high": 0.9998}) == "0.9980 [0.9962, 0.9998]"
    assert shown(RANGE_VS_HAR, figure(0.951, 0.006)) == "0.951 [0.945, 0.957]"
    assert shown(COVERAGE, figure(0.826, 0.014)) == "82.6 % [81.2, 84.0]"


def test_in_brackets_and_in_percent_without_an_interval_or_a_value_say_so() -> None:
    assert [in_brackets(figure(0.9, None)), in_brackets(figure(None)), in_brackets(None)] == [
        "0.900",
        "unknown",
        "unknown",
    ]
    assert [in_percent(figure(0.9, None)), in_percent(None)] == ["90.0 %", "unknown"]


def test_doubts_are_the_failed_sentinel_and_the_alarms_each_once() -> None:
    sentinel = {"passed": False, "sentence": "it leaks"}
    assert doubts({"sentinel": sentinel, "alarms": ["it leaks", "too good"]}) == ["it leaks", "too good"]
    assert doubts({"sentinel": {"passed": False}}) == ["The leakage sentinel failed"]
    assert doubts({"sentinel": {"passed": True}, "alarms": []}) == doubts({}) == []


@pytest.mark.parametrize("stated", ["range, return", "range and return", ["range", "return"]])
def test_proven_reads_every_way_of_saying_it(stated: object) -> None:
    assert proven({"proven": stated}) == ["range", "return"]
    assert proven({"proven": "none"}) == proven({"proven": []}) == proven({}) == []
