"""Missing bars are asked for, and an answer that proves nothing declares nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from models.kline import Kline
from models.series import Series
from streaming.feed.errors import ExchangeUnavailable, UnknownSymbol
from streaming.repairs import WORKERS, Repairs
from streaming.sequences import Sequences
from streaming.settings import IngestSettings

T0 = 1_700_000_000_000 // 60_000 * 60_000
BARS = 50


class Rest:
    """Rows as a test wants them; counts who asks at the same time."""

    def __init__(self, answer: Callable[[int | None, int, int], list[Kline]], rows: int = 1_000) -> None:
        """Args: `answer` gives rows from an open time on, so many, up to the bar that runs."""
        self._answer, self.rows, self.tells_all = answer, rows, True
        self.running_ms = T0 + BARS * 60_000
        self.asked: list[tuple[str, int | None, int]] = []
        self.at_once = self.most_at_once = 0

    async def klines(
        self, symbol: str, timeframe: str, first_ms: int | None = None, *, limit: int, within_s: float
    ) -> list[Kline]:
        self.asked.append((symbol, first_ms, limit))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return self._answer(first_ms, limit, self.running_ms)


def bar(open_ms: int) -> Kline:
    return Kline(open_ms, 1.0, 1.0, 1.0, 1.0, 1.0)


def history(first_ms: int | None, limit: int, running_ms: int) -> list[Kline]:
    """Every bar."""
    if first_ms is None:
        first_ms = running_ms - (limit - 1) * 60_000
    return [bar(at) for at in range(first_ms, running_ms + 1, 60_000)][:limit]


class Scene:
    def __init__(self, rest: Rest, symbols: int = 1) -> None:
        self.now_ms = T0 + BARS * 60_000 + 30_000
        self.ahead_ms = 0  # by how much we take the exchange's clock to be further than it is
        self.rest, self.doubted = rest, list[Series]()
        self.sequences = Sequences(IngestSettings(), lambda: self.now_ms, rest.rows)
        for i in range(symbols):
            self.sequences.begin(Series("binance", f"S{i}/USDT", "1m"), [], T0)
        self.repairs = Repairs(rest, self.sequences, lambda: self.now_ms, self._stated_ms, self.doubted.append)

    async def _stated_ms(self, wanted_ms: int) -> int:
        return self.now_ms - self.ahead_ms

    async def rounds(self, count: int) -> None:
        for _ in range(count):
            self.repairs.look()
            await asyncio.gather(*self.repairs._asking)
            self.sequences.ready()
            self.sequences.acknowledge()
            self.now_ms += 31_000
            self.rest.running_ms = self.now_ms // 60_000 * 60_000

    @property
    def mark(self) -> int:
        """Bars that are acknowledged, of the first series."""
        (first, *_) = self.sequences
        return (first.sequencer.mark_ms - T0) // 60_000

    @property
    def is_complete(self) -> bool:
        return self.sequences.behind() == 0 and self.mark > BARS


@pytest.mark.parametrize("rows", [1_000, 20])
def test_repairs_fetch_history_whatever_an_answer_holds(rows: int) -> None:
    scene = Scene(Rest(history, rows))
    asyncio.run(scene.rounds(6))
    assert scene.is_complete


def test_repairs_ask_for_the_newest_where_a_stretch_is_empty_and_declare_it_absent_the_second_time() -> None:
    gap = range(T0, T0 + 20 * 60_000, 60_000)

    def answer(first_ms: int | None, limit: int, running_ms: int) -> list[Kline]:
        if first_ms is None:
            return history(None, limit, running_ms)
        stretch = range(first_ms, first_ms + 20 * 60_000, 60_000)  # it answers for a stretch of time
        return [bar(at) for at in stretch if at not in gap and at <= running_ms]

    scene = Scene(Rest(answer, rows=23))
    asyncio.run(scene.rounds(1))
    assert scene.mark == 0  # one answer is no proof
    asyncio.run(scene.rounds(6))
    assert scene.is_complete
    assert sum(entry.sequencer.counts.absent for entry in scene.sequences) == 20


def test_repairs_of_a_history_that_the_exchange_keeps_no_longer_begin_the_series_anew() -> None:
    def answer(first_ms: int | None, limit: int, running_ms: int) -> list[Kline]:
        return history(max(first_ms or 0, T0 + 40 * 60_000), limit, running_ms)

    rest = Rest(answer, rows=20)
    rest.tells_all = False
    scene = Scene(rest)
    asyncio.run(scene.rounds(8))
    assert scene.is_complete
    assert sum(entry.sequencer.counts.absent for entry in scene.sequences) == 0


def test_repairs_on_an_exchange_that_keeps_its_newest_rows_only_declare_nothing_that_went_out_of_sight() -> None:
    """Between two answers its window moves on: what the second lacks at its beginning was there."""

    def answer(first_ms: int | None, limit: int, running_ms: int) -> list[Kline]:
        return history(max(first_ms or 0, running_ms - 19 * 60_000), 20, running_ms)[:limit]

    rest = Rest(answer, rows=20)
    rest.tells_all = False
    scene = Scene(rest)
    asyncio.run(scene.rounds(8))
    assert scene.is_complete
    assert sum(entry.sequencer.counts.absent for entry in scene.sequences) == 0


def test_repairs_on_an_exchange_whose_whole_history_is_not_certain_declare_a_hole_that_has_bars_before_it() -> None:
    hole = range(T0 + 5 * 60_000, T0 + 11 * 60_000, 60_000)

    def answer(first_ms: int | None, limit: int, running_ms: int) -> list[Kline]:
        return [row for row in history(first_ms, BARS * 2, running_ms) if row.open_time_ms not in hole][:limit]

    rest = Rest(answer, rows=20)
    rest.tells_all = False
    scene = Scene(rest)
    asyncio.run(scene.rounds(10))
    assert scene.is_complete
    assert sum(entry.sequencer.counts.absent for entry in scene.sequences) == len(hole)


def test_repairs_take_a_row_for_final_by_the_exchange_s_own_word_whatever_time_we_think_it_is() -> None:
    scene = Scene(Rest(history))
    scene.now_ms, scene.ahead_ms = T0 + BARS * 60_000 + 1_000, 2_000
    asyncio.run(scene.rounds(1))
    assert scene.mark == BARS - 1  # the last bar closed a second ago, as we think; in truth it runs
    scene.ahead_ms = 0
    asyncio.run(scene.rounds(1))
    assert scene.mark == BARS


def test_repairs_go_on_while_rest_is_away_and_after() -> None:
    away = True

    def answer(first_ms: int | None, limit: int, running_ms: int) -> list[Kline]:
        if away:
            raise ExchangeUnavailable("nobody there")
        return history(first_ms, limit, running_ms)

    scene = Scene(Rest(answer))
    asyncio.run(scene.rounds(3))
    assert scene.mark == 0
    away = False
    asyncio.run(scene.rounds(3))
    assert scene.is_complete


def test_repairs_of_a_symbol_that_rest_does_not_know_for_a_moment_tell_so_and_go_on() -> None:
    known = False

    def answer(first_ms: int | None, limit: int, running_ms: int) -> list[Kline]:
        if not known:
            raise UnknownSymbol("no such symbol")
        return history(first_ms, limit, running_ms)

    scene = Scene(Rest(answer))
    asyncio.run(scene.rounds(1))
    assert scene.doubted == [Series("binance", "S0/USDT", "1m")]
    known = True
    asyncio.run(scene.rounds(6))
    assert scene.is_complete


def test_repairs_of_many_series_keep_a_bound_on_requests() -> None:
    scene = Scene(Rest(history), symbols=12)
    asyncio.run(scene.rounds(20))
    assert scene.rest.most_at_once <= WORKERS
    assert scene.is_complete


def test_repairs_drop_an_answer_to_a_series_that_was_taken_up_anew_meanwhile() -> None:
    """Kafka failed and was read again while REST was asked: what is due is known better by now."""
    scene = Scene(Rest(history))
    (before,) = scene.sequences

    async def run() -> None:
        scene.repairs.look()
        scene.sequences.begin(before.series, [], T0 + 10 * 60_000)
        await asyncio.gather(*scene.repairs._asking)

    asyncio.run(run())
    assert scene.sequences.ready() == []
    asyncio.run(scene.rounds(6))
    assert scene.is_complete


def test_acknowledgement_passes_by_a_series_that_was_taken_up_anew_meanwhile() -> None:
    scene = Scene(Rest(history), symbols=2)
    sequences = scene.sequences

    async def ask() -> None:
        scene.repairs.look()
        await asyncio.gather(*scene.repairs._asking)

    asyncio.run(ask())
    assert {candle.symbol for candle in sequences.ready()} == {"S0/USDT", "S1/USDT"}
    sequences.begin(Series("binance", "S0/USDT", "1m"), [], T0)
    sequences.acknowledge()
    first, second = sequences
    assert {first.series.symbol: first.sequencer.mark_ms, second.series.symbol: second.sequencer.mark_ms} == {
        "S0/USDT": T0, "S1/USDT": T0 + BARS * 60_000,
    }  # fmt: skip
