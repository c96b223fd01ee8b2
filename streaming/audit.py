"""An independent count of what should be on `signals` and what is: from the topics alone, not from predict's counters.

Enters: every record of `candles`, `models` and `signals`. Leaves: how many signals are expected, missing, doubled or
wrong. It shares the feature step, the network and the reading of its output with serving, but none of serving's order,
windows, batches, rewinds or choice of bundle: those it works out again, candle by candle.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.activation import Epoch
from models.continuity import COLD_AFTER_ABSENT
from models.decode import why_invalid
from models.errors import InvalidMessage
from models.events import Candle, Signal, decode_candle, decode_signal
from models.features import WARM_UP_BARS
from models.grid import grid_features
from models.series import parse_key
from models.serving import ServingBundle, make_ready
from models.spec import Spec
from streaming.models_topic import ModelsView, read_models
from streaming.read import read_topic
from streaming.settings import Settings

OUTPUT_TOLERANCE = 1e-5  # absolute, on the four outputs
PRICE_TOLERANCE = 1e-6  # relative
CHUNK = 2_048
_OUTPUTS = ("location", "scale", "range_location", "range_scale")
_PRICES = ("interval_low", "interval_high")


class Identity(NamedTuple):
    """What a signal is about."""

    key: bytes
    model: str
    close_time_ms: int


@dataclass
class Audit:
    """The outcome. All is well when missing, wrong, wrong_bundle and unexpected are 0."""

    candles: int = 0  # valid, of revision 0, first of their slot; absent ones included
    expected: int = 0
    signals: int = 0  # each identity once
    missing: int = 0
    duplicates: int = 0
    wrong: int = 0  # values differ from the recomputed ones; checked only when recomputed
    wrong_bundle: int = 0  # not the bundle whose activation covers the close
    unexpected: int = 0  # nothing was due there
    withheld: dict[str, int] = field(default_factory=dict)
    checked: int = 0  # values recomputed
    examples: list[str] = field(default_factory=list)

    @property
    def flawless(self) -> bool:
        """Nothing missing, wrong or out of place (duplicates are harmless: consumers drop them)."""
        return not (self.missing or self.wrong or self.wrong_bundle or self.unexpected)

    def note(self, what: str, identity: Identity) -> None:
        """Keep a few examples for the person who must find out why."""
        if len(self.examples) < 10:
            self.examples.append(f"{what}: {identity.key.decode()} {identity.model} {identity.close_time_ms}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass
class _Run:
    """Consecutive slots of one series, without a gap nobody declared."""

    key: bytes
    first_slot: int
    candles: list[Candle] = field(default_factory=list)


async def audit(settings: Settings, recompute: bool = True) -> Audit:
    """Read the three topics to their ends and compare."""
    result = Audit()
    view = await read_models(settings)
    runs = await _runs(settings, result)
    bundles = {sha256: make_ready(blob, sha256, "cpu") for sha256, blob in view.blobs.items() if _serves(view, sha256)}
    first, doubled = await _signals(settings)
    result.signals, result.duplicates = len(first), doubled
    due = _due(runs, view, bundles, result)
    _compare(due, first, result)
    if recompute:
        _recompute(runs, due, bundles, first, result)
    return result


def _serves(view: ModelsView, sha256: str) -> bool:
    return any(accepted.activation.bundle == sha256 for accepted in view.activations)


async def _runs(settings: Settings, result: Audit) -> list[_Run]:
    """First word for every slot, cut where slots are missing. One partition after another, each in its order."""
    open_runs: dict[bytes, _Run] = {}
    runs: list[_Run] = []
    async for record in read_topic(settings, "candles"):
        candle = _candle(record.key, record.value)
        if candle is None or candle.revision:
            continue
        slot = candle.close_time_ms // (candle.close_time_ms - candle.open_time_ms)
        run = open_runs.get(record.key)
        if run is not None and slot < run.first_slot + len(run.candles):
            continue  # a duplicate, or out of order
        if run is None or slot > run.first_slot + len(run.candles):
            run = open_runs[record.key] = _Run(record.key, slot)
            runs.append(run)
        run.candles.append(candle)
        result.candles += 1
    return runs


def _candle(key: bytes | None, value: bytes | None) -> Candle | None:
    try:
        candle = decode_candle(value or b"")
        named = parse_key(key)
    except (ValueError, InvalidMessage):
        return None
    same = named == (candle.exchange, candle.symbol, candle.timeframe)
    return candle if same and not why_invalid(candle) else None


async def _signals(settings: Settings) -> tuple[dict[Identity, Signal], int]:
    first: dict[Identity, Signal] = {}
    doubled = 0
    async for record in read_topic(settings, "signals"):
        signal = decode_signal(record.value)
        identity = Identity(record.key, signal.model, signal.close_time_ms)
        doubled += identity in first
        first.setdefault(identity, signal)
    return first, doubled


class Due(NamedTuple):
    """A signal that must exist: slot `at` of a run, under a bundle."""

    run: int
    at: int
    bundle: str
    epoch: int | None


def _due(runs: list[_Run], view: ModelsView, bundles: dict[str, ServingBundle], result: Audit) -> dict[Identity, Due]:
    """Walk every run candle by candle and say where a signal is due, by the letter of design.md."""
    due: dict[Identity, Due] = {}
    withheld: Counter[str] = Counter()
    epochs = _epochs(view)
    for r, run in enumerate(runs):
        length_ms = run.candles[0].close_time_ms - run.candles[0].open_time_ms
        models = [model for model, own in epochs.items() if bundles[own[0].bundle].spec.timeframe_ms == length_ms]
        for at, last_cold, absents in _walk(run):
            if run.candles[at].absent:
                withheld["absent"] += 1
                continue
            close_time_ms = run.candles[at].close_time_ms
            if not models:
                withheld["no_bundle"] += 1
            for model in models:
                epoch = _covering(epochs[model], close_time_ms)
                if epoch is None:
                    withheld["no_bundle"] += 1
                    continue
                spec = bundles[epoch.bundle].spec
                reason = _reason(run, at, at - last_cold, absents, spec)
                if reason:
                    withheld[reason] += 1
                else:
                    due[Identity(run.key, model, close_time_ms)] = Due(r, at, epoch.bundle, epoch.number)
    result.expected, result.withheld = len(due), dict(withheld)
    return due


def _walk(run: _Run) -> Iterator[tuple[int, int, int]]:
    """Each slot of a run with the slot of its last cold start, and how many of the last 1,500 slots were absent."""
    cold: int | None = None
    in_a_row = absents = 0
    for at, candle in enumerate(run.candles):
        in_a_row = in_a_row + 1 if candle.absent else 0
        absents += candle.absent
        if at >= WARM_UP_BARS:
            absents -= run.candles[at - WARM_UP_BARS].absent
        if in_a_row >= COLD_AFTER_ABSENT:
            cold = None
        if cold is None and not candle.absent:
            cold = at
        yield at, at if cold is None else cold, absents


def _reason(run: _Run, at: int, age: int, absents: int, spec: Spec) -> str | None:
    if age < spec.warm_up_bars + spec.lookback_bars - 1:
        return "warming_up"
    if any(candle.absent for candle in run.candles[at - spec.lookback_bars + 1 : at + 1]):
        return "absent_in_window"
    return "too_many_absent" if absents > WARM_UP_BARS // 20 else None


def _epochs(view: ModelsView) -> dict[str, list[Epoch]]:
    epochs: dict[str, list[Epoch]] = defaultdict(list)
    for offset, activation in view.activations:
        epochs[activation.model].append(
            Epoch(offset, activation.model, activation.bundle, activation.effective_from_ms)
        )  # fmt: skip
    return epochs


def _covering(epochs: Iterable[Epoch], close_time_ms: int) -> Epoch | None:
    """By the letter: the highest epoch whose `effective_from_ms` is not after the close."""
    covers = [epoch for epoch in epochs if epoch.effective_from_ms <= close_time_ms]
    return max(covers, key=lambda epoch: epoch.number or 0, default=None)


def _compare(due: dict[Identity, Due], first: dict[Identity, Signal], result: Audit) -> None:
    for identity, wanted in due.items():
        signal = first.get(identity)
        if signal is None:
            result.missing += 1
            result.note("missing", identity)
        elif (signal.bundle, signal.epoch) != (wanted.bundle, wanted.epoch):
            result.wrong_bundle += 1
            result.note("wrong bundle", identity)
    for identity in first.keys() - due.keys():
        result.unexpected += 1
        result.note("unexpected", identity)


def _recompute(
    runs: list[_Run],
    due: dict[Identity, Due],
    bundles: dict[str, ServingBundle],
    first: dict[Identity, Signal],
    result: Audit,
) -> None:
    """Every value again, from features over whole runs and windows cut from them."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for r, run in enumerate(runs):
        by_length[run.candles[0].close_time_ms - run.candles[0].open_time_ms].append(r)
    wanted: dict[int, list[tuple[Identity, Due]]] = defaultdict(list)
    for identity, what in due.items():
        if identity in first and first[identity].bundle == what.bundle:
            wanted[what.run].append((identity, what))
    for length_ms, members in by_length.items():
        grid = _grid(runs, members, length_ms)
        rows = {r: row for row, r in enumerate(members)}
        asked = [(i, d, rows[d.run], runs[d.run].first_slot - grid.start + d.at) for r in members for i, d in wanted[r]]
        for sha256, bundle in bundles.items():
            mine = [each for each in asked if each[1].bundle == sha256]
            for at in range(0, len(mine), CHUNK):
                _check(mine[at : at + CHUNK], bundle, grid, first, result)


