from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.activation import Epoch, Slot, Timeline
from models.candle_table import CandleTable, build_table
from models.engine import Engine
from models.errors import CandlewickError
from models.events import Signal, decode_signal
from models.serving import make_ready
from streaming.live import Source
from streaming.offline import predict_files, serve_offline
from streaming.replay import Progress, turns
from tests.models.candle_records import MINUTE, START_SLOT, Record
from tests.models.make_bundle import make_bundle
from tests.models.market import Arrival, assert_same_signals, run
from tests.models.random_candles import random_ohlcv

BLOB = make_bundle(lookback=8, hidden=4, warm_up_bars=20)
BUNDLE = make_ready(BLOB, device="cpu")
BARS, FIRST_SIGNAL = 90, 27
SYMBOLS = ("BTC/USDT", "ETH/USDT")


def table() -> CandleTable:
    opens = (START_SLOT - 1 + np.arange(BARS)) * MINUTE
    kept = [np.delete(np.arange(BARS), [60]), np.arange(BARS)]
    ohlcv = random_ohlcv(1, 2, BARS)
    return build_table(
        "binance", MINUTE, {symbol: (opens[kept[i]], ohlcv[:, i, kept[i]]) for i, symbol in enumerate(SYMBOLS)}
    )


def signals_offline(closes: int) -> list[Signal]:
    records = (turn.messages for turn in turns(table(), {}, 1, closes, Progress()))
    return [decode_signal(message.value) for served in serve_offline(BUNDLE, records) for message in served.messages(0)]


def test_offline_signals_are_those_of_the_engine_but_for_the_epoch() -> None:
    (turn,) = turns(table(), {}, 1, BARS, Progress())
    arrivals = [Arrival(Record(message.key, message.value), i) for i, message in enumerate(turn.messages[0])]
    online = Timeline().with_epoch(Epoch(12, "default-1m", BUNDLE.sha256, 0), Slot(MINUTE, 3))
    wanted = run(Engine({BUNDLE.sha256: BUNDLE}.get), arrivals, online).signals
    found = signals_offline(closes=BARS)
    assert {signal.epoch for signal in found} == {None}
    assert_same_signals(found, [_with(signal, epoch=None) for signal in wanted])
    assert len(found) == 2 * (BARS - FIRST_SIGNAL) - 8


def _with(signal: Signal, **fields: object) -> Signal:
    changed: Signal = msgspec.structs.replace(signal, **fields)
    return changed


def test_offline_signals_do_not_depend_on_how_the_files_are_cut() -> None:
    assert_same_signals(signals_offline(closes=7), signals_offline(closes=50))


def test_offline_signals_prove_nothing_and_are_replayed() -> None:
    assert {(signal.proven, signal.direction, signal.origin) for signal in signals_offline(50)} == {
        ((), "flat", "replayed")
    }


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    """The table as a file."""
    lines = ["timestamp_ms,symbol,open,high,low,close,volume"]
    whole = table()
    for s, symbol in enumerate(whole.symbols):
        for at in np.flatnonzero(whole.present[s]).tolist():
            numbers = ",".join(map(repr, whole.ohlcv[:, s, at].tolist()))
            lines.append(f"{whole.open_time_ms[at]},{symbol.replace('/', '')},{numbers}")
    path = tmp_path / "candles.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_predict_files_writes_every_signal_and_counts_every_candle(candles: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(BLOB)
    out = tmp_path / "signals.jsonl"
    result = predict_files(tmp_path / "bundle", Source([candles]), out)
    written = [decode_signal(line) for line in out.read_bytes().splitlines()]
    assert_same_signals(written, signals_offline(50))
    assert result == {"candles": 180, "signals": len(written), "withheld": 180 - len(written), "out": str(out)}


def test_predict_files_of_a_broken_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(BLOB[:-1])
    with pytest.raises(CandlewickError, match="is no bundle that can be used"):
        predict_files(tmp_path / "bundle", Source([tmp_path]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predict_files_of_another_timeframe_is_refused(candles: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(make_bundle(lookback=8, hidden=4, timeframe_ms=5 * MINUTE))
    with pytest.raises(CandlewickError, match="bundle is for candles of 5m, these are of 1m"):
        predict_files(tmp_path / "bundle", Source([candles]), tmp_path / "out")


@pytest.mark.parametrize("name", ["none/out", "folder"])
def test_predict_files_to_where_nothing_can_be_written_says_so(name: str, candles: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bundle").write_bytes(BLOB)
    with pytest.raises(CandlewickError, match=f"{name} cannot be written .*; name another place"):
        predict_files(tmp_path / "bundle", Source([candles]), tmp_path / name)
