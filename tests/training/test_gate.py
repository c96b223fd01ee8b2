from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.errors import CandlewickError
from models.events import Verdict, encode
from tests.training.contestants import (
    BAR_MS,
    MADE_UP_START_MS,
    MOST_PROMOTIONS,
    SIX_HOURS,
    TWO_DAYS,
    A,
    B,
    made_up,
    promotions,
)
from training.evidence import Crps, Evidence
from training.gate import Rule, time_blocks, weigh


def test_weigh_of_a_clear_gain_promotes_with_every_number_in_its_sentence() -> None:
    verdict = weigh(made_up(gain=0.9), A, B)
    assert verdict.promote
    assert (verdict.challenger, verdict.champion) == (A, B)
    assert (verdict.rows, verdict.blocks) == (1_800, 12)
    assert (verdict.from_ms, verdict.until_ms) == (MADE_UP_START_MS, MADE_UP_START_MS + 359 * BAR_MS)
    assert verdict.range_vs_champion is not None
    assert verdict.range_vs_champion.value == pytest.approx(0.9, abs=0.01)
    assert 0.9 < verdict.range_vs_champion.bound < 0.92
    assert verdict.sentence == (
        "Promote aaaaaaaa over bbbbbbbb: its range CRPS is 0.900 of the champion's (at most 0.904) and 0.859 of HAR's "
        "(at most 0.864), its return CRPS 0.900 of the champion's (at most 0.902) and 0.901 of the baseline's "
        "(at most 0.903), each bound at 95 % confidence, on 1,800 forecasts of 360 closes in 12 blocks of time, "
        "2023-11-14 22:14 to 2023-11-15 04:13 UTC. Proven over the baselines: range and return."
    )
    assert msgspec.json.decode(encode(verdict), type=Verdict) == verdict


def test_weigh_of_an_equal_challenger_refuses_and_says_what_was_not_shown() -> None:
    verdict = weigh(made_up(gain=1.0), A, B)
    assert not verdict.promote
    assert verdict.sentence.startswith("Refuse aaaaaaaa, bbbbbbbb goes on serving: its range CRPS is 1.00")
    assert "Not shown: a range ratio of at most 0.997, its bound below 1" in verdict.sentence


def test_weigh_of_the_champion_itself_refuses() -> None:
    evidence = made_up()
    verdict = weigh(replace(evidence, champion=evidence.challenger), A, A)
    assert not verdict.promote
    assert verdict.range_vs_champion is not None
    assert (verdict.range_vs_champion.value, verdict.range_vs_champion.bound) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("rule", "missed"),
    [
        (Rule(most_range_ratio=0.8), "Not shown: a range ratio of at most 0.8. "),
        (Rule(range_bound=0.8), "Not shown: its bound below 0.8. "),
        (Rule(most_return_bound=0.8), "Not shown: a return bound of at most 0.8. "),
        (Rule(most_har_bound=0.8), "Not shown: a bound to HAR of at most 0.8. "),
    ],
)
def test_weigh_refuses_for_each_part_of_the_rule_alone(rule: Rule, missed: str) -> None:
    verdict = weigh(made_up(gain=0.9), A, B, rule)
    assert not verdict.promote
    assert missed in verdict.sentence


def test_weigh_of_a_better_range_at_the_return_s_cost_refuses() -> None:
    evidence = made_up(gain=0.9)
    worse = Crps(evidence.challenger.range, evidence.challenger.return_ / 0.9 * 1.01)
    verdict = weigh(replace(evidence, challenger=worse), A, B)
    assert not verdict.promote
    assert "Not shown: a return bound of at most 1.002. " in verdict.sentence


def test_weigh_of_a_gain_by_luck_of_one_block_refuses() -> None:
    evidence = made_up(gain=1.0)
    block, _ = time_blocks(evidence)
    lucky = Crps(np.where(block == 3, 0.3, 1.0) * evidence.challenger.range, evidence.challenger.return_ * 0.9)
    verdict = weigh(replace(evidence, challenger=lucky), A, B)
    assert verdict.range_vs_champion is not None
    assert verdict.range_vs_champion.value < 0.97
    assert not verdict.promote


@pytest.mark.parametrize(("gain", "proven"), [(0.9, ("range", "return")), (2.0, ())])
def test_weigh_of_a_first_bundle_promotes_in_any_case_and_proves_only_what_it_shows(
    gain: float, proven: tuple[str, ...]
) -> None:
    verdict = weigh(replace(made_up(gain=gain), champion=None), A, None)
    assert verdict.promote
    assert (verdict.champion, verdict.range_vs_champion, verdict.return_vs_champion) == (None, None, None)
    assert verdict.proven == proven
    assert verdict.sentence.startswith("Promote aaaaaaaa, the first of its model, with no champion to beat: its range")
    assert f"Proven over the baselines: {' and '.join(proven) or 'none'}" in verdict.sentence