class _Grid(NamedTuple):
    """Some runs side by side."""

    start: int  # slot
    features: NDArray[np.float32]  # (R, T, F)
    volatility: NDArray[np.float64]  # (R, T)


def _grid(runs: list[_Run], members: list[int], length_ms: int) -> _Grid:
    start = min(runs[r].first_slot for r in members)
    stop = max(runs[r].first_slot + len(runs[r].candles) for r in members)
    ohlcv = np.full((5, len(members), stop - start), np.nan)
    for row, r in enumerate(members):
        cells = [(c.open, c.high, c.low, c.close, c.volume) for c in runs[r].candles]
        first = runs[r].first_slot - start
        ohlcv[:, row, first : first + len(cells)] = np.array(cells, np.float64).T  # None becomes NaN
    offset = runs[members[0]].candles[0].close_time_ms % length_ms
    closes = np.arange(start, stop, dtype=np.int64) * length_ms + offset
    features, volatility, _ = grid_features(closes, length_ms, ohlcv)
    return _Grid(start, features, volatility)


def _check(
    asked: list[tuple[Identity, Due, int, int]],
    bundle: ServingBundle,
    grid: _Grid,
    first: dict[Identity, Signal],
    result: Audit,
) -> None:
    rows = np.array([row for *_, row, _ in asked])
    slots = np.array([slot for *_, slot in asked])
    back = np.arange(1 - bundle.spec.lookback_bars, 1)
    windows = grid.features[rows[:, None], slots[:, None] + back][:, :, bundle.columns]
    signals = [first[identity] for identity, *_ in asked]
    close = np.array([signal.close for signal in signals])
    raw = bundle.predictor.predict(np.ascontiguousarray(windows))
    forecast = bundle.interpreter.interpret(raw, close, grid.volatility[rows, slots], grid.features[rows, slots])
    off = np.zeros(len(asked), np.bool_)
    for name in _OUTPUTS:
        said = np.array([getattr(signal, name) for signal in signals])
        off |= ~(np.abs(said - getattr(forecast, name)) <= OUTPUT_TOLERANCE)
    for name in _PRICES:
        said = np.array([getattr(signal, name) for signal in signals])
        off |= ~(np.abs(said / getattr(forecast, name) - 1) <= PRICE_TOLERANCE)
    for at in np.flatnonzero(off).tolist():
        result.note("wrong", asked[at][0])
    result.wrong += int(off.sum())
    result.checked += len(asked)
