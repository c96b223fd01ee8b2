"""A change of mean is found, dated and measured; noise and small rises are not taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from river.drift import PageHinkley as RiversPageHinkley

from models.change import LEAST_SIDE, AdaptiveWindow, PageHinkley, Shift, likeliest_shift

BAR_MS = 60_000


def found(detector: AdaptiveWindow | PageHinkley, values: NDArray[np.float64]) -> list[tuple[int, Shift]]:
    """Where the detector speaks, and what it says; value i belongs to time i."""
    shifts = [(i, detector.update(value, i)) for i, value in enumerate(values.tolist())]
    return [(i, shift) for i, shift in shifts if shift is not None]


def coverage(rng: np.random.Generator, share: float, closes: int, symbols: int = 10) -> NDArray[np.float64]:
    return np.asarray(rng.binomial(symbols, share, closes) / symbols)


@pytest.mark.parametrize(("before", "after"), [(0.8, 0.55), (0.8, 0.95)])
def test_adaptive_window_after_a_change_dates_and_measures_it(before: float, after: float) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([coverage(rng, before, 3_000), coverage(rng, after, 500)])
    (at, shift), *_ = found(AdaptiveWindow(), values)
    assert 3_000 < at <= 3_128
    assert abs(shift.since_ms - 3_000) <= 10
    assert shift.before == pytest.approx(before, abs=0.02)
    assert shift.after == pytest.approx(after, abs=0.06)


def test_adaptive_window_without_a_change_is_silent() -> None:
    assert found(AdaptiveWindow(), coverage(np.random.default_rng(2), 0.8, 20_000)) == []


def test_adaptive_window_after_a_shift_forgets_what_was_before() -> None:
    rng = np.random.default_rng(3)
    window = AdaptiveWindow()
    assert window.mean is None
    shifts = found(window, np.concatenate([coverage(rng, 0.8, 3_000), coverage(rng, 0.4, 1_000)]))
    assert len(shifts) == 1
    assert window.mean == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_page_hinkley_speaks_when_rivers_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.gamma(2, 0.5, 500), rng.gamma(2, 1.2, 200), rng.gamma(2, 0.5, 300)])
    rivers = RiversPageHinkley(delta=0.5, threshold=30.0, alpha=1.0, mode="up")
    spoke = []
    for i, value in enumerate(values.tolist()):
        rivers.update(value)  # type: ignore[no-untyped-call]
        if rivers.drift_detected:
            spoke.append(i)
    own = [i for i, _ in found(PageHinkley(0.5, 30.0), values)]
    assert spoke
    assert own == spoke


def test_page_hinkley_after_a_rise_dates_and_measures_it() -> None:
    values = np.concatenate([np.full(400, 1.0), np.full(100, 2.5)])
    (at, shift), *_ = found(PageHinkley(0.5, 30.0), values)
    assert 400 < at < 440
    assert shift == (1.0, 2.5, 400)


def test_page_hinkley_on_a_rise_within_delta_is_silent() -> None:
    assert found(PageHinkley(0.5, 30.0), np.concatenate([np.full(400, 1.0), np.full(2_000, 1.4)])) == []


def test_page_hinkley_on_a_fall_is_silent() -> None:
    assert found(PageHinkley(0.5, 30.0), np.concatenate([np.full(400, 2.0), np.full(2_000, 0.5)])) == []


def test_page_hinkley_high_from_the_first_value_on_takes_it_for_its_mean() -> None:
    detector = PageHinkley(0.5, 30.0)
    assert found(detector, np.full(1_000, 9.0)) == []
    assert detector.mean == 9.0


@pytest.mark.parametrize("cut", [LEAST_SIDE, 17, 40 - LEAST_SIDE])
def test_likeliest_shift_of_a_step_is_the_step(cut: int) -> None:
    values = [0.25] * cut + [0.75] * (40 - cut)
    times = [BAR_MS * i for i in range(40)]
    assert likeliest_shift(values, times) == (0.25, 0.75, BAR_MS * cut)