def test_weigh_of_a_range_that_one_simple_baseline_matches_proves_no_range() -> None:
    evidence = made_up(gain=0.9)
    baselines = {**evidence.range_baselines, "range_ewma": evidence.challenger.range.copy()}
    verdict = weigh(replace(evidence, range_baselines=baselines), A, B)
    assert verdict.promote
    assert verdict.proven == ("return",)
    assert verdict.sentence.endswith("Proven over the baselines: return (the range not over range_ewma).")


def knowing(bars: int, sharpness: float) -> Evidence:
    """Whose forecasts of the direction know something."""
    evidence = made_up(bars)
    chance = np.clip(0.5 + sharpness * np.sign(evidence.y_return), 0.01, 0.99)
    noise = np.random.default_rng(7).normal(0, 0.1, chance.size)
    return replace(evidence, probability_up=np.clip(chance + noise, 0.01, 0.99))


@pytest.mark.parametrize(
    ("bars", "sharpness", "shown"),
    [(TWO_DAYS, 0.1, True), (TWO_DAYS, 0.0, False), (TWO_DAYS, -0.1, False), (1_440, 0.3, False), (360, 0.3, False)],
)
def test_weigh_proves_direction_only_by_skill_over_two_days(bars: int, sharpness: float, shown: bool) -> None:
    assert ("direction" in weigh(knowing(bars, sharpness), A, B).proven) == shown


def test_weigh_of_a_direction_that_is_known_surely_but_hardly_proves_no_direction() -> None:
    evidence = made_up(10 * TWO_DAYS)
    knows = replace(evidence, probability_up=0.5 + 0.001 * np.sign(evidence.y_return))  # a Brier ratio of .996
    assert "direction" not in weigh(knows, A, B).proven
    better = replace(evidence, probability_up=0.5 + 0.005 * np.sign(evidence.y_return))
    assert "direction" in weigh(better, A, B).proven


def test_weigh_of_directions_ranked_well_but_too_boldly_proves_no_direction() -> None:
    evidence = knowing(TWO_DAYS, 0.03)
    bold = np.where(evidence.probability_up > 0.5, 0.99, 0.01)
    assert "direction" not in weigh(replace(evidence, probability_up=bold), A, B).proven


@pytest.mark.parametrize(
    ("bars", "timeframe_ms", "horizon", "blocks", "whole"),
    [
        (71, BAR_MS, 3, 5, False),
        (72, BAR_MS, 3, 6, False),
        (SIX_HOURS, BAR_MS, 3, 12, False),
        (1_440, BAR_MS, 3, 12, True),
        (TWO_DAYS, BAR_MS, 3, 23, True),
        (360, 5 * BAR_MS, 3, 15, True),
        (360, BAR_MS, 15, 6, False),
        (50_000, BAR_MS, 3, 256, True),
    ],
)
def test_time_blocks_are_equally_long_and_a_dozen_where_two_hours_are_too_long(
    bars: int, timeframe_ms: int, horizon: int, blocks: int, whole: bool
) -> None:
    times = MADE_UP_START_MS + timeframe_ms * np.arange(bars)
    found, long_enough = time_blocks(
        made_up(bars, symbols=1, close_time_ms=times, timeframe_ms=timeframe_ms, horizon_bars=horizon)
    )
    lengths = np.bincount(found)
    assert len(lengths) == blocks
    assert lengths.max() - lengths.min() <= 1
    assert lengths.min() >= 4 * horizon
    assert long_enough == whole


def test_weigh_of_five_blocks_is_told_how_long_a_span_must_be() -> None:
    with pytest.raises(CandlewickError, match=r"5 blocks of time are too few to judge by, 6 .* span of 84 bars"):
        weigh(made_up(71), A, B)


@pytest.mark.parametrize(("bars", "horizon"), [(72, 3), (360, 3), (360, 15)])
def test_weigh_of_blocks_few_and_unlike_swapped_at_random_promotes_at_most_5_percent(bars: int, horizon: int) -> None:
    evidence = made_up(bars, symbols=1, horizon_bars=horizon)
    mood = np.random.default_rng(1).lognormal(0, 1.5, bars)
    unlike = replace(evidence, challenger=Crps(evidence.challenger.range * mood, evidence.challenger.return_))
    _, passed = promotions(unlike, seed=2)
    assert 0.005 < passed <= MOST_PROMOTIONS
