"""Records of `candles` into columns, all at once; what cannot be used is set aside with its reason.

Enters: keys and values as bytes. Leaves: numpy columns of valid candles and a list of rejects. Does not know: order,
history, Kafka. The verdict on a record depends on that record alone, so a restart comes to the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidMessage
from models.events import SCHEMA_VERSION, Candle, decode_candle, decode_candles
from models.series import parse_key
from models.series_table import SeriesTable

CLOCK_SKEW_MS = 60_000
"""A closed candle cannot have been received earlier than its close by more than two clocks may differ."""

_NUMBERS = ("open_time_ms", "close_time_ms", "open", "high", "low", "close", "volume", "absent", "revision")
_columns_of = attrgetter(*_NUMBERS, "v", "received_at_ms")
_WIDTH = len(_NUMBERS) + 2
_identity_of = attrgetter("exchange", "symbol", "timeframe")


class Batch(NamedTuple):
    """Records of `candles` as fetched; within a partition in the order of the log."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    partitions: Sequence[int]
    offsets: NDArray[np.int64]  # (n,)
    speaks: NDArray[np.bool_]  # (n,) at or after the resume offset: only these give signals, dead letters and counts


class Columns(NamedTuple):
    """Valid candles in the order of the log; every column `(n,)`."""

    row: NDArray[np.intp]  # its series in the table
    offset: NDArray[np.int64]
    speaks: NDArray[np.bool_]
    close_time_ms: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]  # prices and volume are NaN where absent
    absent: NDArray[np.bool_]
    revision: NDArray[np.int64]
    origin: NDArray[np.object_]  # str

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Columns:
        """The candles at these places."""
        return Columns(*(column[index] for column in self))


class Reject(NamedTuple):
    """A record that can never be used."""

    position: int
    reason: str


class _Version(msgspec.Struct):
    v: int = 0


_decode_version = msgspec.json.Decoder(_Version).decode


def decode_batch(table: SeriesTable, batch: Batch) -> tuple[Columns, list[Reject]]:
    """Decode and check a batch; a series met for the first time is given its row in the table."""
    candles, position, rejects = _parse(batch.values)
    rows, known = _rows(table, batch, candles, position, rejects)
    if len(known) < len(candles):
        candles, position = [candles[i] for i in known], position[known]
    numbers = _numbers(candles)
    bad = _broken(numbers, table.timeframe_ms[rows])
    if bad.any():
        rejects += [Reject(int(position[i]), why_invalid(candles[i])) for i in np.flatnonzero(bad).tolist()]
        good = np.flatnonzero(~bad)
        candles = [candles[i] for i in good.tolist()]
        position, rows, numbers = position[good], rows[good], numbers[:, good]
    return _columns(batch, candles, position, rows, numbers), sorted(rejects)


def _columns(
    batch: Batch,
    candles: list[Candle],
    position: NDArray[np.intp],
    rows: NDArray[np.intp],
    numbers: NDArray[np.float64],
) -> Columns:
    origin = np.empty(len(candles), np.object_)
    origin[:] = [candle.origin for candle in candles]
    close_time_ms = numbers[1].astype(np.int64)
    prices = numbers[2:7]
    absent, revision = numbers[7] != 0, numbers[8].astype(np.int64)
    return Columns(
        rows, batch.offsets[position], batch.speaks[position], close_time_ms, *prices, absent, revision, origin
    )


def _parse(values: Sequence[bytes | None]) -> tuple[list[Candle], NDArray[np.intp], list[Reject]]:
    """One call into C for the whole batch; a batch with a bad record is parsed record by record."""
    try:
        candles = decode_candles(b"[" + b",".join(values) + b"]")  # type: ignore[arg-type]  # None is a TypeError
        if len(candles) == len(values):
            return candles, np.arange(len(values)), []
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        pass  # at least one is bad: which one is found below
    candles, position, rejects = [], [], []
    for at, value in enumerate(values):
        try:
            candles.append(_parse_one(value))
            position.append(at)
        except InvalidMessage as error:
            rejects.append(Reject(at, str(error)))
    return candles, np.asarray(position, np.intp), rejects


