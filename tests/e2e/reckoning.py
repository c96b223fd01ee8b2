"""What must be in `outcomes` and `scores`, reckoned the slow way from `candles` and `signals`, and what is.

Enters: settings of a system at rest. Leaves: outcomes and sums by identity. Does not know: how the monitor works.
"""

from __future__ import annotations

from collections import defaultdict
from math import fsum
from typing import Any, NamedTuple

from models.events import (
    Candle,
    Drift,
    Outcome,
    Scores,
    Signal,
    decode_candle,
    decode_drift,
    decode_outcome,
    decode_scores,
    decode_signal,
)
from models.scoring import Realised, score
from models.series import timeframe_ms
from streaming.read import read_topic
from streaming.settings import Settings

Identity = tuple[str, str, int, str]
"""Symbol, model, close, bundle."""


class Found(NamedTuple):
    """What lies on the topics."""

    outcomes: dict[Identity, Outcome]
    records: int  # of outcomes, repeats included
    partial: dict[tuple[int, int], Scores]  # by partition and target; with outcomes only
    pooled: list[Scores]
    drifts: list[Drift]


async def expected_outcomes(settings: Settings) -> dict[Identity, tuple[Any, ...]]:
    """Target close, mean range and all scores of every signal whose label exists."""
    candles: dict[tuple[str, int], Candle] = {}
    async for record in read_topic(settings, "candles"):
        candle = decode_candle(record.value)
        if candle.revision == 0:
            candles.setdefault((candle.symbol, candle.close_time_ms), candle)
    due: dict[Identity, tuple[Signal, Realised]] = {}
    async for record in read_topic(settings, "signals"):
        signal = decode_signal(record.value)
        realised = _realised(signal, candles)
        if realised:
            due.setdefault((signal.symbol, signal.model, signal.close_time_ms, signal.bundle), (signal, realised))
    if not due:
        return {}
    signals, came = zip(*due.values(), strict=True)
    rows = zip(*(column.tolist() for column in score(signals, came)), strict=True)
    return {
        identity: (*realised, *row)
        for (identity, (_, realised)), row in zip(due.items(), rows, strict=True)
    }  # fmt: skip


def _realised(signal: Signal, candles: dict[tuple[str, int], Candle]) -> Realised | None:
    length_ms = timeframe_ms(signal.timeframe)
    ahead = range(signal.close_time_ms + length_ms, signal.target_time_ms + length_ms, length_ms)
    came = [candles.get((signal.symbol, at)) for at in ahead]
    ranges = []
    for candle in came:
        if candle is None or candle.high is None or candle.low is None or candle.close is None:
            return None
        ranges.append((candle.high - candle.low) / candle.close)
    last = came[-1]
    assert last is not None
    assert last.close is not None
    return Realised(last.close, fsum(ranges) / len(ranges))


def told(outcome: Outcome) -> tuple[Any, ...]:
    """The same of an outcome."""
    return (
        outcome.target_close, outcome.mean_range, outcome.y_return, outcome.y_range, outcome.return_crps,
        outcome.return_crps_ewma, outcome.range_crps, outcome.range_crps_har, outcome.return_pit, outcome.range_pit,
        outcome.return_covered, outcome.range_covered,
    )  # fmt: skip


async def found(settings: Settings) -> Found:
    """Read the topics; two outcomes or sums of one identity that differ are an error."""
    outcomes: dict[Identity, Outcome] = {}
    records = 0
    async for record in read_topic(settings, "outcomes"):
        outcome = decode_outcome(record.value)
        identity = (outcome.symbol, outcome.model, outcome.close_time_ms, outcome.bundle)
        assert outcomes.setdefault(identity, outcome) == outcome
        assert record.timestamp == outcome.target_time_ms
        records += 1
    partial: dict[tuple[int, int], Scores] = {}
    pooled = []
    async for record in read_topic(settings, "scores"):
        scores = decode_scores(record.value)
        if scores.partition is None:
            pooled.append(scores)
        elif scores.outcomes:
            assert partial.setdefault((scores.partition, scores.target_time_ms), scores) == scores
    drifts = [decode_drift(record.value) async for record in read_topic(settings, "drift")]
    return Found(outcomes, records, partial, pooled, drifts)


def sums_of(outcomes: dict[Identity, Outcome]) -> dict[int, tuple[int, int]]:
    """By target: how many outcomes, and how many of them with the range covered."""
    by_target: defaultdict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes.values():
        by_target[outcome.target_time_ms].append(outcome)
    return {target: (len(each), sum(one.range_covered for one in each)) for target, each in by_target.items()}
