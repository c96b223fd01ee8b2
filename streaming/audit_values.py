"""What a signal should say, worked out again from features over whole runs and windows cut from them.

Enters: runs, and signals with the slot and the bundle they should come from. Leaves: which of them say something else.
Shares the feature step, the network and the reading of its output with serving, but no order, window, batch or rewind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.events import Direction, Signal, Skill
from models.grid import grid_features
from models.serving import ServingBundle
from models.spec import Spec, Thresholds
from streaming.audit_candles import Run

CHUNK = 2_048
OUTPUT_TOLERANCE = 1e-5  # absolute
PRICE_TOLERANCE = 1e-6  # relative
_ABSOLUTE = ("location", "scale", "range_location", "range_scale", "ewma_scale", "har_location", "har_scale",
             "probability_up")  # fmt: skip
_RELATIVE = ("interval_low", "interval_high")


class Claim(NamedTuple):
    """A signal, and where it should come from."""

    signal: Signal
    run: int
    at: int  # slot of the run
    bundle: str
    proven: tuple[Skill, ...]  # by the activation, for the symbols of the bundle


class _Grid(NamedTuple):
    """Some runs side by side on the slots from the first of them to the last."""

    row: dict[int, int]  # run to its row
    first_close_ms: int
    timeframe_ms: int
    features: NDArray[np.float32]  # (R, T, F)
    volatility: NDArray[np.float64]  # (R, T)


def differing(
    runs: Sequence[Run], claims: Sequence[Claim], bundles: dict[str, ServingBundle], always_direct: bool
) -> Iterator[Claim]:
    """Those claims whose values are not the ones that come out here; `always_direct` as it is set for predict."""
    for same_timeframe in _grouped(claims, lambda claim: runs[claim.run].timeframe_ms):
        grid = _grid(runs, sorted({claim.run for claim in same_timeframe}))
        for same_bundle in _grouped(same_timeframe, lambda claim: claim.bundle):
            bundle = bundles[same_bundle[0].bundle]
            for first in range(0, len(same_bundle), CHUNK):
                chunk = same_bundle[first : first + CHUNK]
                off = _differ(runs, chunk, bundle, grid, always_direct)
                yield from (chunk[i] for i in np.flatnonzero(off).tolist())


def _grouped(claims: Sequence[Claim], by: Callable[[Claim], Hashable]) -> Iterable[list[Claim]]:
    of: dict[Hashable, list[Claim]] = defaultdict(list)
    for claim in claims:
        of[by(claim)].append(claim)
    return of.values()


def _grid(runs: Sequence[Run], members: list[int]) -> _Grid:
    length_ms = runs[members[0]].timeframe_ms
    start = min(int(runs[r].close_time_ms[0]) for r in members)
    stop = max(int(runs[r].close_time_ms[-1]) for r in members)
    closes = np.arange(start, stop + length_ms, length_ms, dtype=np.int64)
    ohlcv = np.full((5, len(members), len(closes)), np.nan)
    for row, r in enumerate(members):
        first = (int(runs[r].close_time_ms[0]) - start) // length_ms
        ohlcv[:, row, first : first + len(runs[r].close_time_ms)] = runs[r].ohlcv
    features, volatility, _ = grid_features(closes, length_ms, ohlcv)
    return _Grid({r: row for row, r in enumerate(members)}, start, length_ms, features, volatility)


def _differ(
    runs: Sequence[Run], claims: list[Claim], bundle: ServingBundle, grid: _Grid, always_direct: bool
) -> NDArray[np.bool_]:
    row = np.array([grid.row[claim.run] for claim in claims])
    closes = np.array([runs[claim.run].close_time_ms[claim.at] for claim in claims])
    slot = (closes - grid.first_close_ms) // grid.timeframe_ms
    back = np.arange(1 - bundle.spec.lookback_bars, 1)
    windows = grid.features[row[:, None], slot[:, None] + back][:, :, bundle.columns]
    close = np.array([runs[claim.run].ohlcv[3, claim.at] for claim in claims])
    volatility = grid.volatility[row, slot]
    raw = bundle.predictor.predict(np.ascontiguousarray(windows))
    forecast = bundle.interpreter.interpret(raw, close, volatility, grid.features[row, slot])
    off = np.array([_states_otherwise(claim, runs[claim.run], bundle) for claim in claims])
    for i, up in enumerate(forecast.probability_up.tolist()):
        shows = always_direct or "direction" in _proven(claims[i], bundle)
        off[i] |= not _follows(claims[i].signal.direction, up, bundle.spec.thresholds, shows)
    for name in _ABSOLUTE:
        off |= ~(np.abs(_said(claims, name) - getattr(forecast, name)) <= OUTPUT_TOLERANCE)
    for name, value in [(name, getattr(forecast, name)) for name in _RELATIVE] + [("volatility", volatility)]:
        off |= ~(np.abs(_said(claims, name) / value - 1) <= PRICE_TOLERANCE)
    for name, value in _in_bps(claims, bundle.spec).items():
        off |= ~(np.abs(_said(claims, name) - value) <= PRICE_TOLERANCE * np.abs(value))
    return np.asarray(off | (_said(claims, "close") != close))


def _said(claims: list[Claim], name: str) -> NDArray[Any]:
    return np.array([getattr(claim.signal, name) for claim in claims])


def _states_otherwise(claim: Claim, run: Run, bundle: ServingBundle) -> bool:
    """Whether anything that follows without a network is not what follows."""
    signal, spec = claim.signal, bundle.spec
    return (
        signal.horizon_bars != spec.horizon_bars
        or signal.target_time_ms != signal.close_time_ms + spec.horizon_bars * run.timeframe_ms
        or signal.origin != run.origins[claim.at]
        or signal.interval_coverage != spec.calibration.interval_coverage
        or (signal.dof, signal.ewma_dof) != (spec.distribution.dof, spec.baselines.return_dof)
        or sorted(signal.proven) != sorted(_proven(claim, bundle))
    )


def _proven(claim: Claim, bundle: ServingBundle) -> tuple[Skill, ...]:
    return claim.proven if claim.signal.symbol in bundle.spec.symbols else ()


def _follows(direction: Direction, up: float, thresholds: Thresholds, shows: bool) -> bool:
    """Whether a signal may say this of such a probability up; on a threshold, either."""
    if not shows:
        return direction == "flat"
    above, below = up - thresholds.long, thresholds.short - up
    return {"long": above, "short": below, "flat": -max(above, below)}[direction] >= -OUTPUT_TOLERANCE


def _in_bps(claims: list[Claim], spec: Spec) -> dict[str, NDArray[np.float64]]:
    """What follows from a signal's own outputs, which are held against ours by themselves.

    A location near zero may be off by a good part of itself, and so the return; it is still what the signal says.
    """
    volatility, location = _said(claims, "volatility"), _said(claims, "location")
    mean_range = np.exp(_said(claims, "range_location") + _said(claims, "range_scale") ** 2 / 2)
    return {
        "expected_return_bps": location * volatility * np.sqrt(spec.horizon_bars) * 10_000,
        "expected_range_bps": mean_range * volatility * 10_000,
    }
