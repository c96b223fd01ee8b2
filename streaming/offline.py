"""Signals of candle files by the very code that serves: the replay's records go straight into the engine.

Enters: a bundle and candle files. Leaves: signals as JSON lines, epoch null. Does not know: Kafka.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.activation import Epoch, Slot, Timeline
from models.bundle_file import read_bundle
from models.decode import Batch
from models.engine import Engine
from models.errors import CandlewickError
from models.events import Message
from models.pending import Served
from models.series import timeframe_name
from models.serving import ServingBundle, make_ready
from models.whole_file import told, whole
from streaming.live import Source, load
from streaming.replay import CLOSES_A_TURN, Progress, turns


def predict_files(bundle_file: Path, source: Source, out: Path) -> dict[str, Any]:
    """Write every signal that the bundle gives on these candles; it covers all closes.

    Raises:
        CandlewickError: the candles or the bundle cannot be used, or the file cannot be written.
    """
    read_bundle(bundle_file)
    bundle = make_ready(bundle_file.read_bytes())
    table = load(source)
    if table.timeframe_ms != bundle.spec.timeframe_ms:
        own = timeframe_name(bundle.spec.timeframe_ms)
        raise CandlewickError(f"{bundle_file} is for candles of {own}, these are of {table.timeframe}; give it its own")
    counted: Counter[str] = Counter()
    with told(out), whole(out) as file:
        records = (turn.messages for turn in turns(table, {}, 1, CLOSES_A_TURN, Progress()))
        for served in serve_offline(bundle, records):
            for message in served.messages(0):
                file.write(message.value + b"\n")
            counted["candles"] += served.candles
            counted["signals"] += sum(served.signalled.values())
            counted["withheld"] += sum(served.withheld.values())
    return {name: counted[name] for name in ("candles", "signals", "withheld")} | {"out": str(out)}


def serve_offline(bundle: ServingBundle, records: Iterable[dict[int, list[Message]]]) -> Iterator[Served]:
    """The engine on records of one partition that never were in Kafka."""
    spec = bundle.spec
    epoch = Epoch(None, spec.model, bundle.sha256, 0)
    timeline = Timeline().with_epoch(epoch, Slot(spec.timeframe_ms, spec.horizon_bars))
    engine = Engine({bundle.sha256: bundle}.get)
    offset = 0
    for by_partition in records:
        messages = by_partition[0]
        n = len(messages)
        batch = Batch(
            [message.key for message in messages],
            [message.value for message in messages],
            [0] * n,
            np.arange(offset, offset + n),
            np.ones(n, np.bool_),
        )
        offset += n
        yield engine.serve(batch, timeline, time.time_ns() // 1_000_000)
