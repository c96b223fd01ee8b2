"""The detectors are silent while coverage keeps its promise, and say when, how much and since when it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import pytest

import models.drift as it
from models.drift import BAND, RECOVERY_CLOSES, Alarm, Detectors, Era
from models.events import Scores
from models.scoring import COVERAGE
from tests.models.make_scores import BEGIN_MS, HORIZON, MINUTE_MS, make_scores, told

CALM = (0.8, 0.8)
WRONG_RANGE = (0.8, 0.5)


def fold(detectors: Detectors, records: Iterable[Scores]) -> list[Alarm]:
    return [alarm for scores in records for alarm in detectors.update(scores)]


def drifts(alarms: Iterable[Alarm]) -> list[Alarm]:
    return [alarm for alarm in alarms if alarm.level == "drift"]


def close_of(target_time_ms: int) -> int:
    return (target_time_ms - BEGIN_MS) // MINUTE_MS


@pytest.mark.parametrize("outcomes", [1, 10, 100])
def test_detectors_while_coverage_holds_say_nothing(outcomes: int) -> None:
    records = told(np.random.default_rng(0), 0, 8_000, CALM, outcomes)
    assert [alarm for alarm in fold(Detectors(HORIZON), records) if not alarm.detector.endswith("misses")] == []


@pytest.mark.parametrize(
    ("detector", "after", "within"),
    [
        ("return_coverage", (0.55, 0.8), 128),
        ("return_coverage", (0.97, 0.8), 192),
        ("range_coverage", (0.8, 0.5), 240),
        ("range_coverage", (0.8, 0.97), 600),
    ],
)
def test_detectors_after_a_change_of_coverage_name_the_head_the_time_and_the_size(
    detector: str, after: tuple[float, float], within: int
) -> None:
    rng = np.random.default_rng(1)
    records = [*told(rng, 0, 3_000, CALM), *told(rng, 3_000, 700, after)]
    alarm, *_ = drifts(fold(Detectors(HORIZON), records))
    assert alarm.detector == detector
    assert 3_000 < close_of(alarm.target_time_ms) <= 3_000 + within
    assert abs(close_of(alarm.since_ms) - 3_000) <= 30
    assert alarm.reference == pytest.approx(COVERAGE, abs=0.02)
    assert alarm.statistic == pytest.approx(after[detector == "range_coverage"], abs=0.08)


@pytest.mark.parametrize("horizon", [15, 60])
def test_detectors_of_a_long_horizon_are_silent_in_a_calm_market_and_see_a_change_without_false_recovery(
    horizon: int,
) -> None:
    closes, changed, soon = 10_000, 6_000, 2_000
    records = overlapping(np.random.default_rng(8), closes, changed, horizon)
    alarms = [alarm for alarm in fold(Detectors(horizon), records) if alarm.level != "warning"]
    assert {(alarm.detector, alarm.level) for alarm in alarms} == {("return_coverage", "drift")}
    assert changed < close_of(alarms[0].target_time_ms) < changed + soon


def overlapping(rng: np.random.Generator, closes: int, changed: int, horizon: int) -> list[Scores]:
    """The right forecast of normal returns over `horizon` bars, whose sd is twice as large from a close on."""
    steps = rng.normal(size=(closes + horizon, 10)) + rng.normal(size=(closes + horizon, 1))  # symbols move together
    steps[changed:] *= 2
    path = np.cumsum(steps, axis=0)
    held = np.abs(path[horizon:] - path[:-horizon]) < 1.2816 * np.sqrt(2 * horizon)  # 80 %
    covered = held.sum(axis=1).tolist()
    return [make_scores(close, (n, 8), horizon_bars=horizon) for close, n in enumerate(covered)]


def test_detectors_after_a_change_within_the_band_only_warn() -> None:
    rng = np.random.default_rng(2)
    outcomes, after = 400, COVERAGE - BAND + 0.015
    records = [*told(rng, 0, 2_000, CALM, outcomes), *told(rng, 2_000, 2_000, (after, after), outcomes)]
    alarms = fold(Detectors(HORIZON), records)
    assert {(alarm.detector, alarm.level) for alarm in alarms} == {
        ("return_coverage", "warning"),
        ("range_coverage", "warning"),
    }


@pytest.mark.parametrize(
    ("detector", "field", "factor"),
    [
        ("return_pit", "return_pit", 1.5),
        ("range_pit", "range_pit", 0.5),
        ("return_crps", "return_crps", 1.6),
        ("range_crps", "range_crps", 1.6),
    ],
)
def test_detectors_of_anything_but_coverage_only_warn(detector: str, field: str, factor: float) -> None:
    usual = getattr(make_scores(0), field)
    records = [make_scores(close, **({field: usual * factor} if close >= 6_000 else {})) for close in range(12_000)]
    alarms = fold(Detectors(HORIZON), records)
    assert {(alarm.detector, alarm.level) for alarm in alarms} == {(detector, "warning")}
    assert abs(close_of(alarms[0].since_ms) - 6_000) <= 12


def test_detectors_when_misses_pile_up_warn_before_drift_is_sure() -> None:
    rng = np.random.default_rng(3)
    records = [*told(rng, 0, 500, CALM), *told(rng, 500, 200, (0.4, 0.8))]
    alarms = fold(Detectors(HORIZON), records)
    first = next(alarm for alarm in alarms if alarm.detector == "return_misses")
    assert first.level == "warning"
    assert first.target_time_ms < drifts(alarms)[0].target_time_ms
    assert first.reference == pytest.approx(1.0, abs=0.1)
    assert first.statistic == pytest.approx(3.0, abs=0.5)


def test_detectors_of_the_range_look_only_where_labels_do_not_overlap() -> None:
    detectors = Detectors(HORIZON)
    covered = [10, 0, 0, 8, 0, 0, 6]
    fold(detectors, (make_scores(close, (8, n)) for close, n in enumerate(covered)))
    assert detectors.readings["range_coverage"] == pytest.approx(0.8)  # closes 0, 3 and 6
    fold(detectors, [make_scores(7, (8, 0)), make_scores(11, (8, 2)), make_scores(13, (8, 0))])  # 9 and 10 are missing
    assert detectors.readings["range_coverage"] == pytest.approx((10 + 8 + 6 + 2) / 40)


def test_detectors_take_no_notice_of_a_record_twice_or_late() -> None:
    detectors = Detectors(HORIZON)
    fold(detectors, [make_scores(0), make_scores(5, (4, 4))])
    before = dict(detectors.readings)
    assert fold(detectors, [make_scores(5, (0, 0)), make_scores(3, (0, 0))]) == []
    assert detectors.readings == before


def test_detectors_take_no_notice_of_an_activation_that_was_replaced() -> None:
    detectors = Detectors(HORIZON)
    fold(detectors, [make_scores(0), make_scores(1, epoch=7, bundle="b" * 64)])
    fold(detectors, [make_scores(2, (0, 0))])
    assert detectors.era == Era("b" * 64, 7, BEGIN_MS + MINUTE_MS)
    assert detectors.readings["return_coverage"] == 0.8


def test_detectors_of_a_close_without_outcomes_only_advance_time() -> None:
    detectors = Detectors(HORIZON)
    assert fold(detectors, [make_scores(0, (0, 0), outcomes=0)]) == []
    assert detectors.readings == {}
    assert detectors.era_began_ms == BEGIN_MS


def test_era_ends_with_an_alarm_of_drift_and_the_alarm_stands() -> None:
    rng = np.random.default_rng(4)
    detectors, records = Detectors(HORIZON), [*told(rng, 0, 2_000, CALM), *told(rng, 2_000, 400, WRONG_RANGE)]
    alarms: list[Alarm] = []
    while not alarms:
        alarms = drifts(detectors.update(records.pop(0)))
    assert detectors.standing == tuple(alarms)
    assert detectors.era_began_ms == BEGIN_MS
    detectors.update(records[0])
    assert detectors.era == Era("a" * 64, 1, records[0].target_time_ms, tuple(alarms))


def test_era_ends_after_its_greatest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(it, "MAX_ERA_CLOSES", 50)
    detectors = Detectors(HORIZON)
    fold(detectors, (make_scores(close) for close in range(120)))
    assert close_of(detectors.era_began_ms) == 100


def test_era_goes_on_when_the_same_bundle_is_activated_again() -> None:
    detectors = Detectors(HORIZON)
    fold(detectors, [make_scores(0), make_scores(1, epoch=2)])
    assert detectors.era_began_ms == BEGIN_MS


def drifted(detectors: Detectors, rng: np.random.Generator) -> int:
    """Bring an alarm about; the number of the close after it."""
    records = [*told(rng, 0, 2_000, CALM), *told(rng, 2_000, 600, WRONG_RANGE)]
    return next(close for close, scores in enumerate(records, 1) if drifts(detectors.update(scores)))


def test_recovered_is_said_once_when_coverage_was_within_the_band_for_long_enough() -> None:
    rng = np.random.default_rng(5)
    detectors = Detectors(HORIZON)
    first = drifted(detectors, rng)
    alarms = fold(detectors, told(rng, first, 1_000, CALM, outcomes=100, bundle="b" * 64, epoch=2))
    assert [(alarm.detector, alarm.level) for alarm in alarms] == [("range_coverage", "recovered")]
    assert close_of(alarms[0].target_time_ms) == first + RECOVERY_CLOSES - 1
    assert close_of(alarms[0].since_ms) == first
    assert alarms[0].statistic == pytest.approx(COVERAGE, abs=BAND)
    assert detectors.standing == ()


def test_recovered_is_not_said_while_coverage_stays_wrong() -> None:
    rng = np.random.default_rng(6)
    detectors = Detectors(HORIZON)
    first = drifted(detectors, rng)
    alarms = fold(detectors, told(rng, first, 2_000, WRONG_RANGE))
    assert [alarm for alarm in alarms if alarm.level != "warning"] == []
    assert [alarm.detector for alarm in detectors.standing] == ["range_coverage"]


def story() -> list[Scores]:
    """Drift, a new bundle, recovery, drift again; with gaps, closes without outcomes, and a record twice."""
    rng = np.random.default_rng(7)
    records = [
        *told(rng, 0, 700, CALM),
        *told(rng, 700, 400, WRONG_RANGE),
        *told(rng, 1_100, 600, CALM, outcomes=40, bundle="b" * 64, epoch=5),
        *told(rng, 1_700, 300, (0.4, 0.8), bundle="b" * 64, epoch=5),
    ]
    kept = [scores for i, scores in enumerate(records) if i % 97 and not 400 < i < 420]
    log = [msgspec.structs.replace(scores, outcomes=0) if i % 211 == 60 else scores for i, scores in enumerate(kept)]
    return [*log[:900], log[899], *log[900:]]


def test_detectors_killed_anywhere_and_folded_again_decide_the_same() -> None:
    records, whole = story(), Detectors(HORIZON)
    said: list[list[Alarm]] = []
    eras: list[Era] = []
    for scores in records:
        said.append(whole.update(scores))
        eras.append(msgspec.json.decode(msgspec.json.encode(whole.era), type=Era))
    assert {alarm.level for alarms in said for alarm in alarms} == {"warning", "drift", "recovered"}
    assert len(set(eras)) >= 4
    for killed in (1, 350, 699, *range(720, 900, 12), 1_200, 1_430, len(records) - 1):
        again = rebuilt(records[:killed], eras[killed - 1])
        assert [again.update(scores) for scores in records[killed:]] == said[killed:]
        assert (again.era, again.standing, again.readings) == (whole.era, whole.standing, whole.readings)


def rebuilt(seen: Sequence[Scores], era: Era) -> Detectors:
    """What a new owner makes of the era in the commit and of the records since it began."""
    detectors = Detectors(HORIZON, era)
    fold(detectors, (scores for scores in seen if scores.target_time_ms >= era.began_ms))
    return detectors
