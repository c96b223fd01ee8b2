"""A stock Faust agent doing the same work: decode a candle, keep a window, emit a signal. No model, no features.

Written as Faust's documentation shows it: a topic, an agent, a loop over its events, `send`. It is spared what would
slow it further: the codecs are ours, acknowledgements are not waited for, there is no table and no web server.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from typing import Any

import faust
import numpy as np

from models.decode import why_invalid
from models.events import SCHEMA_VERSION, Candle, Signal, decode_candle, encode
from models.features import CATALOGUE
from models.spec import OUTPUTS
from streaming.clients import bootstrap_servers
from streaming.settings import Settings

OUT = "shadow-signals"
"""A topic of the same shape that nobody else writes to here."""


def stock_app(settings: Settings, lookback_bars: int) -> faust.App:
    """The app: everything is Faust's own."""
    app = faust.App(
        "bench-stock",
        broker=f"kafka://{bootstrap_servers(settings)}",
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=settings.kafka.partitions,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        datadir=settings.data_dir / "faust",
    )
    candles = app.topic(settings.topic("candles"), value_type=bytes, value_serializer="raw", key_serializer="raw")
    signals = app.topic(settings.topic(OUT), value_type=bytes, value_serializer="raw", key_serializer="raw")
    no_features = np.zeros(len(CATALOGUE), np.float32)
    windows: dict[bytes, deque[Any]] = defaultdict(lambda: deque(maxlen=lookback_bars))

    @app.agent(candles)  # type: ignore[untyped-decorator]  # Faust ships no types
    async def predict(stream: Any) -> None:
        async for event in stream.events():
            candle = decode_candle(event.value)
            if why_invalid(candle):
                continue
            window = windows[event.key]
            window.append(no_features)
            if len(window) == lookback_bars:
                raw = np.zeros(OUTPUTS)  # what a model would say of this window
                signal = encode(_signal(candle, raw))
                await signals.send(key=event.key, value=signal, timestamp=candle.close_time_ms / 1e3)

    return app


def _signal(candle: Candle, raw: Any) -> Signal:
    """Every field of the real schema; most of them constant, which only speeds this up."""
    location, scale, range_location, range_scale = raw.tolist()
    close = candle.close or 0.0
    return Signal(
        SCHEMA_VERSION, candle.exchange, candle.symbol, candle.timeframe, candle.close_time_ms, 3,
        candle.close_time_ms + 180_000, close, 1e-3, location, scale, 5.0, range_location, range_scale, 0.7, 4.5,
        0.25591253936, 0.40292951260, 0.49999999, 1.2312313, 26.94489363, close * 0.998, close * 1.002, 0.8, "flat",
        (), "default-1m", "0" * 64, 0, candle.origin, candle.received_at_ms,
    )  # fmt: skip


if __name__ == "__main__":
    app = stock_app(Settings(), lookback_bars=int(sys.argv[1]))
    faust.Worker(app, override_logging=False, redirect_stdouts=False, quiet=True).execute_from_commandline()
