"""Records of `candles` into columns, all at once; what cannot be used is set aside with its reason.

Enters: keys and values as bytes. Leaves: numpy columns of valid candles and a list of rejects. Does not know: order,
history, Kafka. The verdict on a record depends on that record alone, so a restart comes to the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.candle_kernel import (
    CLOSE,
    CLOSE_TIME,
    HIGH,
    LOW,
    OPEN,
    ORIGIN,
    ORIGINS,
    PRICES,
    REVISION,
    TIMES,
    VOLUME,
    find_rows,
    read_candles,
)  # fmt: skip
from models.errors import InvalidMessage
from models.events import NOT_JSON, SCHEMA_VERSION, Candle, decode_candle
from models.series import Series, parse_key, timeframe_ms
from models.series_table import SeriesTable

CLOCK_SKEW_MS = 60_000
"""A closed candle cannot have been received earlier than its close by more than two clocks may differ."""
LEAST_PRICE, MOST_PRICE, MOST_VOLUME = 1e-15, 1e15, 1e18
"""Beyond these a feature would overflow, and an average that has met infinity never leaves it."""
MAX_REASON = 400
"""Characters; a reason quotes the record, which may be huge."""

_GRIDDED_MS = 86_400_000  # bars of a day and less open on multiples of their length; weeks open on Mondays

_LIMITS = np.array([LEAST_PRICE, MOST_PRICE, MOST_VOLUME, CLOCK_SKEW_MS, _GRIDDED_MS])
_PRICES = ("open", "high", "low", "close", "volume")  # by their place in what the kernel reads


class Batch(NamedTuple):
    """Records of `candles` as fetched; within a partition in the order of the log."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    partitions: Sequence[int]
    offsets: NDArray[np.int64]  # (n,)
    speaks: NDArray[np.bool_]  # (n,) at or after the resume offset: only these give signals, dead letters and counts

    def side_by_side(self) -> Records:
        """The same, as they are decoded."""
        pieces = [piece or b"" for record in zip(self.keys, self.values, strict=True) for piece in record]
        ends = np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces))).reshape(-1, 2).T  # keys, values
        starts = np.concatenate([[0], ends.T.ravel()[:-1]]).reshape(-1, 2).T if pieces else ends
        places = np.array([starts[0], ends[0], starts[1], ends[1]])
        for row, column in ((1, self.keys), (3, self.values)):
            if None in column:
                places[row] -= [piece is None for piece in column]
        text = np.frombuffer(b"".join(pieces), np.uint8)
        return Records(text, places, np.array(self.partitions, np.int64), self.offsets, self.speaks)


class Records(NamedTuple):
    """The same as a `Batch`, side by side as they come from Kafka."""

    text: NDArray[np.uint8]  # in which keys and values lie
    places: NDArray[np.int64]  # (4, n): begin and end of the key, of the value; the end comes first where there is none
    partitions: NDArray[np.int64]  # (n,)
    offsets: NDArray[np.int64]
    speaks: NDArray[np.bool_]

    def key(self, at: int) -> bytes | None:
        """The key of one record."""
        return self._piece(at, 0)

    def value(self, at: int) -> bytes | None:
        """The value of one record."""
        return self._piece(at, 2)

    def _piece(self, at: int, row: int) -> bytes | None:
        first, last = self.places[row : row + 2, at].tolist()
        return self.text[first:last].tobytes() if last >= first else None


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
    origin: NDArray[np.int64]  # place in ORIGINS

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Columns:
        """The candles at these places."""
        return Columns._make(column[index] for column in self)


class Reject(NamedTuple):
    """A record that can never be used."""

    position: int
    reason: str


def decode_batch(table: SeriesTable, batch: Batch | Records) -> tuple[Columns, list[Reject]]:
    """Decode and check a batch; a series met for the first time is given its row in the table."""
    records = batch.side_by_side() if isinstance(batch, Batch) else batch
    columns, good = _read_at_once(table, records)
    if good.all():
        return columns, []
    left = np.flatnonzero(~good)
    others, position, rejects = _decode_one_by_one(table, records, left.tolist())
    columns = Columns._make(map(np.concatenate, zip(columns.take(good), others, strict=True)))
    order = np.argsort(np.concatenate([np.flatnonzero(good), position]))
    return columns.take(order), rejects


