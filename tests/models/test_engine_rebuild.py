"""Invariant 4 of design.md: whoever starts at the rewind offset goes on as if it had never stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from models.activation import Timeline
from models.continuity import MARK_BARS, REWIND_BARS
from models.engine import Engine
from models.features import WARM_UP_BARS
from models.series import Series
from models.spec import MAX_LOOKBACK_BARS
from tests.models.candle_records import MINUTE, START_SLOT
from tests.models.histories import History, joined, random_history, truthful
from tests.models.market import Arrival, Outcome, Story, assert_same_signals, market, run, steady
from tests.models.small_bundles import (
    NEW,
    OLD,
    OTHER,
    SLOW,
    close_ms,
    epoch,
    new_engine,
    timeline_of,
)

MINUTES = 3_200
TIMELINE = timeline_of(epoch(1, OLD), epoch(2, OTHER), epoch(3, SLOW), epoch(9, NEW, close_ms(2_900)))


def one(name: str, timeframe: str = "1m") -> Series:
    return Series("binance", f"{name}/USDT", timeframe)


def busy_market(seed: int) -> list[Arrival]:
    """Random series, and one of each kind that could make a rebuilt state differ."""
    rng = np.random.default_rng(seed)
    start, end, slow_start, slow_slots = START_SLOT, START_SLOT + MINUTES, START_SLOT * 60 // 75, MINUTES * 60 // 75
    sparse = rng.choice(MINUTES, MINUTES * 5 // 100, replace=False).tolist()
    stories = {
        one("STEADY"): Story(0, steady(MINUTES, start)),
        one("SPARSE"): Story(0, steady(MINUTES, start, absent=sparse)),
        one("SLOW", "75s"): Story(0, steady(slow_slots, slow_start, absent=[400, 401, 402])),
        one("NEW"): Story(0, steady(900, end - 900)),
        one("GONE"): Story(1, steady(400, start)),
        one("BACK"): Story(1, joined(steady(500, start), steady(700, end - 700))),
        one("PAUSED"): Story(1, steady(MINUTES, start, absent=[*range(700, 759), *range(1_100, 1_159)])),
        one("COLD"): Story(1, steady(MINUTES, start, absent=[*range(900, 980), *range(2_600, 2_670)])),
        one("PLAIN"): Story(2, steady(MINUTES, start)),
        one("LATE", "75s"): Story(2, steady(slow_slots, slow_start - 48_000), late_ms=60_000 * MINUTE),
    }
    for i in range(4):
        stories[one(f"WILD{i}")] = Story(i % 3, truthful(random_history(rng, MINUTES, start=start)))
    return market(stories, seed)


Windows = dict[tuple[int, bytes], NDArray[np.float32]]  # by partition and key


def ends(arrivals: Sequence[Arrival]) -> Counter[int]:
    """How far each partition has been read."""
    return Counter(arrival.record.partition for arrival in arrivals)


def what_it_reads(
    arrivals: Sequence[Arrival], committed: Mapping[int, int], rewind: Mapping[int, int]
) -> list[Arrival]:
    """The records of each partition with a commit: from its rewind offset on, or from the commit if it has none."""
    starts = {partition: min(rewind.get(partition, end), end) for partition, end in committed.items()}
    return [a for a in arrivals if a.offset >= starts.get(a.record.partition, len(arrivals))]


def windows(engine: Engine) -> Windows:
    """By series, the widest window of the whole catalogue, where every feature in it is exact."""
    rows = engine.table.rows
    held = engine._continuity.withheld(rows, WARM_UP_BARS, MAX_LOOKBACK_BARS).values()
    rows = rows[~np.logical_or.reduce([*held, engine._continuity.is_cold(rows)])]
    gathered = engine._ring.gather(rows, MAX_LOOKBACK_BARS)
    homes = [(int(engine.table.partition[row]), engine.table.keys[row]) for row in rows.tolist()]
    return dict(zip(homes, gathered, strict=True))


def assert_same_windows(found: Windows, wanted: Windows) -> None:
    assert found.keys() == wanted.keys()
    assert len(found) >= 5
    for home, window in found.items():
        np.testing.assert_allclose(window, wanted[home], rtol=1e-6, atol=1e-6, err_msg=str(home))


def counts(outcome: Outcome) -> dict[str, int]:
    """What was counted, but for the gap before a series that no longer lived: who starts later sees none."""
    return {**+outcome.withheld, **+outcome.ignored, "candles": outcome.candles, "undeclared_gap": 0}


@dataclass
class NeverStopped:
    """What an engine gives that reads a whole market, and all that others will be held to."""

    arrivals: list[Arrival]
    stops: list[int]
    rewinds: list[Mapping[int, int]] = field(default_factory=list)  # at each stop
    windows: list[Windows] = field(default_factory=list)  # at each stop, and at the end
    spans: list[Outcome] = field(default_factory=list)  # from each stop to the next, or to the end


@pytest.fixture(scope="module")
def never_stopped() -> NeverStopped:
    arrivals, engine = busy_market(seed=0), new_engine()
    stops = [len(arrivals) * part // 16 for part in (12, 14, 15)]
    recorded = NeverStopped(arrivals, stops)
    run(engine, arrivals[: stops[0]], TIMELINE)
    for stop, until in pairwise([*stops, len(arrivals)]):
        recorded.rewinds.append(engine.rewind_offsets())
        recorded.windows.append(windows(engine))
        recorded.spans.append(run(engine, arrivals[stop:until], TIMELINE))
    recorded.windows.append(windows(engine))
    return recorded


def taken_over(arrivals: Sequence[Arrival], read: int, rewinds: Mapping[int, int]) -> Engine:
    """Another process in the place of one that stopped after so many records; rebuilding, it says nothing."""
    engine = new_engine()
    log = what_it_reads(arrivals[:read], ends(arrivals[:read]), rewinds)
    assert len(log) < read
    assert run(engine, log, TIMELINE, sizes=[1, 50, 3_000, 7], resume=ends(arrivals[:read])) == Outcome()
    return engine


def test_rebuilt_engine_goes_on_as_one_that_never_stopped(never_stopped: NeverStopped) -> None:
    arrivals, rewinds = never_stopped.arrivals, never_stopped.rewinds[0]
    for number, (stop, until) in enumerate(pairwise(never_stopped.stops)):  # the second takes over from the first
        engine = taken_over(arrivals, stop, rewinds)
        assert_same_windows(windows(engine), never_stopped.windows[number])
        found, wanted = run(engine, arrivals[stop:until], TIMELINE), never_stopped.spans[number]
        assert_same_signals(found.signals, wanted.signals)
        assert counts(found) == counts(wanted)
        assert len(wanted.signals) > 1_000
        assert_same_windows(windows(engine), never_stopped.windows[number + 1])
        rewinds = engine.rewind_offsets()


def test_partitions_given_away_and_back_go_on_as_if_they_had_stayed(never_stopped: NeverStopped) -> None:
    arrivals, (gone, back, _) = never_stopped.arrivals, never_stopped.stops
    engine, guest, found = taken_over(arrivals, gone, never_stopped.rewinds[0]), new_engine(), Outcome()
    lent = what_it_reads(arrivals[:back], {0: ends(arrivals[:gone])[0]}, engine.rewind_offsets())
    engine.forget({0})
    assert 0 not in engine.rewind_offsets()
    kept = [arrival for arrival in arrivals[gone:back] if arrival.record.partition != 0]
    run(engine, kept, TIMELINE, outcome=found)
    run(guest, lent, TIMELINE, resume=ends(arrivals[:gone]), outcome=found)

    returned = what_it_reads(arrivals[:back], {0: ends(arrivals[:back])[0]}, guest.rewind_offsets())
    mixed = [*returned, *arrivals[back:]]
    run(engine, mixed, TIMELINE, sizes=[1_000] * 5, resume={0: ends(arrivals[:back])[0]}, outcome=found)
    assert_same_signals(found.signals, [signal for span in never_stopped.spans for signal in span.signals])
    assert found.candles == sum(span.candles for span in never_stopped.spans)
    assert_same_windows(windows(engine), never_stopped.windows[-1])


# --- from where


@pytest.mark.parametrize("lag", [0, 48_000])
def test_rewind_offset_of_a_partition_is_the_smallest_that_a_live_series_needs(lag: int) -> None:
    """Lagging far behind the others by its own closes, a series is alive as long as it is heard."""
    engine = new_engine()
    short, start = Story(4, steady(3_000, START_SLOT)), START_SLOT * 60 // 75
    long = Story(4, steady(2_400, start - lag), late_ms=lag * 75_000)
    run(engine, market({one("SHORT"): short, one("LONG", "75s"): long}), Timeline(), sizes=[1_000] * 6)
    needs = (2_400 - REWIND_BARS) * 9 / 4  # five candles of a minute lie beside four of 75 seconds
    assert 0 < needs - engine.rewind_offsets()[4] < MARK_BARS * 9 / 4 + 2


def test_rewind_offset_leaves_out_who_fell_silent_for_longer_than_its_span() -> None:
    engine = new_engine()
    live, gone = Story(0, steady(3_300, START_SLOT)), Story(0, steady(100, START_SLOT + 1_000))
    arrivals = market({one("LIVE"): live, one("GONE"): gone})
    silence_ends = 1_200 + REWIND_BARS + 1  # so many records, and it lasts longer than the series' own memory
    run(engine, arrivals[: silence_ends - 2], Timeline(), sizes=[100] * 12)  # heard, at the latest, as a batch ends
    assert engine.rewind_offsets() == {0: 1_001}
    run(engine, arrivals[silence_ends - 2 : silence_ends + 2], Timeline())
    assert engine.rewind_offsets()[0] > 1_100


@pytest.mark.parametrize("lies", [1, 3])
def test_rewind_offset_is_not_moved_by_candles_from_a_wrong_future(lies: int) -> None:
    engine = new_engine()
    run(engine, market({one("TRUE"): Story(0, steady(2_100, START_SLOT))}), Timeline())
    before = engine.rewind_offsets()
    future = market({one("LIE"): Story(0, steady(lies, 2 * START_SLOT))})
    run(engine, [arrival._replace(offset=2_100 + arrival.offset) for arrival in future], Timeline())
    assert engine.rewind_offsets() == before


def test_rewind_offset_is_not_held_back_by_who_only_repeats_itself() -> None:
    engine = new_engine()
    repeats = Story(0, History(np.full(2_200, START_SLOT), np.zeros(2_200, np.bool_)))
    stories = {one("LIVE"): Story(0, steady(2_200, START_SLOT)), one("AGAIN"): repeats}
    told = sorted(market(stories), key=lambda arrival: arrival.record.key == one("LIVE").key)
    live, again = told[2_200:], told[:2_200]
    log = [each for both in zip(live, again, strict=True) for each in both]
    arrivals = [Arrival(each.record, offset) for offset, each in enumerate(log)]
    run(engine, arrivals, Timeline(), sizes=[100] * 44)
    assert engine.rewind_offsets()[0] > 100


def test_rewind_offset_of_a_row_that_was_another_series_knows_nothing_of_it() -> None:
    engine, hours = new_engine(), steady(3, 400_000)
    run(engine, market({one("LEFT", "1h"): Story(0, hours)}), Timeline())
    engine.forget({0})
    ahead, late = Story(1, steady(2_600, START_SLOT)), Story(1, hours, late_ms=(START_SLOT + 100) * MINUTE)
    late = late._replace(late_ms=late.late_ms - 400_000 * 60 * MINUTE)
    run(engine, market({one("HOURS", "1h"): late, one("AHEAD"): ahead}), Timeline(), sizes=[200] * 14)
    assert engine.rewind_offsets() == {1: 100}


def test_rewind_offset_of_a_partition_without_a_live_series_is_none() -> None:
    engine = new_engine()
    run(engine, market({one("ABSENT"): Story(3, steady(70, START_SLOT, absent=range(70)))}), Timeline())
    assert engine.rewind_offsets() == {}
