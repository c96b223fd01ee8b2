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
