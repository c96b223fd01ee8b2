"""Laws of the truth: longer bars are made of shorter ones, running bars only grow, and every slot is told once."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchange.edits import Edit, Kind
from tests.exchange.listing import listings
from tests.exchange.tape import SAMPLE, decimals, read_tape
from tests.exchange.world import Bar, World, running

ORIGIN = 1_747_699_200
"""A whole UTC day, in slots of a second."""
NOW_MS = (ORIGIN + 900) * 1_000 + 400
few = settings(max_examples=25, deadline=None)
edit_lists = st.lists(
    st.builds(
        Edit,
        kind=st.sampled_from(("no_rows", "zero_trade", "revision")),
        symbols=st.sampled_from((None, frozenset({0}), frozenset({0, 12}))),
        first=st.integers(ORIGIN, ORIGIN + 700),
        stop=st.integers(ORIGIN + 1, ORIGIN + 900),
        share=st.sampled_from((1.0, 0.5)),
        after_ms=st.sampled_from((1_000, 90_000)),
    ),
    max_size=4,
)


def world(edits: list[Edit] | None = None) -> World:
    tape = read_tape((SAMPLE,))
    return World(tape, 1_000, ORIGIN, listings(tape, 14, ORIGIN), list(edits or []))


@cache
def plain() -> World:
    return world()


def joined(bars: list[Bar]) -> tuple[int, ...]:
    """Open, high, low, close, volume, quote volume and trades of bars together, by hand."""
    sums = [sum(column) for column in list(zip(*bars, strict=True))[4:7]]
    return (bars[0].open, max(bar.high for bar in bars), min(bar.low for bar in bars), bars[-1].close, *sums)


@few
@given(edits=edit_lists, symbol=st.sampled_from((0, 5, 12)), length=st.sampled_from((5_000, 60_000, 300_000)))
def test_world_longer_bars_equal_their_shorter_ones_joined(edits: list[Edit], symbol: int, length: int) -> None:
    told = world(edits)
    short = told.rows(symbol, 1_000, 0, NOW_MS, NOW_MS)
    groups: dict[int, list[Bar]] = {}
    for at, bar in short:
        groups.setdefault(at // length * length, []).append(bar)
    long = told.rows(symbol, length, 0, NOW_MS, NOW_MS)
    assert [(at, bar[:7]) for at, bar in long] == [(at, joined(bars)) for at, bars in groups.items()]


@few
@given(edits=edit_lists, length=st.sampled_from((1_000, 60_000)))
def test_world_truth_has_every_slot_once_as_row_or_absent(edits: list[Edit], length: int) -> None:
    told = world(edits).truth(0, length, 0, NOW_MS, NOW_MS)
    opens = [at for at, _ in told.rows] + told.absent
    stop = NOW_MS // length * length
    assert sorted(opens) == list(range(ORIGIN * 1_000, stop, length))
    assert {at for at, _ in told.revised} <= {at for at, _ in told.rows}


@few
@given(edits=edit_lists)
def test_world_rows_settle_to_truth_or_its_revision(edits: list[Edit]) -> None:
    exchange = world(edits)
    told = exchange.truth(0, 1_000, 0, NOW_MS, NOW_MS)
    shown = dict(told.rows) | dict(told.revised)
    assert dict(exchange.rows(0, 1_000, 0, NOW_MS // 1_000 * 1_000 - 1, NOW_MS)) == shown


@few
@given(edits=edit_lists, slot=st.integers(ORIGIN + 1, ORIGIN + 899), length=st.sampled_from((5_000, 60_000)))
def test_world_partials_equal_rows_at_that_moment(edits: list[Edit], slot: int, length: int) -> None:
    exchange = world(edits)
    end = (slot + 1) * 1_000
    found = exchange.partials([12, 0], length, slot)
    for symbol, bar in zip((12, 0), found, strict=True):
        rows = exchange.rows(symbol, 1_000, slot * 1_000 // length * length, slot * 1_000, end)
        assert (bar and bar[:7]) == (joined([each for _, each in rows]) if rows else None)


@few
@given(slot=st.integers(ORIGIN, ORIGIN + 900))
def test_world_column_equals_each_symbols_row(slot: int) -> None:
    for symbol, bar in enumerate(plain().column(slot)):
        assert dict(plain().rows(symbol, 1_000, slot * 1_000, slot * 1_000, (slot + 1) * 1_000))[slot * 1_000] == bar


@few
@given(slot=st.integers(ORIGIN, ORIGIN + 900), parts=st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_running_bar_only_grows_and_ends_as_the_finished_one(slot: int, parts: list[float]) -> None:
    for bar in plain().column(slot):
        assert bar is not None
        path = [running(bar, part) for part in sorted(parts)]
        for before, after in zip(path, [*path[1:], bar], strict=True):
            assert before.high <= after.high
            assert before.low >= after.low
            assert before.volume <= after.volume
            assert before.quote <= after.quote
            assert before.trades <= after.trades
            assert before.low <= min(before.open, before.close) <= max(before.open, before.close) <= before.high
        assert running(bar, 1.0) == bar


def test_running_bar_without_trades_stays_flat() -> None:
    flat = Bar(5, 5, 5, 5, 0, 0, 0, 7)
    assert running(flat, 0.3) == flat


def test_world_zero_trade_keeps_the_last_price() -> None:
    exchange = world([Edit("zero_trade", frozenset({0}), ORIGIN + 10, ORIGIN + 13)])
    bars = [bar for _, bar in exchange.rows(0, 1_000, 0, NOW_MS, NOW_MS)][9:14]
    assert [bar[:7] for bar in bars[1:4]] == [(bars[0].close,) * 4 + (0, 0, 0)] * 3
    assert bars[4].trades > 0


def test_world_delisted_symbol_has_no_absent_bars_after_its_end() -> None:
    exchange = world([Edit("delist", frozenset({0}), ORIGIN + 10)])
    told = exchange.truth(0, 1_000, 0, NOW_MS, NOW_MS)
    assert (len(told.rows), told.absent) == (10, [])
    exchange.end(exchange.edits[0], ORIGIN + 15)
    assert exchange.truth(0, 1_000, 0, NOW_MS, NOW_MS).absent == [(ORIGIN + i) * 1_000 for i in range(10, 15)]


def test_world_edit_of_one_symbol_leaves_the_others() -> None:
    kinds: tuple[Kind, ...] = ("no_rows", "zero_trade", "revision", "delist")
    changed = world([Edit(kind, frozenset({0}), ORIGIN) for kind in kinds])
    assert changed.column(ORIGIN + 5)[1:] == plain().column(ORIGIN + 5)[1:]
    assert changed.column(ORIGIN + 5)[0] is None


def test_listings_beyond_the_tape_are_other_pieces_with_names_of_their_own() -> None:
    exchange = plain()
    names = [item.name for item in exchange.listings]
    assert names[0] == "BTCUSDT"
    assert names[10:] == ["S011USDT", "S012USDT", "S013USDT", "S014USDT"]
    first, other = exchange.column(ORIGIN)[0], exchange.column(ORIGIN)[10]
    assert first is not None
    assert other is not None
    assert first[:7] != other[:7]


def test_decimals_are_the_fewest_that_write_every_value() -> None:
    assert decimals(np.array([1.0, 20.0])) == 0
    assert decimals(np.array([105531.5, 0.125])) == 3
    assert decimals(np.array([0.00000638])) == 8


def test_tape_numbers_read_back_as_the_files_wrote_them() -> None:
    tape = read_tape((SAMPLE,))
    assert tape.names[:2] == ("BTC/USDT", "ETH/USDT")
    assert [int(tape.bars[row, 0, 0]) / 10 ** tape.price_decimals[0] for row in range(4)] == [
        105531.5,
        105568.3,
        105511.0,
        105512.5,
    ]
    assert int(tape.bars[4, 0, 0]) / 10 ** tape.volume_decimals[0] == 105.858
