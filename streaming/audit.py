"""An independent count of what should be on `signals` and what is: from the topics alone, not from predict's counters.

Enters: every record of `candles`, `models`, `signals` and `dead-letters`. Leaves: how many signals are expected,
missing, doubled or wrong. Does not know: serving's order, windows, batches, rewinds and choice of bundle; those are
worked out again, by the letter of the design. `python -m streaming.audit` prints it as JSON and says by its exit code
whether all is well.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, NamedTuple, get_args

from models.activation import Epoch
from models.continuity import COLD_AFTER_ABSENT
from models.errors import InvalidBundle
from models.events import Signal, Skill, decode_dead_letter, decode_signal
from models.features import WARM_UP_BARS
from models.serving import ServingBundle, make_ready
from models.spec import Spec
from streaming.audit_candles import CandleLog, Line, Place, Run, read_candle_log
from streaming.audit_values import Claim, differing
from streaming.models_topic import ModelsView, read_models
from streaming.read import read_batches
from streaming.settings import Settings

MAX_EXAMPLES = 10


class Identity(NamedTuple):
    """What a signal is about."""

    line: Line
    model: str
    close_time_ms: int


class Due(NamedTuple):
    """A signal that must exist: slot `at` of a run, under the bundle of an epoch."""

    run: int
    at: int
    epoch: Epoch


@dataclass
class Audit:
    """The outcome. All is well when every count of `FAULTS` is 0."""

    candles: int = 0  # valid, of revision 0, first of their slot; absent ones included
    expected: int = 0
    signals: int = 0  # each identity once
    missing: int = 0
    duplicates: int = 0  # harmless, and checked like the first: consumers drop them
    wrong: int = 0  # records whose values differ from the recomputed ones; checked only when recomputed
    wrong_bundle: int = 0  # records that name another bundle or epoch than the one that covers their close
    unexpected: int = 0  # records where nothing was due
    overtaken: int = 0  # signals that came behind a later close of their series and model: consumers drop them
    unreadable: int = 0  # records that are no signals, or no dead letters; a number that is not finite makes one
    poison: int = 0  # records of `candles` that can never be used
    unburied: int = 0  # of these, without a dead letter
    buried_alive: int = 0  # dead letters of records that are good
    withheld: dict[str, int] = field(default_factory=dict)
    checked: int = 0  # records recomputed
    examples: list[str] = field(default_factory=list)

    @property
    def flawless(self) -> bool:
        """Nothing missing, wrong or out of place."""
        return not any(getattr(self, fault) for fault in FAULTS)

    def note(self, what: str, identity: Identity) -> None:
        """Keep a few examples for the person who must find out why."""
        if len(self.examples) < MAX_EXAMPLES:
            line, model, close_time_ms = identity
            self.examples.append(f"{what}: {line.key.decode()} on {line.partition} {model} {close_time_ms}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


FAULTS = ("missing", "wrong", "wrong_bundle", "unexpected", "overtaken", "unreadable", "unburied", "buried_alive")


async def audit(settings: Settings, recompute: bool = True) -> Audit:
    """Read the topics to their ends and compare."""
    result = Audit()
    signals = await _signals(settings, result)  # before the candles, which may go on coming
    buried = await _buried(settings, result)
    candles = await read_candle_log(settings)
    view = await read_models(settings)
    bundles = _fit_bundles(view)
    due = _due(candles.runs, _epochs(view, bundles), bundles, result)
    _count(candles, buried, signals, result)
    claims = _compare(due, signals, result)
    _count_overtaken(due, signals, result)
    if recompute:
        result.checked = len(claims)
        for claim in differing(candles.runs, claims, bundles, settings.predict.always_direct):
            result.wrong += 1
            result.note("wrong", _identity(candles.runs[claim.run].line, claim.signal))
    return result


def _fit_bundles(view: ModelsView) -> dict[str, ServingBundle]:
    """Those that activations name and that give their golden output here."""
    fit = {}
    for sha256 in {accepted.activation.bundle for accepted in view.activations}:
        with suppress(InvalidBundle):
            fit[sha256] = make_ready(view.blobs[sha256], sha256, "cpu")
    return fit


def _epochs(view: ModelsView, fit: Container[str]) -> dict[str, list[Epoch]]:
    epochs: dict[str, list[Epoch]] = defaultdict(list)
    for offset, activation in view.activations:
        if activation.bundle in fit:
            proven = _proven(activation.report)
            epoch = Epoch(offset, activation.model, activation.bundle, activation.effective_from_ms, proven)
            epochs[activation.model].append(epoch)
    return epochs


def _proven(report: dict[str, Any] | None) -> tuple[Skill, ...]:
    """By the letter: the skills that the gate's report names."""
    named = report.get("proven") if report else None
    return tuple(skill for skill in get_args(Skill) if isinstance(named, list) and skill in named)


async def _signals(settings: Settings, result: Audit) -> list[tuple[Line, Signal]]:
    signals = []
    async for records in read_batches(settings, "signals"):
        for record in records:
            try:
                signals.append((Line(record.partition, record.key), decode_signal(record.value or b"")))
            except (ValueError, RecursionError):
                result.unreadable += 1
    return signals


