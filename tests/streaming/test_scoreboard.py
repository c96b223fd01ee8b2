"""What the terminal view is fed with: scores by hand, and each record of the topics once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models.bundle import digest
from models.bundle_log import chunks
from models.events import Outcome, encode
from models.series import Series
from streaming.scoreboard import RECENT_CLOSES, Recent, Scoreboard, Skill
from tests.models.join_logs import make_signal
from tests.models.make_bundle import make_bundle, make_spec
from tests.models.make_scores import make_scores

BTC = Series("binance", "BTC/USDT", "1m")
BLOB = make_bundle(hidden=4, lookback=8)
SPEC = make_spec()
VOL60_CRPS = 0.11685
"""Of a normal forecast at its own mean: sd (sqrt(2 / pi) - 1 / sqrt(pi)), with the spec's sd of 0.5."""


def make_outcome(slot: int = 0, **fields: Any) -> Outcome:
    own: dict[str, Any] = {
        "exchange": "binance", "symbol": "BTC/USDT", "timeframe": "1m", "close_time_ms": slot * 60_000,
        "horizon_bars": 3, "target_time_ms": (slot + 3) * 60_000, "model": "default-1m", "bundle": digest(BLOB),
        "epoch": 7, "origin": "live", "close": 101.0, "target_close": 101.5, "mean_range": 1e-3, "y_return": 0.1,
        "y_range": SPEC.baselines.vol60_mean, "return_crps": 0.5, "return_crps_ewma": 0.4, "range_crps": 0.1,
        "range_crps_har": 0.125, "return_pit": 0.5, "range_pit": 0.5, "return_covered": True, "range_covered": True,
    }  # fmt: skip
    return Outcome(**own | fields)


def board(*taken: tuple[str, Any]) -> Scoreboard:
    """After records of these topics, by name."""
    made = Scoreboard()
    for topic, value in taken:
        getattr(made, f"_take_{topic}")(SimpleNamespace(key=BTC.key, value=encode(value)))
    for offset, chunk in enumerate(chunks(BLOB, "once")):
        made._take_models(SimpleNamespace(offset=offset, key=chunk.key, value=chunk.value, headers=chunk.headers))
    made._score()
    return made


def test_skill_before_anything_was_scored_claims_nothing() -> None:
    assert Skill().as_dict() == {"scored": 0, **dict.fromkeys(list(Skill().as_dict())[1:])}


def test_skill_of_outcomes_is_their_scores_over_those_of_the_baselines() -> None:
    skill = Skill()
    skill.add([make_outcome()] * 3, SPEC)
    skill.add([make_outcome(range_crps=0.3, range_covered=False, return_covered=False)], SPEC)
    assert skill.as_dict() == {
        "scored": 4,
        "range_crps_vs_har": 1.2,  # (3 x .1 + .3) / (4 x .125)
        "range_crps_vs_vol60": pytest.approx(0.6 / (4 * VOL60_CRPS), abs=1e-3),
        "return_crps_vs_baseline": 1.25,
        "range_coverage80": 0.75,
        "return_coverage80": 0.75,
    }


def test_recent_before_the_first_pooled_close_is_unknown() -> None:
    assert board(("scores", make_scores(0, partition=3))).recent() == Recent(None, None)


def test_recent_is_the_coverage_of_the_last_pooled_closes_by_their_outcomes() -> None:
    long_ago = [("scores", make_scores(close, covered=(0, 0))) for close in range(50)]
    lately = [("scores", make_scores(close, covered=(9, 6))) for close in range(50, 50 + RECENT_CLOSES - 1)]
    large = ("scores", make_scores(200, covered=(0, 590), outcomes=590))
    assert board(*long_ago, *lately, large).recent() == Recent((6 * 59 + 590) / 1_180, 9 * 59 / 1_180)


def test_scoreboard_takes_each_signal_and_outcome_once_and_keeps_made_up_markets_apart() -> None:
    signals = [("signals", make_signal(BTC, slot)) for slot in (1, 2, 2, 1, 3)]
    real = [("outcomes", make_outcome(slot)) for slot in (1, 2, 2, 1)]
    made_up = ("outcomes", make_outcome(3, origin="injected", range_covered=False))
    found = board(*signals, *real, made_up)
    assert (found.signals, found.outcomes, found.skill.scored) == (3, 3, 2)
    assert found.skill_injected[digest(BLOB)].as_dict()["range_coverage80"] == 0.0
    assert [signal.close_time_ms for signal in found.last()] == [3 * 60_000]
