"""What the gate weighs: the scores of two bundles and of the baselines on the same held-out rows.

Enters: bundles and candles that neither has seen. Leaves: one CRPS a row each, on rows that all of them can forecast.
Does not know: what is good enough, or how sure it is. Forecasts come from the code that serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.candle_table import CandleTable
from models.distribution import gaussian_crps, student_t_crps
from models.errors import CandlewickError, InvalidBundle
from models.features import WARM_UP_BARS
from models.forecast import Forecast, Interpreter
from models.spec import OUTPUTS, Baselines
from training.baselines import range_forecasts
from training.dataset import Dataset, Rows, build_dataset
from training.evaluate import forecast_rows

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Candles to judge on. Judged are closes after `from_ms` whose horizon ends by `until_ms`; earlier ones warm up."""

    candles: CandleTable
    from_ms: int  # UTC, the last close that a contestant may have learned from
    until_ms: int  # UTC, the last close that a label may see


class Crps(NamedTuple):
    """Scores of n forecasts, each `(n,)` in the unit of its label; smaller is better."""

    range: Floats
    return_: Floats


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything the rule of the gate looks at: n rows in order of time."""

    timeframe_ms: int
    horizon_bars: int
    close_time_ms: NDArray[np.int64]  # (n,) UTC
    challenger: Crps
    champion: Crps | None
    range_baselines: Mapping[str, Floats]  # name to CRPS (n,); `har` among them
    return_baseline: Floats  # (n,)
    y_return: Floats  # (n,)
    probability_up: Floats  # (n,) by the challenger
    up_rate: float  # climatology

    def take(self, rows: NDArray[np.bool_] | slice) -> Evidence:
        """The evidence of some of the rows."""
        return replace(
            self,
            close_time_ms=self.close_time_ms[rows],
            challenger=Crps(*(crps[rows] for crps in self.challenger)),
            champion=Crps(*(crps[rows] for crps in self.champion)) if self.champion else None,
            range_baselines={name: crps[rows] for name, crps in self.range_baselines.items()},
            return_baseline=self.return_baseline[rows],
            y_return=self.y_return[rows],
            probability_up=self.probability_up[rows],
        )


def gather(challenger: Bundle, champion: Bundle | None, baselines: Sequence[Baselines], held_out: HeldOut) -> Evidence:
    """Score everyone on the rows that all of them can forecast.

    Args:
        challenger: to be judged.
        champion: what serves now, of the same timeframe and horizon; None where nothing does.
        baselines: one or more; of each kind of baseline the fit that scores best counts.
        held_out: candles and the span to judge.

    Raises:
        ValueError: no baselines.
        InvalidBundle: the challenger's output is not its golden one, or a forecast of it is no number.
        CandlewickError: the same of the champion; or there is no row.
    """
    if not baselines:
        raise ValueError("no baselines to hold the challenger against; those of its own spec are the least")
    lookback = max(bundle.spec.lookback_bars for bundle in (challenger, champion) if bundle)
    dataset = build_dataset(held_out.candles.until(held_out.until_ms), lookback, challenger.spec.horizon_bars)
    first = int(np.searchsorted(dataset.close_time_ms, held_out.from_ms, side="right"))
    rows = dataset.rows(first, len(dataset.close_time_ms))
    if not len(rows[1]):
        raise CandlewickError(_nothing_to_judge(dataset, held_out))
    own = _forecast(challenger, dataset, rows)
    return Evidence(
        timeframe_ms=dataset.timeframe_ms,
        horizon_bars=dataset.horizon_bars,
        close_time_ms=dataset.close_time_ms[rows[1]],
        challenger=_score(challenger, dataset, rows, own),
        champion=_score_champion(champion, dataset, rows) if champion else None,
        range_baselines=_range_baselines(challenger, baselines, dataset, rows),
        return_baseline=_return_baseline(baselines, dataset.y_return[rows]),
        y_return=dataset.y_return[rows],
        probability_up=own.probability_up,
        up_rate=challenger.spec.baselines.up_rate,
    )


def _nothing_to_judge(dataset: Dataset, held_out: HeldOut) -> str:
    closes = dataset.close_time_ms
    have = f"closes from {closes[0]} to {closes[-1]}" if len(closes) else "no close before that end"
    return (
        f"no forecast can be judged after {held_out.from_ms} with a label by {held_out.until_ms}: the candles have "
        f"{have}. Give {WARM_UP_BARS + dataset.lookback_bars:,} bars before the span to warm up, and the span itself"
    )


def _forecast(bundle: Bundle, dataset: Dataset, rows: Rows) -> Forecast:
    with np.errstate(all="ignore"):  # what overflows is found when it is scored
        return forecast_rows(bundle, replace(dataset, lookback_bars=bundle.spec.lookback_bars), rows)


def _score(bundle: Bundle, dataset: Dataset, rows: Rows, forecast: Forecast) -> Crps:
    with np.errstate(all="ignore"):
        crps = Crps(
            gaussian_crps(dataset.y_range[rows], forecast.range_location, forecast.range_scale),
            student_t_crps(dataset.y_return[rows], forecast.location, forecast.scale, bundle.spec.distribution.dof),
        )
    wrong = int((~np.isfinite(crps.range) | ~np.isfinite(crps.return_)).sum())
    if wrong:
        raise InvalidBundle(f"{wrong:,} of its {len(crps.range):,} forecasts are no finite numbers")
    return crps


def _score_champion(champion: Bundle, dataset: Dataset, rows: Rows) -> Crps:
    try:
        return _score(champion, dataset, rows, _forecast(champion, dataset, rows))
    except InvalidBundle as error:
        raise CandlewickError(
            f"the champion {champion.sha256[:8]} is nothing to compare with: {error}. Roll back to a bundle that serves"
        ) from error


def _range_baselines(
    challenger: Bundle, baselines: Sequence[Baselines], dataset: Dataset, rows: Rows
) -> dict[str, Floats]:
    """Of each baseline, the CRPS of its best fit."""
    y = dataset.y_range[rows]
    kinds: dict[str, list[Floats]] = {}
    with np.errstate(all="ignore"):
        for fit in baselines:
            normals = range_forecasts(dataset, rows, fit) | {"har": _har(challenger, fit, dataset, rows)}
            for name, normal in normals.items():
                kinds.setdefault(name, []).append(gaussian_crps(y, *normal))
    return {name: _best(fits, name) for name, fits in kinds.items()}


def _har(challenger: Bundle, fit: Baselines, dataset: Dataset, rows: Rows) -> tuple[Floats, Floats]:
    """Location and scale, as the serving code gives them beside any output of a network."""
    raw = np.zeros((len(rows[0]), OUTPUTS), np.float32)
    forecast = Interpreter(msgspec.structs.replace(challenger.spec, baselines=fit)).interpret(
        raw, dataset.ohlcv[3][rows], dataset.volatility[rows], dataset.features[rows]
    )
    return forecast.har_location, forecast.har_scale


def _return_baseline(baselines: Sequence[Baselines], y: Floats) -> Floats:
    fits = [student_t_crps(y, 0.0, fit.return_scale, fit.return_dof) for fit in baselines]
    return _best(fits, "of the return")


def _best(fits: Sequence[Floats], name: str) -> Floats:
    finite = [crps for crps in fits if np.isfinite(crps).all()]
    if not finite:
        raise InvalidBundle(f"its baseline {name} gives no finite numbers")
    return min(finite, key=lambda crps: float(crps.sum()))
