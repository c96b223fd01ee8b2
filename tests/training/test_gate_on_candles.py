"""The gate on real candles: how seldom it is fooled, how surely it sees what is spoiled, and what it cannot judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.bundle import Bundle
from models.candle_table import CandleTable
from models.errors import CandlewickError, InvalidBundle
from models.injection import Injection, inject
from tests.training.contestants import (
    BAR_MS,
    DAY_MS,
    MOST_PROMOTIONS,
    SIX_HOURS,
    TWO_DAYS,
    A,
    B,
    by_close,
    inverted,
    promotions,
    real_candles,
    repacked,
    scaled,
    swapped,
    train_small,
    windows,
)
from training.evidence import Evidence, HeldOut, gather
from training.gate import judge, weigh
from training.split import Fractions

TRAIN_DAYS = 6


@pytest.fixture(scope="module")
def table() -> CandleTable:
    return real_candles()


@pytest.fixture(scope="module")
def begin_ms(table: CandleTable) -> int:
    return int(table.open_time_ms[0]) + TRAIN_DAYS * DAY_MS


@pytest.fixture(scope="module")
def sound(table: CandleTable, begin_ms: int) -> Bundle:
    return train_small(table, begin_ms, Fractions(0.84, 0.15, 0.01))


@pytest.fixture(scope="module")
def held_out(table: CandleTable, begin_ms: int) -> HeldOut:
    return HeldOut(table.since(begin_ms - 1_600 * BAR_MS), begin_ms, begin_ms + 8 * DAY_MS)


@pytest.fixture(scope="module")
def against_wider(sound: Bundle, held_out: HeldOut) -> Evidence:
    return gather(sound, scaled(sound, 1.3), [sound.spec.baselines], held_out)


@pytest.fixture(scope="module")
def against_inverted(sound: Bundle, held_out: HeldOut, table: CandleTable, begin_ms: int) -> Evidence:
    return gather(sound, inverted(sound, table.until(begin_ms)), [sound.spec.baselines], held_out)


@pytest.fixture(scope="module")
def short(held_out: HeldOut) -> HeldOut:
    return replace(
        held_out,
        candles=held_out.candles.until(held_out.from_ms + 360 * BAR_MS),
        until_ms=held_out.from_ms + 360 * BAR_MS,
    )


@pytest.mark.parametrize("bars", [SIX_HOURS, TWO_DAYS])
def test_weigh_of_real_scores_swapped_at_random_promotes_at_most_5_percent(against_wider: Evidence, bars: int) -> None:
    one = by_close(next(windows(against_wider, bars, 1)))
    promoted, passed = promotions(one, seed=bars)
    assert promoted <= MOST_PROMOTIONS
    assert 0.02 < passed <= MOST_PROMOTIONS  # near 5 %: the bound is honest without being deaf


# Power: what is spoiled is replaced, and never let in


@pytest.mark.parametrize("spoiled", ["against_wider", "against_inverted"])
def test_weigh_of_two_days_replaces_a_spoiled_champion(spoiled: str, request: pytest.FixtureRequest) -> None:
    verdicts = [weigh(each, A, B).promote for each in windows(request.getfixturevalue(spoiled), TWO_DAYS, 240)]
    assert len(verdicts) > 30
    assert np.mean(verdicts) >= 0.95


@pytest.mark.parametrize("bars", [SIX_HOURS, TWO_DAYS])
@pytest.mark.parametrize("spoiled", ["against_wider", "against_inverted"])
def test_weigh_refuses_a_spoiled_challenger(spoiled: str, bars: int, request: pytest.FixtureRequest) -> None:
    evidence = swapped(request.getfixturevalue(spoiled))
    verdicts = [weigh(each, A, B).promote for each in windows(evidence, bars, 240)]
    assert len(verdicts) > 30
    assert np.mean(verdicts) <= 0.05


def test_weigh_of_six_hours_replaces_a_champion_that_a_changed_market_left_behind(
    table: CandleTable, begin_ms: int, sound: Bundle
) -> None:
    changed, learned_ms = inject(table, Injection(begin_ms + DAY_MS)), begin_ms + 2 * DAY_MS
    fresh = train_small(changed, learned_ms, Fractions(0.97, 0.02, 0.01))
    after = HeldOut(changed.since(learned_ms - 1_600 * BAR_MS), learned_ms, learned_ms + 2 * DAY_MS)
    evidence = gather(fresh, sound, [fresh.spec.baselines, sound.spec.baselines], after)
    verdicts = [weigh(each, A, B).promote for each in windows(evidence, SIX_HOURS, 120)]
    assert len(verdicts) > 20
    assert np.mean(verdicts) >= 0.95


# Bundles and candles


def test_judge_of_equal_bundles_refuses_and_names_both(sound: Bundle, short: HeldOut) -> None:
    verdict = judge(sound, sound, [sound.spec.baselines], short)
    assert not verdict.promote
    assert (verdict.challenger, verdict.champion) == (sound.sha256, sound.sha256)
    assert verdict.rows == 4 * SIX_HOURS
    assert verdict.from_ms == short.from_ms + BAR_MS
    assert verdict.until_ms == short.until_ms - 3 * BAR_MS


def test_judge_of_an_equal_span_is_the_same_whatever_candles_follow(
    sound: Bundle, short: HeldOut, held_out: HeldOut
) -> None:
    longer = replace(held_out, until_ms=short.until_ms)
    assert judge(sound, None, [sound.spec.baselines], longer) == judge(sound, None, [sound.spec.baselines], short)


def overflowing(sound: Bundle, held_out: HeldOut) -> Bundle:
    """With a head too steep for some real windows, and not for the golden ones, which every bundle must bear."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        weight = rng.choice([-1.0, 1.0], sound.tensors["head.weight"].shape).astype(np.float32) * np.float32(1.5e38)
        try:
            steep = repacked(sound, {"head.weight": weight})
        except InvalidBundle:
            continue
        if not judge(steep, None, [sound.spec.baselines], held_out).rows:
            return steep
    raise AssertionError("none of a hundred heads overflows on real windows alone")