def _parse_one(value: bytes | None) -> Candle:
    if value is None:
        raise InvalidMessage("no value")
    try:
        return decode_candle(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _refuse_unknown_version(value)
        raise InvalidMessage(f"not a candle: {error}") from error


def _refuse_unknown_version(value: bytes) -> None:
    try:
        version = _decode_version(value).v
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    if version != SCHEMA_VERSION:
        raise InvalidMessage(_unknown_version(version))


def _unknown_version(version: int) -> str:
    return f"schema version {version} is unknown to this build (it reads {SCHEMA_VERSION}): upgrade, then replay it"


def _rows(
    table: SeriesTable, batch: Batch, candles: list[Candle], position: NDArray[np.intp], rejects: list[Reject]
) -> tuple[NDArray[np.intp], list[int]]:
    """The row of each candle, and which candles have one: key and value must name the same series."""
    try:
        found = [table.row_of[batch.keys[at]] for at in position.tolist()]  # type: ignore[index]  # None is a KeyError
        if list(map(_identity_of, candles)) == [table.series[row] for row in found]:
            return np.asarray(found, np.intp), list(range(len(found)))
    except KeyError:
        pass  # a new series, or a bad key
    rows, known = [], []
    for i, at in enumerate(position.tolist()):
        try:
            rows.append(_row(table, batch.keys[at], batch.partitions[at], candles[i]))
            known.append(i)
        except InvalidMessage as error:
            rejects.append(Reject(at, str(error)))
    return np.asarray(rows, np.intp), known


def _row(table: SeriesTable, key: bytes | None, partition: int, candle: Candle) -> int:
    series = parse_key(key)
    if series != _identity_of(candle):
        raise InvalidMessage(f"key {key!r} and value {'|'.join(_identity_of(candle))} name different series")
    row = table.row_of.get(series.key)
    if row is not None:
        return row
    reason = why_invalid(candle)
    if reason:  # a broken candle makes no series known
        raise InvalidMessage(reason)
    return table.add(series.key, partition)


def _numbers(candles: list[Candle]) -> NDArray[np.float64]:
    """Columns `(11, n)`; null is NaN."""
    cells = chain.from_iterable(map(_columns_of, candles))
    try:
        flat = np.fromiter(cells, np.float64, len(candles) * _WIDTH)
    except TypeError:  # an absent candle holds nulls
        cells = chain.from_iterable(map(_columns_of, candles))
        flat = np.fromiter((np.nan if cell is None else cell for cell in cells), np.float64, len(candles) * _WIDTH)
    return flat.reshape(-1, _WIDTH).T.copy()


def _broken(numbers: NDArray[np.float64], timeframe_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which candles break a rule `(n,)`; `why_invalid` says which rule."""
    opens_at, closes_at, open_, high, low, close, volume, absent, _, version, received_at = numbers
    sound = (
        (version == SCHEMA_VERSION)
        & (closes_at - opens_at == timeframe_ms)
        & (opens_at % np.where(timeframe_ms <= _GRIDDED_MS, timeframe_ms, 1) == 0)
        & (received_at >= closes_at - CLOCK_SKEW_MS)
    )
    priced = (
        (low > 0)
        & (high < np.inf)
        & (low <= np.minimum(open_, close))
        & (high >= np.maximum(open_, close))
        & (volume >= 0)
        & (volume < np.inf)
    )
    empty = np.isnan(numbers[2:7]).all(axis=0)
    return np.asarray(~(sound & np.where(absent != 0, empty, priced)))


_GRIDDED_MS = 86_400_000  # bars of a day and less open on multiples of their length; weeks open on Mondays


def why_invalid(candle: Candle) -> str:
    """The first rule a candle breaks, in words; empty when it breaks none."""
    length_ms = parse_key(f"-|-|{candle.timeframe}".encode()).timeframe_ms
    prices = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    if candle.v != SCHEMA_VERSION:
        return _unknown_version(candle.v)
    if candle.close_time_ms - candle.open_time_ms != length_ms:
        return f"close_time_ms is not open_time_ms + {length_ms}, the length of {candle.timeframe}"
    if length_ms <= _GRIDDED_MS and candle.open_time_ms % length_ms:
        return f"open_time_ms {candle.open_time_ms} is not on the grid of {candle.timeframe}"
    if candle.received_at_ms < candle.close_time_ms - CLOCK_SKEW_MS:
        return f"received_at_ms {candle.received_at_ms} is before its close {candle.close_time_ms}: it was not closed"
    if candle.absent:
        return "" if all(price is None for price in prices) else "absent, and yet it has prices or volume"
    return _why_priced(*prices)


def _why_priced(
    open_: float | None, high: float | None, low: float | None, close: float | None, volume: float | None
) -> str:
    if open_ is None or high is None or low is None or close is None or volume is None:
        return "a price or the volume is null, and it is not marked absent"
    if min(open_, high, low, close) <= 0:
        return f"prices must be positive: open {open_} high {high} low {low} close {close}"
    if not max(open_, high, low, close, volume) < float("inf"):
        return "a price or the volume is not finite"
    if high < low:
        return f"high {high} is below low {low}"
    if low > min(open_, close) or high < max(open_, close):
        return f"open {open_} or close {close} lies outside low {low} to high {high}"
    return f"volume {volume} is negative" if volume < 0 else ""
