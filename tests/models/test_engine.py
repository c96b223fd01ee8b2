from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence

import numpy as np
import pytest

from models.activation import Epoch, Timeline
from models.continuity import MAX_ABSENT
from models.engine import MAX_COPIED_VALUE
from models.features import WARM_UP_BARS
from models.series import Series
from tests.models.candle_records import BTC, ETH, MINUTE, START_SLOT, Record, make_batch, make_candle, record_of
from tests.models.histories import History, joined
from tests.models.market import Arrival, Outcome, assert_same_signals, market, run, steady
from tests.models.poison import GOOD, POISON
from tests.models.small_bundles import (
    DOGE,
    FIRST_SIGNAL,
    FIVE,
    FIVES,
    LOOKBACK,
    NEW,
    OLD,
    ONE_MODEL,
    OTHER,
    SLOT,
    WARM_UP,
    close_ms,
    epoch,
    new_engine,
    timeline_of,
)


def closes(outcome: Outcome, series: Series = BTC) -> list[int]:
    """Slots with a signal, counted from the start."""
    return [signal.close_time_ms // series.timeframe_ms - START_SLOT for signal in outcome.of(series)]


# --- what comes of a candle


def test_engine_gives_a_signal_for_every_candle_once_warm() -> None:
    outcome = run(new_engine(), market({BTC: (2, steady(50, START_SLOT))}), ONE_MODEL)
    assert closes(outcome) == list(range(FIRST_SIGNAL, 50))
    assert outcome.signalled == {"default-1m": 50 - FIRST_SIGNAL}
    assert outcome.withheld == {"warming_up": FIRST_SIGNAL}
    assert outcome.candles == 50


def test_engine_signal_says_whose_it_is() -> None:
    signal = run(new_engine(), market({BTC: (2, steady(40, START_SLOT))}), ONE_MODEL).signals[-1]
    spec = OLD.spec
    assert (signal.exchange, signal.symbol, signal.timeframe) == BTC
    assert (signal.model, signal.bundle, signal.epoch) == ("default-1m", OLD.sha256, 7)
    assert (signal.close_time_ms, signal.target_time_ms) == (close_ms(39), close_ms(39 + spec.horizon_bars))
    assert (signal.dof, signal.ewma_dof) == (spec.distribution.dof, spec.baselines.return_dof)
    assert (signal.origin, signal.interval_coverage) == ("live", spec.calibration.interval_coverage)
    assert signal.interval_low < signal.close < signal.interval_high


def test_engine_signal_is_the_bundle_s_reading_of_the_window_at_its_close() -> None:
    """Worked out again candle by candle, one window at a time."""
    engine, arrivals = new_engine(), market({BTC: (0, steady(40, START_SLOT))})
    seen = []
    for arrival in arrivals:
        outcome = run(engine, [arrival], ONE_MODEL)
        window = engine._ring.gather(np.array([0]), LOOKBACK, OLD.columns)
        seen += [(signal, OLD.predictor.predict(window)[0]) for signal in outcome.signals]
    assert len(seen) == 40 - FIRST_SIGNAL
    for signal, (location, log_scale, range_location, range_log_scale) in seen:
        assert signal.location == pytest.approx(location, abs=1e-5)
        assert signal.scale == pytest.approx(np.exp(log_scale), abs=1e-5)
        assert signal.range_location == pytest.approx(range_location, abs=1e-5)
        assert signal.range_scale == pytest.approx(np.exp(range_log_scale), abs=1e-5)


@pytest.mark.parametrize(
    ("history", "silent"),
    [
        (steady(100, START_SLOT, absent=[50]), range(50, 50 + LOOKBACK)),
        (steady(200, START_SLOT, absent=range(50, 109)), range(50, 109 + LOOKBACK - 1)),
        (steady(200, START_SLOT, absent=range(50, 110)), range(50, 110 + FIRST_SIGNAL)),
    ],
)
def test_engine_withholds_what_touches_an_absent_slot(history: History, silent: range) -> None:
    outcome = run(new_engine(), market({BTC: (0, history)}), ONE_MODEL)
    assert closes(outcome) == [slot for slot in range(FIRST_SIGNAL, len(history.slot)) if slot not in silent]


def test_engine_after_a_gap_nobody_declared_is_silent_until_warm_again() -> None:
    slots = np.concatenate([np.arange(60), np.arange(61, 120)])
    outcome = run(new_engine(), market({BTC: (0, History(START_SLOT + slots, np.zeros(119, bool)))}), ONE_MODEL)
    assert closes(outcome) == [*range(FIRST_SIGNAL, 60), *range(61 + FIRST_SIGNAL, 120)]
    assert outcome.ignored["undeclared_gap"] == 1


@pytest.mark.parametrize("pause", [steady(1, START_SLOT + 61), steady(60, START_SLOT + 60, absent=range(60))])
def test_engine_after_a_cold_restart_remembers_nothing_of_before(pause: History) -> None:
    before, after = steady(60, START_SLOT), steady(60, int(pause.slot[-1]) + 1)
    told = market({BTC: (0, joined(before, pause, after))})
    whole = run(new_engine(), told, ONE_MODEL).signals
    alone = run(new_engine(), told[60:], ONE_MODEL).signals
    assert_same_signals([signal for signal in whole if signal.close_time_ms > close_ms(60)], alone)
    assert len(alone) >= 60 - FIRST_SIGNAL


@pytest.mark.parametrize("sizes", [(), [1] * 63])
def test_engine_ignores_what_is_said_again_even_with_other_prices(sizes: Sequence[int]) -> None:
    arrivals = market({BTC: (0, steady(60, START_SLOT))})
    again = [Arrival(record_of(make_candle(BTC, START_SLOT + slot, low=50.0, volume=9e9)), 0) for slot in (49, 49, 30)]
    found = run(new_engine(), [*arrivals[:50], *again, *arrivals[50:]], ONE_MODEL, sizes)
    wanted = run(new_engine(), arrivals, ONE_MODEL)
    assert (found.ignored["duplicate"], found.ignored["out_of_order"]) == (2, 1)
    assert_same_signals(found.signals, wanted.signals)


def test_engine_counts_a_later_revision_and_changes_nothing() -> None:
    arrivals = market({BTC: (0, steady(60, START_SLOT))})
    correction = record_of(make_candle(BTC, START_SLOT + 40, revision=1, low=50.0, volume=9e9))
    both = [*arrivals[:45], Arrival(correction, 0), *arrivals[45:]]
    found, wanted = run(new_engine(), both, ONE_MODEL), run(new_engine(), arrivals, ONE_MODEL)
    assert_same_signals(found.signals, wanted.signals)
    assert (found.ignored["revision"], found.candles) == (1, wanted.candles)


def test_engine_of_a_market_where_nothing_trades_gives_finite_signals() -> None:
    candles = [
        make_candle(BTC, START_SLOT + slot, open=5e-9, high=5e-9, low=5e-9, close=5e-9, volume=0.0)
        for slot in range(60)
    ]
    outcome = run(new_engine(), [Arrival(record_of(each), i) for i, each in enumerate(candles)], ONE_MODEL)
    assert closes(outcome) == list(range(FIRST_SIGNAL, 60))
    for signal in outcome.signals:
        assert np.isfinite([signal.location, signal.interval_low, signal.expected_range_bps]).all()
        assert 0 < signal.interval_low < signal.interval_high


def test_engine_of_a_series_more_than_a_twentieth_absent_withholds_until_enough_of_it_is_past() -> None:
    gone = range(0, 2 * (MAX_ABSENT + 1) * LOOKBACK, 2 * LOOKBACK)  # apart, so that windows fit in between
    first, last = FIRST_SIGNAL + 1, FIRST_SIGNAL + 1 + gone[-1]
    absent = [first + slot for slot in gone]
    end = first + WARM_UP_BARS + LOOKBACK
    outcome = run(new_engine(), market({BTC: (0, steady(end, START_SLOT, absent=absent))}), ONE_MODEL)
    in_a_window = {slot + i for slot in absent for i in range(LOOKBACK)}
    too_many = [slot for slot in range(last, first + WARM_UP_BARS) if slot not in in_a_window]
    spoken = {*range(FIRST_SIGNAL, end)} - in_a_window - {*too_many}
    assert len(absent) == 76
    assert closes(outcome) == sorted(spoken)
    assert outcome.withheld["too_many_absent"] == len(too_many)


def test_engine_of_a_symbol_never_seen_before_warms_it_up_beside_the_others() -> None:
    engine, old = new_engine(), {BTC: (0, steady(200, START_SLOT)), ETH: (1, steady(200, START_SLOT))}
    newcomer = {DOGE: (0, steady(60, START_SLOT + 140))}
    timeline = timeline_of(epoch(7, OLD, proven=("range", "direction")))
    alone = run(new_engine(), market(old), timeline)

    beside = run(engine, market(old | newcomer), timeline)

    assert_same_signals([*beside.of(BTC), *beside.of(ETH)], alone.signals)
    assert beside.withheld - alone.withheld == {"warming_up": WARM_UP + LOOKBACK - 1}
    assert closes(beside, DOGE) == list(range(140 + FIRST_SIGNAL, 200))
    assert {signal.proven for signal in beside.of(DOGE)} == {()}
    assert {signal.proven for signal in beside.of(BTC)} == {("range", "direction")}


# --- poison


def test_engine_buries_poison_with_its_place_and_serves_the_rest() -> None:
    arrivals = market({BTC: (3, steady(60, START_SLOT))})
    poison = [Arrival(record._replace(partition=3), 1_000 + i) for i, (record, _) in enumerate(POISON.values())]
    mixed = [*arrivals[:30], *poison, *arrivals[30:]]
    found = run(new_engine(), mixed, ONE_MODEL)
    assert_same_signals(found.signals, run(new_engine(), arrivals, ONE_MODEL).signals)
    assert found.dead == [(3, arrival.offset) for arrival in poison]
    assert found.candles == 60


def test_engine_dead_letter_carries_the_record_as_it_was() -> None:
    record = Record(b"binance|ETH/USDT|1m", GOOD, 5)
    served = new_engine().serve(make_batch([record], [17]), ONE_MODEL, now_ms=0)
    (letter,) = served.dead_letters
    assert (letter.topic, letter.partition, letter.offset) == ("candlewick.candles", 5, 17)
    assert b64decode(letter.key_base64 or "") == record.key
    assert b64decode(letter.value_base64 or "") == record.value
    assert "different series" in letter.reason


def test_engine_dead_letter_of_a_huge_record_names_its_place_alone() -> None:
    served = new_engine().serve(make_batch([Record(BTC.key, b"x" * (MAX_COPIED_VALUE + 1))]), ONE_MODEL, now_ms=0)
    (letter,) = served.dead_letters
    assert letter.value_base64 is None
    assert "524,289 bytes): read it at its place" in letter.reason


# --- which bundle


def test_engine_before_the_first_activation_withholds() -> None:
    since = timeline_of(epoch(7, OLD, close_ms(40)))
    outcome = run(new_engine(), market({BTC: (0, steady(60, START_SLOT))}), since)
    assert closes(outcome) == list(range(40, 60))
    assert outcome.withheld["no_bundle"] == 40


def test_engine_without_a_model_of_the_timeframe_withholds() -> None:
    outcome = run(new_engine(), market({FIVE: (0, steady(60, START_SLOT))}), ONE_MODEL)
    assert outcome.signals == []
    assert outcome.withheld["no_bundle"] == 60
    assert run(new_engine(), market({BTC: (0, steady(60, START_SLOT))}), Timeline()).withheld["no_bundle"] == 60


def test_engine_of_a_retired_bundle_withholds_and_others_serve() -> None:
    gone = Epoch(9, "default-1m", "0" * 64, close_ms(45))
    outcome = run(new_engine(), market({BTC: (0, steady(60, START_SLOT))}), ONE_MODEL.with_epoch(gone, SLOT))
    assert closes(outcome) == list(range(FIRST_SIGNAL, 45))
    assert outcome.withheld["bundle_retired"] == 15


@pytest.mark.parametrize("sizes", [(), (45,), (44, 1, 1), [1] * 60])
def test_engine_swaps_between_two_candles_wherever_the_batch_is_cut(sizes: Sequence[int]) -> None:
    swap = timeline_of(epoch(7, OLD), epoch(9, NEW, close_ms(45)))
    arrivals = market({BTC: (0, steady(60, START_SLOT)), ETH: (1, steady(60, START_SLOT))})
    outcome = run(new_engine(), arrivals, swap, [2 * size for size in sizes])
    for series in (BTC, ETH):
        found = [(signal.close_time_ms, signal.epoch, signal.bundle) for signal in outcome.of(series)]
        assert found == [
            (close_ms(slot), *((7, OLD.sha256) if slot < 45 else (9, NEW.sha256))) for slot in range(FIRST_SIGNAL, 60)
        ]
    of_old = run(new_engine(), arrivals, ONE_MODEL).signals
    before = [signal for signal in outcome.signals if signal.epoch == 7]
    assert_same_signals(before, [signal for signal in of_old if signal.close_time_ms < close_ms(45)])


def test_engine_of_an_activation_that_comes_late_never_dates_back() -> None:
    engine, arrivals = new_engine(), market({BTC: (0, steady(60, START_SLOT))})
    outcome = run(engine, arrivals[:50], ONE_MODEL)
    assert engine.newest_close_ms == {"default-1m": close_ms(49)}
    late = timeline_of(epoch(7, OLD), epoch(9, NEW, close_ms(40)))
    run(engine, arrivals[50:], late, outcome=outcome)
    assert [signal.epoch for signal in outcome.signals] == [7] * (50 - FIRST_SIGNAL) + [9] * 10
    assert closes(outcome) == list(range(FIRST_SIGNAL, 60))


def test_engine_newest_close_stands_while_nothing_is_signalled() -> None:
    engine = new_engine()
    run(engine, market({BTC: (0, steady(FIRST_SIGNAL, START_SLOT))}), ONE_MODEL)
    assert engine.newest_close_ms == {}


def test_engine_of_several_models_and_timeframes_gives_each_its_own_signals() -> None:
    both = timeline_of(epoch(7, OLD), epoch(8, OTHER, close_ms(30)), epoch(9, FIVES))
    arrivals = market({BTC: (0, steady(200, START_SLOT)), FIVE: (0, steady(40, START_SLOT // 5))})
    outcome = run(new_engine(), arrivals, both, sizes=[70, 70])
    assert [signal.close_time_ms for signal in outcome.of(BTC, "default-1m")] == [
        close_ms(slot) for slot in range(FIRST_SIGNAL, 200)
    ]
    assert [signal.close_time_ms for signal in outcome.of(BTC, "second-1m")] == [
        close_ms(slot) for slot in range(30, 200)
    ]
    fives = outcome.of(FIVE)
    assert {signal.model for signal in fives} == {"default-5m"}
    assert [signal.close_time_ms for signal in fives] == [
        (START_SLOT // 5 + slot) * 5 * MINUTE for slot in range(FIRST_SIGNAL, 40)
    ]
    assert fives[0].target_time_ms == fives[0].close_time_ms + 3 * 5 * MINUTE


# --- direction and skill


@pytest.mark.parametrize(
    ("proven", "always_direct", "shown"),
    [((), False, False), (("range",), False, False), (("range", "direction"), False, True), ((), True, True)],
)
def test_engine_direction_is_flat_unless_proven_or_wanted(
    proven: tuple[str, ...], always_direct: bool, shown: bool
) -> None:
    timeline = timeline_of(epoch(7, OLD, proven=proven))
    series = {each: (0, steady(120, START_SLOT)) for each in (BTC, DOGE)}
    outcome = run(new_engine(always_direct), market(series), timeline)
    trained, foreign = outcome.of(BTC), outcome.of(DOGE)
    assert {signal.proven for signal in trained} == {proven}
    assert {signal.proven for signal in foreign} == {()}
    assert (len({signal.direction for signal in trained}) > 1) is shown
    assert (len({signal.direction for signal in foreign}) > 1) is always_direct
    thresholds = OLD.spec.thresholds
    for signal in trained if shown else ():
        side = "long" if signal.probability_up >= thresholds.long else "flat"
        assert signal.direction == ("short" if signal.probability_up <= thresholds.short else side)


# --- below the resume offset


def test_engine_below_the_resume_offset_is_mute_and_counts_nothing() -> None:
    arrivals = market({BTC: (0, steady(60, START_SLOT, absent=[20])), ETH: (1, steady(60, START_SLOT))})
    moved = [each._replace(offset=each.offset + 1) if each.record.partition == 0 else each for each in arrivals[60:]]
    log = [*arrivals[:60], Arrival(Record(BTC.key, b"poison"), 30), *moved]
    mute = run(new_engine(), log, ONE_MODEL, resume={0: 10_000, 1: 10_000})
    assert mute == Outcome(withheld=mute.withheld, ignored=mute.ignored)
    assert not +mute.withheld
    assert not +mute.ignored
    whole, half = run(new_engine(), log, ONE_MODEL), run(new_engine(), log, ONE_MODEL, resume={0: 51, 1: 40})
    wanted = [s for s in whole.of(BTC) if s.close_time_ms >= close_ms(50)] + [
        s for s in whole.of(ETH) if s.close_time_ms >= close_ms(40)
    ]
    assert_same_signals(half.signals, wanted)
    assert (half.candles, half.dead, whole.dead) == (30, [], [(0, 30)])