def test_judge_of_a_challenger_whose_forecasts_overflow_refuses_it(sound: Bundle, short: HeldOut) -> None:
    steep = overflowing(sound, short)
    verdict = judge(steep, sound, [sound.spec.baselines], short)
    assert not verdict.promote
    assert (verdict.rows, verdict.range_vs_champion, verdict.proven) == (0, None, ())
    assert verdict.sentence.startswith(f"Refuse {steep.sha256[:8]}, which is unfit to serve: ")
    assert "of its 1,428 forecasts are no finite numbers" in verdict.sentence


def test_judge_of_a_challenger_with_nan_weights_refuses_it(sound: Bundle, short: HeldOut) -> None:
    broken = replace(sound, tensors={**sound.tensors, "head.weight": np.full((4, 16), np.nan, np.float32)})
    verdict = judge(broken, sound, [sound.spec.baselines], short)
    assert not verdict.promote
    assert "unfit to serve: golden output: differs by nan" in verdict.sentence


def test_judge_against_a_champion_that_gives_no_numbers_is_told(sound: Bundle, short: HeldOut) -> None:
    broken = replace(sound, tensors={**sound.tensors, "head.weight": np.full((4, 16), np.nan, np.float32)})
    with pytest.raises(CandlewickError, match=r"champion .* Roll back to a bundle that serves"):
        judge(sound, broken, [sound.spec.baselines], short)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "other-1m"}, "cannot stand in for the other; judge bundles of one model"),
        ({"horizon_bars": 5}, "cannot stand in for the other; judge bundles of one model"),
        ({"timeframe_ms": 300_000}, "cannot stand in for the other; judge bundles of one model"),
        ({"trained_until_ms": 2**52}, "the champion has learned from candles up to 4503599627370496; judge it on"),
    ],
)
def test_judge_against_a_champion_that_cannot_be_compared_is_told(
    sound: Bundle, short: HeldOut, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(CandlewickError, match=message):
        judge(sound, repacked(sound, {}, **fields), [sound.spec.baselines], short)


def test_judge_of_spans_that_cannot_be_judged_is_told(sound: Bundle, short: HeldOut) -> None:
    def message(bundle: Bundle = sound, from_ms: int = short.from_ms, until_ms: int = short.until_ms) -> str:
        with pytest.raises(CandlewickError) as told:
            judge(bundle, None, [bundle.spec.baselines], HeldOut(short.candles, from_ms, until_ms))
        return str(told.value)

    assert "the challenger has learned from candles up to" in message(from_ms=sound.spec.trained_until_ms - 1)
    assert "not after its begin" in message(until_ms=short.from_ms)
    assert "no forecast can be judged" in message(from_ms=short.until_ms, until_ms=short.until_ms + DAY_MS)
    assert "no forecast can be judged" in message(until_ms=short.from_ms + 3 * BAR_MS)
    assert "blocks of time are too few" in message(until_ms=short.from_ms + 70 * BAR_MS)
    assert "the candles are 60,000 ms long" in message(repacked(sound, {}, timeframe_ms=300_000))
