"""Records of `signals` back into signals; what cannot be used is left out and counted.

Enters: keys and values as bytes. Leaves: signals with the row of their series. Does not know: candles, order, Kafka.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter

from models.decode import Batch
from models.errors import InvalidMessage
from models.events import NOT_JSON, SCHEMA_VERSION, Signal, decode_signal
from models.series import Series, off_grid_ms, parse_key
from models.series_table import UNKNOWN, SeriesTable

_identity_of = attrgetter("exchange", "symbol", "timeframe")
_NO_SIGNAL = (*NOT_JSON, TypeError)

MAX_HORIZON_BARS = 1_440
"""As in `models.spec`."""
Decoded = tuple[int, Signal, int, bool]
"""Row in the table, signal, offset, whether it speaks."""


def decode_signals(table: SeriesTable, batch: Batch, ignored: Counter[str]) -> Iterable[Decoded]:
    """Decode a batch; a series met for the first time is given its row in the table."""
    try:
        signals = list(map(decode_signal, batch.values))  # type: ignore[arg-type]  # None is a TypeError
    except _NO_SIGNAL:
        return _one_by_one(table, batch, ignored)  # which one it is, is found there
    rows = table.find(batch.partitions, batch.keys).tolist()
    known = UNKNOWN not in rows and list(map(_identity_of, signals)) == [table.series[row] for row in rows]
    if not known:
        return _one_by_one(table, batch, ignored)
    lengths = table.timeframe_ms[rows].tolist()
    decoded = list(zip(rows, signals, batch.offsets.tolist(), batch.speaks.tolist(), strict=True))
    if all(map(_makes_sense, signals, lengths)):
        return decoded
    return [each for each, length_ms in zip(decoded, lengths, strict=True) if _sound(each, length_ms, ignored)]


def _makes_sense(signal: Signal, length_ms: int) -> bool:
    return (
        signal.target_time_ms - signal.close_time_ms == signal.horizon_bars * length_ms
        and 1 <= signal.horizon_bars <= MAX_HORIZON_BARS
        and signal.v == SCHEMA_VERSION
        and signal.close_time_ms >= 0
        and off_grid_ms(signal.close_time_ms, length_ms) == 0  # else it took the slot of a close that is not its own
    )


def _sound(each: Decoded, length_ms: int, ignored: Counter[str]) -> bool:
    _, signal, _, speaks = each
    sound = _makes_sense(signal, length_ms)
    ignored["poison_signal"] += speaks and not sound
    return sound


def _one_by_one(table: SeriesTable, batch: Batch, ignored: Counter[str]) -> list[Decoded]:
    decoded = []
    offsets, speak = batch.offsets.tolist(), batch.speaks.tolist()
    of_each = zip(batch.keys, batch.values, batch.partitions, offsets, speak, strict=True)
    for key, value, partition, offset, speaks in of_each:
        try:
            signal = decode_signal(value or b"")
            row = _row(table, partition, key, signal)
        except (*_NO_SIGNAL, InvalidMessage):
            ignored["poison_signal"] += speaks
            continue
        each = (row, signal, offset, speaks)
        if _sound(each, int(table.timeframe_ms[row]), ignored):
            decoded.append(each)
    return decoded


def _row(table: SeriesTable, partition: int, key: bytes | None, signal: Signal) -> int:
    series = parse_key(key)
    if series != Series(signal.exchange, signal.symbol, signal.timeframe):
        raise InvalidMessage(f"key {key!r} and value name different series")
    row = table.row(partition, series.key)
    return table.add(series.key, partition) if row is None else row
