from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.events import Scores
from models.pooling import LIVE_CLOSES, SETTLE_S, Pool, pool
from tests.models.candle_records import MINUTE, laws

START = 1_700_000_040_000
TIMEOUT_S = 30.0
seeds = st.integers(0, 2**32)


def partial(partition: int, close: int, outcomes: int = 2, **fields: Any) -> Scores:
    own: dict[str, Any] = {
        "model": "default-1m", "bundle": "a" * 64, "epoch": 7, "timeframe": "1m", "horizon_bars": 3,
        "target_time_ms": START + close * MINUTE, "partition": partition, "outcomes": outcomes,
        "range_crps": 0.1 * partition + 0.001 * close, "range_covered": outcomes,
    }  # fmt: skip
    return Scores(**own | fields)


def targets(pooled: list[Scores]) -> list[int]:
    return [(one.target_time_ms - START) // MINUTE for one in pooled]


def settled_pool(partitions: int = 3) -> Pool:
    """A pool that has known its partitions for long enough; close 0 is done."""
    made = Pool(TIMEOUT_S)
    for partition in range(partitions):
        made.add(partial(partition, 0), partition, 0.0)
    assert targets(list(made.due(SETTLE_S))) == [0]
    return made


def test_close_is_pooled_when_every_live_partition_has_passed_it_and_not_before() -> None:
    pool_ = settled_pool()
    pool_.add(partial(0, 1), 10, 3.0)
    pool_.add(partial(2, 2), 11, 3.0)  # passed close 1 without an outcome
    assert list(pool_.due(3.1)) == []
    pool_.add(partial(1, 1), 12, 3.2)
    (one,) = pool_.due(3.2)
    assert (targets([one]), one.partitions, one.outcomes, one.partition) == ([1], 2, 4, None)


def test_close_waits_for_a_silent_partition_only_so_long_and_its_late_word_is_counted() -> None:
    pool_ = settled_pool()
    pool_.add(partial(0, 1), 10, 3.0)
    pool_.add(partial(1, 1), 11, 3.0)
    assert list(pool_.due(3.0 + TIMEOUT_S - 0.1)) == []
    (one,) = pool_.due(3.0 + TIMEOUT_S)
    assert one.partitions == 2
    pool_.add(partial(2, 1), 12, 40.0)
    assert (list(pool_.due(99.0)), pool_.late) == ([], 1)


def test_partition_silent_for_sixty_closes_is_not_waited_for() -> None:
    pool_ = settled_pool()
    for partition in (0, 1):
        pool_.add(partial(partition, LIVE_CLOSES + 1), 10, 3.0)
    assert targets(list(pool_.due(3.0))) == [LIVE_CLOSES + 1]


def test_rewind_offset_is_not_held_back_by_a_model_that_nobody_serves_any_more() -> None:
    pool_ = settled_pool(1)
    for close in (LIVE_CLOSES, LIVE_CLOSES + 1):
        pool_.add(partial(0, close, model="other-1m"), 10 + close, 3.0)
        assert pool_.rewind_offset(99) == (0 if close == LIVE_CLOSES else 70)
    assert targets(list(pool_.due(99.0))) == [LIVE_CLOSES, LIVE_CLOSES + 1]


def test_model_is_not_pooled_before_its_partitions_can_be_known() -> None:
    pool_ = Pool(TIMEOUT_S)
    pool_.add(partial(0, 1), 0, 0.0)
    assert list(pool_.due(SETTLE_S - 0.1)) == []
    pool_.add(partial(1, 1), 1, SETTLE_S - 0.1)
    assert [one.partitions for one in pool_.due(SETTLE_S)] == [2]


def test_close_that_someone_pooled_before_is_not_pooled_again() -> None:
    pool_ = settled_pool()
    for partition in range(3):
        pool_.add(partial(partition, 1), 10 + partition, 3.0)
    pool_.note(pool([partial(0, 1)]), 3.0)
    assert list(pool_.due(99.0)) == []


def test_close_of_two_bundles_is_pooled_for_each_and_one_without_outcomes_for_none() -> None:
    pool_ = settled_pool(2)
    pool_.add(partial(0, 1, bundle="b" * 64, epoch=9), 10, 3.0)
    pool_.add(partial(0, 1), 11, 3.0)
    pool_.add(partial(1, 1, outcomes=0), 12, 3.0)
    assert [(one.bundle[0], one.partitions) for one in pool_.due(3.0)] == [("a", 1), ("b", 1)]
    for partition in (0, 1):
        pool_.add(partial(partition, 2, outcomes=0), 13, 4.0)
    assert list(pool_.due(99.0)) == []


@laws
@given(seed=seeds)
def test_pooled_closes_are_the_same_however_partitions_are_interleaved_and_the_owner_replaced(seed: int) -> None:
    rng = Random(seed)
    logs = [[partial(p, close) for close in range(12) if rng.random() < 0.8 or close == 11] for p in range(4)]
    whole = Pool(TIMEOUT_S)
    for log in logs:
        for at, one in enumerate(log):
            whole.add(one, at, 0.0)
    wanted = list(whole.due(SETTLE_S))
    assert sum(one.partitions for one in wanted) == sum(map(len, logs))

    log, published, left = [], [], [list(each) for each in logs]
    owner, rewind = Pool(TIMEOUT_S), 0
    for partition, each in enumerate(left):  # all are known from the start
        log.append(each.pop(0))
        owner.add(log[-1], partition, 0.0)
    while True:
        if any(left):
            log.append(rng.choice([each for each in left if each]).pop(0))
            owner.add(log[-1], len(log) - 1, 0.0)
        due = list(owner.due(SETTLE_S))
        published += due
        log += due
        for one in due:
            owner.note(one, 0.0)
        rewind = owner.rewind_offset(len(log))
        if rng.random() < 0.2:
            owner = _rebuilt(log, rewind)
        if not any(left) and not due:
            break
    assert published == wanted


def _rebuilt(log: list[Scores], rewind: int) -> Pool:
    owner = Pool(TIMEOUT_S)
    for offset, one in enumerate(log[rewind:], rewind):
        if one.partition is None:
            owner.note(one, 0.0)
        else:
            owner.add(one, offset, 0.0)
    return owner


@laws
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), seed=seeds)
def test_pool_gives_one_sum_in_whatever_order(values: list[float], seed: int) -> None:
    parts = [partial(at, 0, range_crps=value) for at, value in enumerate(values)]
    mixed = Random(seed).sample(parts, len(parts))
    assert pool(parts).range_crps == pool(mixed).range_crps == pytest.approx(sum(values), abs=1e-6)
