"""Silence by itself says nothing; REST tells a quiet market from a dead feed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from models.kline import Kline, Span
from models.series import Series
from streaming.feed.errors import ExchangeUnavailable
from streaming.feed.tally import FeedStatus, Tally
from streaming.liveliness import Liveliness, knows_more
from streaming.sequences import Sequences
from streaming.settings import IngestSettings, Settings

T0 = 1_700_000_000_000 // 60_000 * 60_000
BTC = Series("binance", "BTC/USDT", "1m")


def bar(open_ms: int, volume: float = 1.0, closed: bool = False) -> Kline:
    return Kline(open_ms, 1.0, 1.0, 1.0, 1.0, volume, closed)


@dataclass
class World:
    """A clock, a feed and a REST that say what a test tells them to."""

    rows: list[Kline] = field(default_factory=list)
    now_s: float = 1_000.0
    sockets: int = 1
    alive: int = 1
    refused: int = 0
    away: bool = False
    anew: list[Series] = field(default_factory=list)

    def now_ms(self) -> int:
        return T0 + int(self.now_s * 1_000) - 1_000_000

    def status(self) -> FeedStatus:
        return Tally(last_error="gone").status(self.sockets, self.alive, 1, self.now_s, self.refused)

    def resubscribe(self, series: Series) -> None:
        self.anew.append(series)


class Asked:
    rows, tells_all = 1_000, True

    def __init__(self, world: World) -> None:
        self._world = world

    async def klines(
        self, symbol: str, timeframe: str, first_ms: int | None = None, *, limit: int, within_s: float
    ) -> list[Kline]:
        if self._world.away:
            raise ExchangeUnavailable("nobody there")
        return self._world.rows


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr("streaming.liveliness.time.monotonic", lambda: world.now_s)
    return world


def watched(world: World) -> tuple[Sequences, Liveliness]:
    sequences = Sequences(IngestSettings(), world.now_ms)
    sequences.begin(BTC, [], T0)
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    return sequences, Liveliness(settings, sequences, Asked(world), world, world.now_ms)


def pass_time(world: World, seconds: float, lively: Liveliness) -> None:
    for _ in range(int(seconds)):
        world.now_s += 1
        asyncio.run(lively.look())


def test_liveliness_of_a_quiet_market_is_no_ailment(world: World) -> None:
    sequences, lively = watched(world)
    sequences.hear("BTC/USDT", "1m", bar(T0, 5.0))
    world.rows = [bar(T0, 5.0)]  # REST knows no more
    pass_time(world, 50, lively)
    assert lively.ailment() is None


def test_liveliness_of_a_feed_that_holds_back_what_rest_knows_is_dead_within_30_s(world: World) -> None:
    sequences, lively = watched(world)
    sequences.hear("BTC/USDT", "1m", bar(T0, 5.0))
    world.rows = [bar(T0, 6.0)]
    pass_time(world, 30, lively)
    assert "feed is dead" in str(lively.ailment())
    sequences.hear("BTC/USDT", "1m", bar(T0, 7.0))
    pass_time(world, 1, lively)
    assert lively.ailment() is None


@pytest.mark.parametrize("what", ["no socket", "no REST"])
def test_liveliness_with_nobody_to_ask_is_dead(what: str, world: World) -> None:
    _, lively = watched(world)
    world.alive, world.away = (0, False) if what == "no socket" else (1, True)
    pass_time(world, 30, lively)
    assert ("no websocket is connected: gone" if what == "no socket" else "nobody there") in str(lively.ailment())


def test_liveliness_of_a_series_that_the_exchange_refuses_is_an_ailment_until_it_does_not(world: World) -> None:
    sequences, lively = watched(world)
    sequences.hear("BTC/USDT", "1m", bar(T0, 5.0))
    world.rows, world.refused = [bar(T0, 5.0)], 1
    pass_time(world, 1, lively)
    assert "refuses 1 of 1 series" in str(lively.ailment())
    world.refused = 0
    pass_time(world, 1, lively)
    assert lively.ailment() is None


def test_liveliness_of_an_exchange_that_refuses_every_series_is_dead(world: World) -> None:
    _, lively = watched(world)
    world.sockets = world.alive = 0
    world.refused = 1
    pass_time(world, 30, lively)
    assert "no websocket is connected" in str(lively.ailment())


def test_liveliness_of_an_exchange_that_has_no_websocket_is_well_without_a_frame(world: World) -> None:
    _, lively = watched(world)
    world.sockets = world.alive = 0
    pass_time(world, 30, lively)
    assert lively.ailment() is None


def test_liveliness_of_a_series_none_of_whose_bars_fits_the_grid_says_what_to_do(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    sequences, lively = watched(world)
    entry = sequences.get("BTC/USDT", "1m")
    assert entry is not None
    for _ in range(2):
        sequences.read(entry, [bar(T0 + 20_000), bar(T0 + 80_000)], Span(T0, T0), T0 + 200_000)
    words = "no bar of BTC/USDT 1m fits: binance opens them 20 s later"
    assert words in str(lively.ailment())
    assert "CANDLEWICK_EXCHANGE__TIMEFRAMES" in str(lively.ailment())
    assert caplog.text.count(words) == 1  # said once, not for every answer


def test_liveliness_of_a_series_that_only_rest_brings_on_subscribes_it_anew_once(world: World) -> None:
    sequences, lively = watched(world)
    eth = Series("binance", "ETH/USDT", "1m")
    sequences.begin(eth, [], T0)
    entry = sequences.get("BTC/USDT", "1m")
    assert entry is not None
    for minute in range(3):
        for second in range(0, 60, 5):
            world.now_s += 5
            sequences.hear("ETH/USDT", "1m", bar(world.now_ms() // 60_000 * 60_000, second))
            asyncio.run(lively.look())
        open_ms = T0 + minute * 60_000
        sequences.read(entry, [bar(open_ms), bar(open_ms + 60_000)], Span(open_ms, open_ms), world.now_ms() + 5_000)
        sequences.ready()
        sequences.acknowledge()
    asyncio.run(lively.look())
    assert world.anew == [BTC]


@pytest.mark.parametrize(
    ("rows", "told", "more"),
    [
        ([], None, False),
        ([bar(T0)], None, True),
        ([bar(T0)], bar(T0), False),
        ([bar(T0, 2.0)], bar(T0), True),
        ([bar(T0 - 60_000, 9.0)], bar(T0), False),
        ([bar(T0 + 60_000, 0.0)], bar(T0), True),
    ],
)
def test_knows_more_compares_bars_then_volumes(rows: list[Kline], told: Kline | None, more: bool) -> None:
    assert knows_more(rows, told) is more
