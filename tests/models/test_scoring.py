from __future__ import annotations

from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bars import Due
from models.events import Outcome, Signal, decode_outcome
from models.label import labels
from models.outcome_writer import SUMMED, OutcomeWriter
from models.scoring import COVERAGE, Realised, Scores, score
from tests.models.candle_records import BTC, START_SLOT, laws
from tests.models.join_logs import make_signal

seeds = st.integers(0, 2**32)


def some(seed: int, n: int = 40) -> tuple[list[Signal], list[Realised]]:
    rng = Random(seed)
    signals = [
        make_signal(
            BTC,
            START_SLOT + at,
            close=100 + rng.random(),
            volatility=10 ** rng.uniform(-6, -1),
            location=rng.gauss(0, 1),
            scale=10 ** rng.uniform(-2, 2),
            dof=rng.uniform(2.1, 100),
            horizon_bars=3,
            range_location=rng.gauss(0, 1),
            range_scale=10 ** rng.uniform(-2, 2),
        )
        for at in range(n)
    ]
    return signals, [Realised(100 + rng.random(), rng.choice((0.0, rng.random() * 1e-2))) for _ in range(n)]


def test_score_takes_the_labels_of_training() -> None:
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, (1, 9)), axis=1))
    high, low = close * 1.001, close * rng.uniform(0.998, 1, (1, 9))
    volatility = np.full((1, 9), 7e-4)
    y_return, y_range, valid = labels(close, high, low, volatility, 3)
    signals = [make_signal(BTC, START_SLOT, close=float(close[0, t]), volatility=7e-4) for t in range(6)]
    came = [Realised(float(close[0, t + 3]), float(((high - low) / close)[0, t + 1 : t + 4].mean())) for t in range(6)]
    scores = score(signals, came)
    assert valid[0, :6].all()
    np.testing.assert_allclose(scores.y_return, y_return[0, :6], rtol=1e-12)
    np.testing.assert_allclose(scores.y_range, y_range[0, :6], rtol=1e-12)


def test_truth_drawn_from_its_own_forecast_has_an_even_place_and_is_covered_as_promised() -> None:
    rng = np.random.default_rng(1)
    n, unit = 4_000, 1e-3
    signals = [make_signal(BTC, START_SLOT, close=100.0, volatility=unit, location=0.1, scale=0.7, dof=5.0)] * n
    y_return, y_range = 0.1 + 0.7 * rng.standard_t(5.0, n), rng.normal(0.4, 0.5, n)
    came = [
        Realised(100 * float(np.exp(r * unit * np.sqrt(3))), float(unit * np.exp(s)))
        for r, s in zip(y_return, y_range, strict=True)
    ]
    scores = score(signals, came)
    for pit, covered in ((scores.return_pit, scores.return_covered), (scores.range_pit, scores.range_covered)):
        assert covered.mean() == pytest.approx(COVERAGE, abs=0.03)
        assert np.quantile(pit, (0.25, 0.5, 0.75)) == pytest.approx((0.25, 0.5, 0.75), abs=0.03)


@laws
@given(seed=seeds)
def test_score_of_a_signal_does_not_depend_on_its_company(seed: int) -> None:
    signals, came = some(seed)
    together = score(signals, came)
    for at in range(0, len(signals), 3):
        alone = score(signals[at : at + 3], came[at : at + 3])
        for name in Scores._fields:
            assert (getattr(alone, name) == getattr(together, name)[at : at + 3]).all()


@laws
@given(seed=seeds)
def test_written_outcomes_are_what_the_codec_says_they_are(seed: int) -> None:
    signals, came = some(seed)
    due = [Due(0, signal, at, *one, True, False) for at, (signal, one) in enumerate(zip(signals, came, strict=True))]
    texts, summed = OutcomeWriter().write(due)
    scores = score(signals, came)
    for at, (signal, text) in enumerate(zip(signals, texts, strict=True)):
        assert text is not None
        outcome = decode_outcome(text)
        wanted = {name: column[at].item() for name, column in scores._asdict().items()} | {
            "target_close": came[at].close, "mean_range": came[at].mean_range,
        } | {name: getattr(signal, name) for name in SHARED}  # fmt: skip
        assert outcome == Outcome(**wanted)
        assert msgspec.json.decode(text).keys() == msgspec.to_builtins(outcome).keys()
        assert summed[at] == tuple(getattr(outcome, name) for name in SUMMED)


SHARED = ("exchange", "symbol", "timeframe", "close_time_ms", "horizon_bars", "target_time_ms", "model", "bundle",
          "epoch", "origin", "close")  # fmt: skip


def test_signal_whose_scale_is_not_above_0_gives_no_outcome_and_spares_its_neighbours() -> None:
    good, bad = make_signal(BTC, START_SLOT), make_signal(BTC, START_SLOT + 1, scale=0.0)
    due = [Due(0, signal, 0, 101.0, 1e-3, True, False) for signal in (good, bad, good)]
    texts, _ = OutcomeWriter().write(due)
    assert [text is None for text in texts] == [False, True, False]