async def _buried(settings: Settings, result: Audit) -> set[Place]:
    buried = set()
    async for records in read_batches(settings, "dead-letters"):
        for record in records:
            try:
                letter = decode_dead_letter(record.value or b"")
            except (ValueError, RecursionError):
                result.unreadable += 1
                continue
            if letter.topic == settings.topic("candles"):
                buried.add(Place(letter.partition, letter.offset))
    return buried


def _identity(line: Line, signal: Signal) -> Identity:
    return Identity(line, signal.model, signal.close_time_ms)


def _count(candles: CandleLog, buried: set[Place], signals: list[tuple[Line, Signal]], result: Audit) -> None:
    result.candles, result.poison = candles.slots, len(candles.poison)
    result.unburied, result.buried_alive = len(candles.poison - buried), len(buried - candles.poison)
    result.signals = len({_identity(line, signal) for line, signal in signals})
    result.duplicates = len(signals) - result.signals


def _due(
    runs: list[Run], epochs: dict[str, list[Epoch]], bundles: dict[str, ServingBundle], result: Audit
) -> dict[Identity, Due]:
    """Walk every run candle by candle and say where a signal is due."""
    due: dict[Identity, Due] = {}
    withheld: Counter[str] = Counter()
    covering = {model: _covering(own) for model, own in epochs.items()}
    timeframe_ms = {model: bundles[own[0].bundle].spec.timeframe_ms for model, own in epochs.items()}
    for r, run in enumerate(runs):
        models = [model for model in epochs if timeframe_ms[model] == run.timeframe_ms]
        absent = run.absent.tolist()
        for (at, age, absents), close_time_ms in zip(_walk(absent), run.close_time_ms.tolist(), strict=True):
            if absent[at] or not models:
                withheld["absent" if absent[at] else "no_bundle"] += 1
                continue
            for model in models:
                epoch = covering[model](close_time_ms)
                if epoch is None:
                    withheld["no_bundle"] += 1
                elif reason := _reason(absent, at, age, absents, bundles[epoch.bundle].spec):
                    withheld[reason] += 1
                else:
                    due[Identity(run.line, model, close_time_ms)] = Due(r, at, epoch)
    result.expected, result.withheld = len(due), dict(withheld)
    return due


def _covering(epochs: Iterable[Epoch]) -> Callable[[int], Epoch | None]:
    """By the letter: the highest epoch whose `effective_from_ms` is not after the close."""

    @cache
    def at(close_time_ms: int) -> Epoch | None:
        covers = [epoch for epoch in epochs if epoch.effective_from_ms <= close_time_ms]
        return max(covers, key=lambda epoch: epoch.number or 0, default=None)

    return at


def _walk(absent: list[bool]) -> Iterator[tuple[int, int, int]]:
    """Each slot of a run, how long ago its last cold start was, and how many of the last 1,500 slots were absent."""
    cold: int | None = None
    in_a_row = absents = 0
    for at, gone in enumerate(absent):
        in_a_row = in_a_row + 1 if gone else 0
        absents += gone
        if at >= WARM_UP_BARS:
            absents -= absent[at - WARM_UP_BARS]
        if in_a_row >= COLD_AFTER_ABSENT:
            cold = None
        if cold is None and not gone:
            cold = at
        yield at, 0 if cold is None else at - cold, absents


def _reason(absent: list[bool], at: int, age: int, absents: int, spec: Spec) -> str | None:
    if age < spec.warm_up_bars + spec.lookback_bars - 1:
        return "warming_up"
    if absents and any(absent[at - spec.lookback_bars + 1 : at + 1]):
        return "absent_in_window"
    return "too_many_absent" if absents > WARM_UP_BARS // 20 else None


def _compare(due: dict[Identity, Due], signals: list[tuple[Line, Signal]], result: Audit) -> list[Claim]:
    """Set what is against what should be, duplicates included; what is left to check is its values."""
    claims, seen = [], set()
    for line, signal in signals:
        identity = _identity(line, signal)
        wanted = due.get(identity)
        seen.add(identity)
        if wanted is None:
            result.unexpected += 1
            result.note("unexpected", identity)
        elif (signal.bundle, signal.epoch) != (wanted.epoch.bundle, wanted.epoch.number):
            result.wrong_bundle += 1
            result.note("wrong bundle", identity)
        else:
            claims.append(Claim(signal, wanted.run, wanted.at, wanted.epoch.bundle, wanted.epoch.proven))
    for identity in due.keys() - seen:
        result.missing += 1
        result.note("missing", identity)
    return claims


def _count_overtaken(due: Container[Identity], signals: list[tuple[Line, Signal]], result: Audit) -> None:
    """A duplicate comes behind later closes too, and is not missed: its first was taken."""
    newest: dict[tuple[Line, str], int] = {}
    seen = set()
    for line, signal in signals:
        identity = _identity(line, signal)
        newest_ms = newest.get((line, signal.model), -1)
        if signal.close_time_ms < newest_ms and identity in due and identity not in seen:
            result.overtaken += 1
            result.note("overtaken", identity)
        newest[line, signal.model] = max(newest_ms, signal.close_time_ms)
        seen.add(identity)


def main() -> None:
    """Print the audit of the system that the environment names."""
    gc.disable()  # a million records and no cycles among them: looking for some takes a sixth of the time
    result = asyncio.run(audit(Settings()))
    sys.stdout.write(json.dumps(result.as_dict()) + "\n")
    sys.exit(not result.flawless)


if __name__ == "__main__":
    main()
