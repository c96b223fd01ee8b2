"""Several timeframes of one symbol are series of their own: each complete, none waiting for another."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from models.series import timeframe_ms
from streaming.embedded_kafka import EmbeddedKafka
from tests.e2e.live import WARM_UP_BARS, Live
from tests.eventually import eventually

SYMBOLS = 20


@pytest.mark.timeout(600)
def test_bars_of_a_second_and_of_a_minute_are_each_complete_side_by_side(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    # The exchange's clock is set so that a minute ends soon after the start.
    ahead_ms = (40_000 - time.time() * 1_000) % 60_000
    history = (WARM_UP_BARS + 10) * 60
    with Live(kafka.bootstrap, topic_prefix, tmp_path, symbols=SYMBOLS, history=history, skew_ms=ahead_ms) as live:
        live.exchange.fault("drop", share=0.3)
        live.ingest(CANDLEWICK_EXCHANGE__TIMEFRAMES="1s,1m").wait_ready()
        began_ms = live.exchange.now_ms
        until_ms = (began_ms // 60_000 + 1) * 60_000
        for timeframe in ("1s", "1m"):
            assert_complete(live, timeframe, until_ms)
        origins = live.ledger.origins(until_ms - 60_000)
        assert {"live", "repaired"} <= {origin for origin, candles in origins.items() if candles}


def assert_complete(live: Live, timeframe: str, until_ms: int) -> None:
    """From the first bars of history to this close nothing is lost, doubled, out of order or wrong."""
    length_ms = timeframe_ms(timeframe)
    names = list(live.exchange.truths(timeframe, from_ms=until_ms - length_ms, until_ms=until_ms))
    assert len(names) == SYMBOLS
    keys = {name: live.key(name, timeframe) for name in names}
    eventually(lambda: all(live.ledger.marks().get(key, 0) >= until_ms for key in keys.values()), 240)
    from_ms = max(live.ledger.since(key, 0)[0].open_time_ms for key in keys.values())
    assert until_ms - from_ms >= (WARM_UP_BARS - 1) * length_ms
    truths = live.exchange.truths(timeframe, from_ms=from_ms, until_ms=until_ms)
    flaws = [
        flaw
        for name, key in keys.items()
        for flaw in live.ledger.reckon(key, truths[name], from_ms, until_ms, length_ms).flaws
    ]
    assert not flaws, f"{len(flaws)} flaws, as {flaws[:5]}"
