"""Whatever the feed, REST and Kafka do, what is acknowledged is the truth, in order, once; and in the end all of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from models.decode import why_invalid
from models.events import Candle
from models.kline import Kline, Span
from models.published import COMPARED_BARS
from models.sequencer import Limits, Sequencer
from tests.models.candle_records import laws
from tests.models.small_exchange import (
    BAR,
    LIMITS,
    SERIES,
    START,
    TICK,
    Faults,
    Kind,
    SmallExchange,
    SmallWorld,
    bar_of,
    check_log,
    replace_kline,
)

BARS, CALM_BARS = 30, 45
PER_BAR = BAR // TICK

shares = st.sampled_from([0.0, 0.05, 0.3, 0.9])
any_faults = st.builds(
    Faults,
    dropped=shares,
    doubled=shares,
    corrupt=shares,
    late_ticks=st.sampled_from([0, 3, 25]),
    deaf=st.booleans(),
    refused=shares,
    empty=st.sampled_from([0.0, 0.02, 0.2]),
    hidden=shares,
    lag_bars=st.integers(0, 3),
    slow_ticks=st.sampled_from([0, 2, 15]),
    lost=shares,
    crashes=st.sampled_from([0.0, 0.005, 0.05]),
    down_ticks=st.sampled_from([0, 5, 150]),
)
any_kind: st.SearchStrategy[Kind] = st.sampled_from(["traded", "traded", "traded", "quiet", "absent"])
any_words = st.lists(
    st.tuples(st.sampled_from(["frame", "row", "publish", "acknowledge"]), st.integers(0, 3), st.integers(0, 2)),
    max_size=60,
)


@st.composite
def any_kinds(draw: st.DrawFn, longest_pause: int) -> list[Kind]:
    """Bars of all kinds, no more absent ones in a row than this, and then a market that trades."""
    kinds = draw(st.lists(any_kind, min_size=BARS, max_size=BARS))
    begins = draw(st.integers(0, BARS))
    kinds[begins : begins + longest_pause] = ["absent"] * len(kinds[begins : begins + longest_pause])
    for slot in range(longest_pause, BARS):
        if set(kinds[slot - longest_pause : slot]) == {"absent"}:
            kinds[slot] = "traded"
    calm: list[Kind] = ["traded"] * (CALM_BARS + 5)
    return kinds + calm


def live_through(world: SmallWorld, kinds: list[Kind], faults: list[Faults]) -> None:
    """Faults of one kind after another, and then none for long enough to mend everything."""
    for each in faults:
        world.run(BARS * PER_BAR // len(faults), each)
        check_log(world.log, kinds)
    world.run(CALM_BARS * PER_BAR, Faults())
    check_log(world.log, kinds)
    assert len(world.log) >= (world.now_ms - START) // BAR - 2
    assert sum(counts.revisions for counts in world.counts) == 0


@settings(laws, max_examples=60)
@given(
    kinds=any_kinds(longest_pause=12),
    faults=st.lists(any_faults, min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
    most=st.sampled_from([1, 3, 100]),
)
def test_sequencer_in_a_faulty_world_publishes_the_truth_and_all_of_it(
    kinds: list[Kind], faults: list[Faults], seed: int, most: int
) -> None:
    live_through(SmallWorld(SmallExchange(kinds), seed, most, honours_until=False), kinds, faults)


@settings(laws, max_examples=20)
@given(kinds=any_kinds(longest_pause=3), faults=any_faults, seed=st.integers(0, 2**32))
def test_sequencer_where_rest_ends_at_the_last_bar_asked_for_finds_absent_bars_too(
    kinds: list[Kind], faults: Faults, seed: int
) -> None:
    live_through(SmallWorld(SmallExchange(kinds), seed, 100, honours_until=True), kinds, [faults])


def word_of(slot: int, version: int) -> Kline:
    """What might be said of a finished bar."""
    return replace_kline(bar_of(slot), volume=float(version), closed=True)


class Topic:
    """Kafka and its role: candles in flight are the ones of the last look, whatever was heard since."""

    def __init__(self) -> None:
        self.sequencer = Sequencer(SERIES, START, LIMITS)
        self.log: list[Candle] = []
        self._in_flight: list[Candle] = []

    def publish(self) -> None:
        if not self._in_flight:
            self._in_flight = self.sequencer.ready(START + 1_000 * BAR, 100)

    def acknowledge(self) -> None:
        self.log += self._in_flight
        self.sequencer.acknowledge(self._in_flight)
        self._in_flight = []

    def newest(self) -> dict[int, Kline]:
        """By open time, what the highest revision says; every revision must be one above the last."""
        said: dict[int, Candle] = {}
        for candle in self.log:
            assert why_invalid(candle) == ""
            assert candle.revision == (said[candle.open_time_ms].revision + 1 if candle.open_time_ms in said else 0)
            said[candle.open_time_ms] = candle
        return {open_ms: _kline_of(candle) for open_ms, candle in said.items()}


def _kline_of(candle: Candle) -> Kline:
    values = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return Kline(candle.open_time_ms, *values, closed=True)  # type: ignore[arg-type]  # none of them is absent


@settings(laws, max_examples=150)
@given(words=any_words)
def test_sequencer_of_bars_said_differently_lets_the_newest_word_stand_in_the_topic(
    words: list[tuple[str, int, int]],
) -> None:
    topic, stands = Topic(), dict[int, Kline]()
    now_ms = START + 900 * BAR
    for what, slot, version in words:
        word = word_of(slot, version)
        if what == "frame":
            topic.sequencer.hear(word, now_ms)
            stands[word.open_time_ms] = word
        elif what == "row":
            topic.sequencer.read([word], Span(word.open_time_ms, word.open_time_ms), now_ms)
            stands[word.open_time_ms] = word
        elif what == "publish":
            topic.publish()
        else:
            topic.acknowledge()
        assert len({(c.open_time_ms, c.revision) for c in topic.log}) == len(topic.log)
    for _ in range(3):
        topic.publish()
        topic.acknowledge()
    prefix = next(slot for slot in range(5) if START + slot * BAR not in stands)
    newest = topic.newest()
    assert newest == {START + slot * BAR: stands[START + slot * BAR] for slot in range(prefix)}
    assert [c.open_time_ms for c in topic.log if c.revision == 0] == sorted(newest)
    assert topic.sequencer.ready(now_ms, 100) == []


@settings(laws, max_examples=15)
@given(seed=st.integers(0, 2**32), most=st.integers(1, 4))
def test_sequencer_with_endless_corrections_keeps_its_memory_bounded(seed: int, most: int) -> None:
    topic = Topic()
    for slot in range(4 * COMPARED_BARS):
        now_ms = START + (slot + 1) * BAR
        for back in {0, 1, 7, COMPARED_BARS - 1}:
            if slot >= back:
                topic.sequencer.hear(word_of(slot - back, slot * 31 + seed), now_ms)
        candles = topic.sequencer.ready(now_ms, most)
        topic.sequencer.acknowledge(candles)
        published = topic.sequencer._published
        assert len(published._pending) <= COMPARED_BARS
        assert len(published) <= 2 * COMPARED_BARS


@laws
@given(
    settle=st.integers(0, 3_000),
    patience=st.integers(0, 3_000),
    heard=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=12),
    asked=st.none() | st.tuples(st.integers(0, 12), st.integers(0, 15_000)),
    now=st.integers(0, 20_000),
)
def test_next_due_is_exactly_when_missing_begins_to_ask(
    settle: int, patience: int, heard: list[tuple[int, bool]], asked: tuple[int, int] | None, now: int
) -> None:
    sequencer = Sequencer(SERIES, START, Limits(settle, patience, reread_ms=700, max_kept=10, max_rows=4))
    for slot, closed in heard:
        sequencer.hear(replace_kline(bar_of(slot), closed=closed), START + 20_000)
    if asked is not None:
        now = max(now, asked[1])
        sequencer.asked_for(Span(START, START + asked[0] * BAR), START + asked[1])
    span = sequencer.missing(START + now)
    assert (span is not None) == (START + now >= sequencer.next_due_ms())
    if span is not None:
        opens = range(span.first_ms, span.last_ms + 1, BAR)
        assert 0 < len(opens) <= 4
        unfinished = [START + slot * BAR for slot in range(12) if (slot, True) not in heard]
        assert span.first_ms == unfinished[0]
        assert span.last_ms <= START + now
