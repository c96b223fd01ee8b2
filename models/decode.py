"""Records of `candles` into columns, all at once; what cannot be used is set aside with its reason.

Enters: keys and values as bytes. Leaves: numpy columns of valid candles and a list of rejects. Does not know: order,
history, Kafka. The verdict on a record depends on that record alone, so a restart comes to the same one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import starmap
from operator import attrgetter
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidMessage
from models.events import SCHEMA_VERSION, Candle, decode_candle
from models.series import Series, parse_key, timeframe_ms
from models.series_table import SeriesTable

CLOCK_SKEW_MS = 60_000
"""A closed candle cannot have been received earlier than its close by more than two clocks may differ."""
LEAST_PRICE, MOST_PRICE, MOST_VOLUME = 1e-15, 1e15, 1e18
"""Beyond these a feature would overflow, and an average that has met infinity never leaves it."""
MAX_REASON = 400
"""Characters; a reason quotes the record, which may be huge."""

_GRIDDED_MS = 86_400_000  # bars of a day and less open on multiples of their length; weeks open on Mondays
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # the last one by brackets without end

_NUMBERS = (
    "v", "open_time_ms", "close_time_ms", "received_at_ms", "absent", "revision",
    "open", "high", "low", "close", "volume",
)  # fmt: skip
_numbers_of = attrgetter(*_NUMBERS)
_pack = struct.Struct(f"{len(_NUMBERS)}d").pack
_identity_of = attrgetter("exchange", "symbol", "timeframe")
_origin_of = attrgetter("origin")


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
        return Columns._make(column[index] for column in self)


class Reject(NamedTuple):
    """A record that can never be used."""

    position: int
    reason: str


class _Parsed(NamedTuple):
    """Records that are candles of a known series; whether they make sense is still open."""

    candles: list[Candle]
    position: NDArray[np.intp]  # (n,) in the batch
    row: NDArray[np.intp]  # (n,)

    def take(self, index: NDArray[np.intp]) -> _Parsed:
        return _Parsed([self.candles[i] for i in index.tolist()], self.position[index], self.row[index])


def decode_batch(table: SeriesTable, batch: Batch) -> tuple[Columns, list[Reject]]:
    """Decode and check a batch; a series met for the first time is given its row in the table."""
    parsed, rejects = _parse(table, batch)
    numbers = _numbers(parsed.candles)
    broken = _broken(numbers, table.timeframe_ms[parsed.row])
    if broken.any():
        rejects += [
            _reject(int(parsed.position[i]), why_invalid(parsed.candles[i])) for i in np.flatnonzero(broken).tolist()
        ]
        rejects.sort()
        parsed, numbers = parsed.take(np.flatnonzero(~broken)), numbers[:, ~broken]
    return _columns(batch, parsed, numbers), rejects


def _parse(table: SeriesTable, batch: Batch) -> tuple[_Parsed, list[Reject]]:
    """All at once where every record is a candle of a known series, else one by one."""
    try:
        candles = list(map(decode_candle, batch.values))  # type: ignore[arg-type]  # None is a TypeError
        rows = table.find(batch.partitions, batch.keys)
        if list(map(_identity_of, candles)) == [table.series[row] for row in rows]:
            return _Parsed(candles, np.arange(len(rows)), np.array(rows, np.intp)), []
    except (*_NOT_JSON, TypeError, KeyError):
        pass  # a series nobody knows yet, or a record that is no candle: which one is found below
    return _parse_one_by_one(table, batch)


def _parse_one_by_one(table: SeriesTable, batch: Batch) -> tuple[_Parsed, list[Reject]]:
    candles, position, rows, rejects = [], [], [], []
    for at, (key, value, partition) in enumerate(zip(batch.keys, batch.values, batch.partitions, strict=True)):
        try:
            candle = _candle(value)
            rows.append(_row(table, partition, key, candle))
        except InvalidMessage as error:
            rejects.append(_reject(at, str(error)))
        else:
            candles.append(candle)
            position.append(at)
    return _Parsed(candles, np.array(position, np.intp), np.array(rows, np.intp)), rejects


def _candle(value: bytes | None) -> Candle:
    if value is None:
        raise InvalidMessage("no value")
    try:
        return decode_candle(value)
    except _NOT_JSON as error:
        _refuse_unknown_version(value)
        raise InvalidMessage(f"not a candle: {error}") from error


class _Version(msgspec.Struct):
    v: int = SCHEMA_VERSION


_decode_version = msgspec.json.Decoder(_Version).decode


def _refuse_unknown_version(value: bytes) -> None:
    try:
        version = _decode_version(value).v
    except _NOT_JSON:
        return
    if version != SCHEMA_VERSION:
        raise InvalidMessage(_unknown_version(version))


def _unknown_version(version: int) -> str:
    return f"schema version {version} is unknown to this build (it reads {SCHEMA_VERSION}): upgrade this build"


def _row(table: SeriesTable, partition: int, key: bytes | None, candle: Candle) -> int:
    """The row of the series that key and value both name."""
    series = parse_key(key)
    named = Series(candle.exchange, candle.symbol, candle.timeframe)
    if series != named:
        raise InvalidMessage(f"key {key!r} and value {named.key!r} name different series")
    row = table.row(partition, series.key)
    if row is not None:
        return row
    if reason := why_invalid(candle):  # a broken candle makes no series known
        raise InvalidMessage(reason)
    return table.add(series.key, partition)


def _reject(position: int, reason: str) -> Reject:
    return Reject(position, reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 1] + "…")


def _numbers(candles: list[Candle]) -> NDArray[np.float64]:
    """A row for each of `_NUMBERS`, `(11, n)`; null is NaN."""
    try:  # packed, since numpy reads bytes faster than Python's numbers
        numbers = np.frombuffer(b"".join(starmap(_pack, map(_numbers_of, candles))))
    except struct.error:  # an absent candle holds nulls
        numbers = np.array(list(map(_numbers_of, candles)), np.float64)
    return numbers.reshape(-1, len(_NUMBERS)).T.copy()


def _columns(batch: Batch, parsed: _Parsed, numbers: NDArray[np.float64]) -> Columns:
    _, _, closes_at, _, absent, revision, open_, high, low, close, volume = numbers
    origin = np.empty(len(parsed.candles), np.object_)
    origin[:] = list(map(_origin_of, parsed.candles))
    return Columns(
        parsed.row, batch.offsets[parsed.position], batch.speaks[parsed.position], closes_at.astype(np.int64),
        open_, high, low, close, volume, absent != 0, revision.astype(np.int64), origin,
    )  # fmt: skip


def _broken(numbers: NDArray[np.float64], timeframe_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which candles break a rule `(n,)`; `why_invalid` says which rule."""
    version, opens_at, closes_at, received_at, absent, _, open_, high, low, close, volume = numbers
    sound = (
        (version == SCHEMA_VERSION)
        & (closes_at - opens_at == timeframe_ms)
        & (opens_at % np.where(timeframe_ms <= _GRIDDED_MS, timeframe_ms, 1) == 0)
        & (received_at >= closes_at - CLOCK_SKEW_MS)
    )
    priced = (
        (low >= LEAST_PRICE)
        & (high <= MOST_PRICE)
        & (low <= np.minimum(open_, close))
        & (high >= np.maximum(open_, close))
        & (volume >= 0)
        & (volume <= MOST_VOLUME)
    )
    if absent.any():
        priced = np.where(absent != 0, np.isnan(numbers[6:]).all(axis=0), priced)
    return np.asarray(~(sound & priced))


