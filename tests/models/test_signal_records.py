"""Records of `signals` that cannot be used are left out and counted, and take nobody else's place."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest

from models.decode import Batch
from models.events import encode
from models.series import Series
from models.series_table import SeriesTable
from models.signal_records import decode_signals
from tests.models.candle_records import MINUTE, START_SLOT
from tests.models.join_logs import make_signal

SERIES = Series("binance", "S0/USDT", "1m")
WEEK_MS, MONDAY_MS = 604_800_000, 1_699_833_600_000  # 2023-11-13
SIGNAL = make_signal(SERIES, START_SLOT)
CLOSE_MS, TARGET_MS = SIGNAL.close_time_ms, SIGNAL.target_time_ms


@pytest.mark.parametrize("known", [False, True], ids=["of a new series", "of a known series"])
@pytest.mark.parametrize(
    "fields",
    [
        {"v": 2},
        {"horizon_bars": 0, "target_time_ms": CLOSE_MS},
        {"target_time_ms": TARGET_MS + MINUTE},
        {"close_time_ms": CLOSE_MS + 1, "target_time_ms": TARGET_MS + 1},
        {"symbol": "OTHER/USDT"},
    ],
    ids=["another schema", "no horizon", "target elsewhere", "between two closes", "another key"],
)
def test_signal_that_makes_no_sense_is_left_out_and_counted(fields: dict[str, Any], known: bool) -> None:
    table, ignored = SeriesTable(), Counter[str]()
    if known:
        table.add(SERIES.key, 0)
    values = [encode(msgspec.structs.replace(SIGNAL, **fields)), encode(SIGNAL)]
    batch = Batch([SERIES.key] * 2, values, [0, 0], np.array([5, 6]), np.array([True, True]))
    assert list(decode_signals(table, batch, ignored)) == [(0, SIGNAL, 6, True)]
    assert ignored["poison_signal"] == 1


@pytest.mark.parametrize("known", [False, True], ids=["of a new series", "of a known series"])
@pytest.mark.parametrize(("close_ms", "sound"), [(MONDAY_MS, True), (MONDAY_MS // WEEK_MS * WEEK_MS, False)])
def test_weekly_signal_makes_sense_at_the_end_of_a_sunday_only(close_ms: int, sound: bool, known: bool) -> None:
    table, ignored, series = SeriesTable(), Counter[str](), SERIES._replace(timeframe="1w")
    if known:
        table.add(series.key, 0)
    target_ms = close_ms + SIGNAL.horizon_bars * WEEK_MS
    weekly = msgspec.structs.replace(SIGNAL, timeframe="1w", close_time_ms=close_ms, target_time_ms=target_ms)
    batch = Batch([series.key], [encode(weekly)], [0], np.array([5]), np.array([True]))
    assert [signal for _, signal, _, _ in decode_signals(table, batch, ignored)] == [weekly] * sound
    assert ignored["poison_signal"] == (not sound)