def _read_at_once(table: SeriesTable, records: Records) -> tuple[Columns, NDArray[np.bool_]]:
    """What is written as our own encoder writes it, by series that are known; `(n,)` tells which are."""
    count, texts = len(records.offsets), table.texts
    rows, good = np.empty(count, np.int64), np.empty(count, np.bool_)
    times, prices = np.empty((TIMES, count), np.int64), np.empty((PRICES, count))
    find_rows(
        records.text, records.places, records.partitions, texts.keys, texts.key_ends, table.partition, texts.slots, rows
    )
    read_candles(
        records.text, records.places, rows, texts.heads, texts.head_ends, table.timeframe_ms, _LIMITS,
        times, prices, good,
    )  # fmt: skip
    return Columns(
        rows, records.offsets, records.speaks, times[CLOSE_TIME],
        prices[OPEN], prices[HIGH], prices[LOW], prices[CLOSE], prices[VOLUME],
        np.zeros(count, np.bool_), times[REVISION], times[ORIGIN],
    ), good  # fmt: skip


def _decode_one_by_one(
    table: SeriesTable, records: Records, positions: list[int]
) -> tuple[Columns, NDArray[np.intp], list[Reject]]:
    """Whatever else there is: candles, their places in the batch, and the rejects."""
    candles, rows, kept, rejects = [], [], [], []
    for at in positions:
        try:
            candle = _candle(records.value(at))
            row = _row(table, int(records.partitions[at]), records.key(at), candle)
        except InvalidMessage as error:
            rejects.append(_reject(at, str(error)))
        else:
            candles.append(candle)
            rows.append(row)
            kept.append(at)
    prices = [np.array([getattr(candle, name) for candle in candles], np.float64) for name in _PRICES]  # null is NaN
    columns = Columns(
        np.array(rows, np.intp), records.offsets[kept], records.speaks[kept],
        np.array([candle.close_time_ms for candle in candles], np.int64),
        prices[OPEN], prices[HIGH], prices[LOW], prices[CLOSE], prices[VOLUME],
        np.array([candle.absent for candle in candles], np.bool_),
        np.array([candle.revision for candle in candles], np.int64),
        np.array([ORIGINS.index(candle.origin) for candle in candles], np.int64),
    )  # fmt: skip
    return columns, np.array(kept, np.intp), rejects


def _candle(value: bytes | None) -> Candle:
    if value is None:
        raise InvalidMessage("no value")
    try:
        return decode_candle(value)
    except NOT_JSON as error:
        _refuse_unknown_version(value)
        raise InvalidMessage(f"not a candle: {error}") from error


class _Version(msgspec.Struct):
    v: int = SCHEMA_VERSION


_decode_version = msgspec.json.Decoder(_Version).decode


def _refuse_unknown_version(value: bytes) -> None:
    try:
        version = _decode_version(value).v
    except NOT_JSON:
        return
    if version != SCHEMA_VERSION:
        raise InvalidMessage(_unknown_version(version))


def _unknown_version(version: int) -> str:
    return f"schema version {version} is unknown to this build (it reads {SCHEMA_VERSION}): upgrade this build"


def _row(table: SeriesTable, partition: int, key: bytes | None, candle: Candle) -> int:
    """The row of the series that key and value both name.

    Raises:
        InvalidMessage: they name none, or two, or the candle is broken; such a one makes no series known.
    """
    series = parse_key(key)
    named = Series(candle.exchange, candle.symbol, candle.timeframe)
    if series != named:
        raise InvalidMessage(f"key {key!r} and value {named.key!r} name different series")
    if reason := why_invalid(candle):
        raise InvalidMessage(reason)
    row = table.row(partition, series.key)
    return table.add(series.key, partition) if row is None else row


def _reject(position: int, reason: str) -> Reject:
    return Reject(position, reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 1] + "…")


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