def why_invalid(candle: Candle) -> str:
    """The first rule a candle breaks, in words; empty when it breaks none."""
    return next(_faults(candle), "")


def _faults(candle: Candle) -> Iterator[str]:
    try:
        length_ms = timeframe_ms(candle.timeframe)
    except InvalidMessage as error:
        yield str(error)
        return
    if candle.v != SCHEMA_VERSION:
        yield _unknown_version(candle.v)
    if candle.close_time_ms - candle.open_time_ms != length_ms:
        yield f"close_time_ms is not open_time_ms + {length_ms}, the length of {candle.timeframe}"
    if length_ms <= _GRIDDED_MS and candle.open_time_ms % length_ms:
        yield f"open_time_ms {candle.open_time_ms} is not on the grid of {candle.timeframe}"
    if candle.received_at_ms < candle.close_time_ms - CLOCK_SKEW_MS:
        yield f"received_at_ms {candle.received_at_ms} is before its close {candle.close_time_ms}: it was not closed"
    prices = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    if not candle.absent:
        yield from _faults_of_prices(*prices)
    elif any(price is not None for price in prices):
        yield "absent, and yet it has prices or volume"


def _faults_of_prices(
    open_: float | None, high: float | None, low: float | None, close: float | None, volume: float | None
) -> Iterator[str]:
    if open_ is None or high is None or low is None or close is None or volume is None:
        yield "a price or the volume is null, and it is not marked absent"
        return
    if not all(price > 0 for price in (open_, high, low, close)):
        yield f"prices must be positive: open {open_} high {high} low {low} close {close}"
    if not low <= high:
        yield f"high {high} is below low {low}"
    if not (low <= open_ <= high and low <= close <= high):
        yield f"open {open_} or close {close} lies outside low {low} to high {high}"
    if not (low >= LEAST_PRICE and high <= MOST_PRICE):
        yield f"prices from low {low} to high {high} leave {LEAST_PRICE:g} to {MOST_PRICE:g}"
    if not 0 <= volume <= MOST_VOLUME:
        yield f"volume {volume} is negative or above {MOST_VOLUME:g}"
