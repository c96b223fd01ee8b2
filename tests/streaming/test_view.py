"""The terminal view, as a person reads it."""

from __future__ import annotations

import io

from rich.console import Console

from models.series import Series
from streaming.scoreboard import Recent, Skill
from streaming.view import Scene, draw
from tests.models.join_logs import make_signal

MINUTE_MS = 60_000
BEGIN_MS = 1_747_699_200_000  # 2025-05-20 00:00 UTC


def shown(scene: Scene) -> str:
    console = Console(file=io.StringIO(), width=160, height=60, color_system=None)
    with console.capture() as captured:
        console.print(draw(scene))
    return captured.get()


def test_draw_before_anything_has_happened_says_what_is_awaited() -> None:
    text = shown(Scene())
    assert "starting" in text
    assert "no signal yet" in text
    assert "no drift, no job" in text
    assert "none yet" in text
    assert "INJECTED" not in text


def test_draw_while_a_network_trains_shows_how_far_it_is() -> None:
    assert "epoch 3 of 20, 9 s left" in shown(Scene(training=(3, 20, "epoch 3 of 20, 9 s left")))


def test_draw_of_a_full_scene_shows_every_figure() -> None:
    signals = [
        make_signal(Series("binance", symbol, "1m"), BEGIN_MS // MINUTE_MS + 61, proven=("range",), bundle="c" * 64)
        for symbol in ("BTC/USDT", "ETH/USDT")
    ]
    scene = Scene(
        chapter="replaying on; the market has changed", begin_ms=BEGIN_MS, end_ms=BEGIN_MS + 2_000 * MINUTE_MS,
        clock_ms=BEGIN_MS + 90 * MINUTE_MS, injected=True, candles=201_600, signals=123_456, outcomes=98_765,
        signals_per_s=4_321.0, batch_candles="<= 100 / <= 500", latency="<= 5 ms / <= 25 ms", bundle="abcdef012345",
        epoch=42, skill=Skill(4, 0.6, 0.5, 0.75, 1.0, 2.0, 3, 2), recent=Recent(0.81, 0.52),
        loop=[f"line {i}" for i in range(9)], last=signals,
    )  # fmt: skip
    text = shown(scene)
    for figure in (
        "replaying on; the market has changed", "2025-05-20 01:30Z", "INJECTED", "201,600", "123,456", "4,321/s",
        "98,765", "<= 100 / <= 500", "<= 5 ms / <= 25 ms", "abcdef012345", "42", "1.200", "0.800", "0.500", "75.0%",
        "50.0%", "81.0%", "52.0%", "line 3", "line 8", "05-20 01:01", "BTC/USDT", "ETH/USDT", "12.0 bps", "0.510",
        "range", "cccccccc",
    ):  # fmt: skip
        assert figure in text, figure
    assert "line 2" not in text  # only the last of them have room
