from __future__ import annotations

from collections import defaultdict
from math import fsum
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.outcome_writer import SUMMED
from models.outcomes import Rewind
from tests.models.candle_records import laws
from tests.models.join_logs import (
    Reader,
    by_identity,
    expected,
    make_logs,
    read_whole,
    sums_by_identity,
)

seeds = st.integers(0, 2**32)


@laws
@given(seed=seeds)
def test_outcomes_are_those_of_every_label_that_exists(seed: int) -> None:
    logs = make_logs(seed)
    found = by_identity(read_whole(logs).outcomes)
    wanted = {(symbol, model, close): (price, mean) for symbol, model, close, price, mean in expected(logs)}
    assert {identity[:3] for identity in found} == set(wanted)
    for (symbol, model, close, _), outcome in found.items():
        assert (outcome.target_close, outcome.mean_range) == pytest.approx(wanted[symbol, model, close], rel=1e-12)


@laws
@given(seed=seeds)
def test_sums_are_those_of_the_outcomes_of_every_target_but_the_last(seed: int) -> None:
    whole = read_whole(make_logs(seed))
    of_each = defaultdict(list)
    for outcome in whole.outcomes:
        of_each[outcome.model, outcome.bundle, outcome.target_time_ms].append(outcome)
    found = sums_by_identity(whole.scores)
    last = max(target for *_, target in of_each)
    assert {identity for identity in of_each if identity[2] != last} <= found.keys() <= of_each.keys()
    for identity, scores in found.items():
        mine = of_each[identity]
        assert (scores.partition, scores.outcomes) == (0, len(mine))
        for name in SUMMED:
            assert getattr(scores, name) == fsum(getattr(outcome, name) for outcome in mine)


@laws
@given(seed=seeds, order=seeds)
def test_outcomes_and_sums_are_the_same_however_both_logs_are_cut_and_interleaved(seed: int, order: int) -> None:
    logs = make_logs(seed)
    whole, reader = read_whole(logs), Reader(logs)
    _read_at_random(reader, Random(order))
    assert by_identity(reader.outcomes) == by_identity(whole.outcomes)
    assert len(reader.outcomes) == len(whole.outcomes)
    assert sums_by_identity(reader.scores) == sums_by_identity(whole.scores)
    assert (reader.withheld, reader.late) == (whole.withheld, whole.late)


@laws
@given(seed=seeds, order=seeds)
def test_outcomes_and_sums_are_the_same_after_any_number_of_crashes(seed: int, order: int) -> None:
    logs = make_logs(seed)
    whole, reader = read_whole(logs), Reader(logs)
    _read_at_random(reader, Random(order), crashes=0.1)
    assert by_identity(reader.outcomes) == by_identity(whole.outcomes)
    assert sums_by_identity(reader.scores) == sums_by_identity(whole.scores)


@laws
@given(seed=seeds, order=seeds)
def test_outcomes_are_said_once_where_each_restart_follows_a_commit(seed: int, order: int) -> None:
    logs = make_logs(seed)
    whole, reader = read_whole(logs), Reader(logs)
    _read_at_random(reader, Random(order), crashes=0.1, gently=True)
    assert len(reader.outcomes) == len(whole.outcomes)
    assert len([one for one in reader.scores if one.outcomes]) == len([one for one in whole.scores if one.outcomes])


def test_signals_whose_candles_were_deleted_wait_until_that_is_certain_and_hold_nothing_back() -> None:
    logs = make_logs(3)
    reader = Reader(logs)
    reader.committed = (40, 0, Rewind(40, 0, 0))  # the log begins at 40
    reader.restart()
    reader.read(0, len(logs.signals))
    assert reader.join.forget_orphans(0, 0) == 0
    waiting = reader.join.waiting(0)
    reader.read(len(logs.candles), 0)
    reader.settle(len(logs.candles))
    before = reader.withheld["candle_gone"]
    reader.join.forget_orphans(0, len(logs.signals))
    assert waiting > before > 0
    assert {one.close_time_ms for one in reader.outcomes} <= {one.close_time_ms for one in read_whole(logs).outcomes}
    assert reader.join.rewinds()[0].signals > 0


def _read_at_random(reader: Reader, order: Random, crashes: float = 0.0, gently: bool = False) -> None:
    candles, signals = len(reader.logs.candles), len(reader.logs.signals)
    for _ in range(1_000):
        if reader.at == [candles, signals] and reader.committed[:2] == (candles, signals):
            break
        reader.read(order.choice((0, 1, 5, 30)), order.choice((0, 1, 5, 30)))
        if order.random() < 0.5:
            reader.settle(order.randint(0, candles))
        if order.random() < 0.5:
            reader.commit()
        if order.random() < crashes and (not gently or reader.commit()):
            reader.restart()
    reader.finish()
