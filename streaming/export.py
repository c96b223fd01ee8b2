"""Candles of the topic into a file that training reads: `candlewick export`, and the first step of every job.

Enters: a timeframe and a span of closes. Leaves: a file of valid candles of revision 0, each series in order of time:
Parquet if it is named so, and then sorted; else csv. It is whole or not there at all.
Does not know: what they are for.

Beside a dataset the file has what either of the two has: of one time the higher revision, of equal ones the dataset's.

A file has no column for the exchange. Where two exchanges have a symbol, the first by name gives it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from models.decode import Columns
from models.errors import CandlewickError
from models.places import Place
from models.series import Series, parse_key, timeframe_ms
from models.series_rows import NO_ROWS, united
from models.series_table import SeriesTable
from models.whole_file import unwritable
from streaming.clients import new_reader, started
from streaming.export_file import Sink, into_file
from streaming.history.joined import dataset_rows, oldest_close_in
from streaming.history.records import by_series, can_be_named, columns_of
from streaming.settings import Settings
from streaming.stretch import candles
from streaming.tail import oldest_close, recent_closes
from streaming.topics import check_topics, topic_partitions

EARLY_BARS = 60
"""A candle may be stamped so long before it closes."""


@dataclass
class Exported:
    """What went into the file."""

    file: str
    candles: int = 0
    series: list[str] = field(default_factory=list)
    first_close_ms: int | None = None
    last_close_ms: int | None = None


@dataclass(frozen=True)
class Wanted:
    """Which candles: closes `since_ms <= close <= until_ms` (UTC) of the live series of a timeframe."""

    timeframe: str
    since_ms: int
    until_ms: int
    dataset: Place | None = None  # what it has of them beside the topic


async def export(settings: Settings, wanted: Wanted, out: Path) -> Exported:
    """Write the candles, as the log has them up to now; absent ones are missing rows.

    Raises:
        CandlewickError: there is no candle of this timeframe, or the file cannot be written.
    """
    length_ms = timeframe_ms(wanted.timeframe)
    series = chosen(await recent_closes(settings, length_ms))
    if not series:
        raise CandlewickError(f"the log of candles holds no series of {wanted.timeframe} to export")
    done = Exported(str(out), series=sorted(one.key.decode() for one in series))
    try:
        with into_file(out) as sink:
            write = _write if wanted.dataset is None else _write_joined
            await write(settings, wanted, series, sink, done)
    except OSError as error:
        raise CandlewickError(unwritable(out, error)) from error
    return done


async def oldest_known(settings: Settings, timeframe_ms: int, dataset: Place | None) -> int | None:
    """The oldest close (UTC ms) of a timeframe in the log, or of its live series in a dataset; None: there is none.

    Raises:
        CandlewickError: the dataset cannot be read.
    """
    oldest = [await oldest_close(settings, timeframe_ms)]
    if dataset is not None:
        series = chosen(await recent_closes(settings, timeframe_ms))
        oldest.append(await asyncio.to_thread(oldest_close_in, dataset, series))
    return min((close for close in oldest if close is not None), default=None)


def chosen(keys: Collection[bytes]) -> set[Series]:
    """The series a file can hold: one for each symbol that it can name."""
    by_symbol: dict[str, Series] = {}
    for series in sorted(map(parse_key, keys)):
        if can_be_named(series.symbol):
            by_symbol.setdefault(series.symbol, series)
    return set(by_symbol.values())


async def _write(settings: Settings, wanted: Wanted, series: Collection[Series], sink: Sink, done: Exported) -> None:
    table, newest = SeriesTable(), dict[int, int]()
    async for columns in _columns(settings, wanted, table):
        mine = np.array([one in series for one in table.series] or [False], np.bool_)
        fits = (
            mine[columns.row]
            & ~columns.absent
            & (columns.revision == 0)
            & (columns.close_time_ms >= wanted.since_ms)
            & (columns.close_time_ms <= wanted.until_ms)
        )
        fresh = columns.take(fits)
        fresh = fresh.take(_newer(fresh, newest))
        sink(fresh, table.series)
        _count(fresh, done)


async def _write_joined(
    settings: Settings, wanted: Wanted, series: Collection[Series], sink: Sink, done: Exported
) -> None:
    """What dataset and topic have of the span, series by series; some 60 bytes of memory a candle of the topic."""
    assert wanted.dataset is not None  # noqa: S101 - the caller looked
    table, found = SeriesTable(), list[Columns]()
    async for columns in _columns(settings, wanted, table):
        mine = np.array([one in series for one in table.series] or [False], np.bool_)
        in_span = (columns.close_time_ms >= wanted.since_ms) & (columns.close_time_ms <= wanted.until_ms)
        found.append(columns.take(mine[columns.row] & ~columns.absent & in_span))
    topic = by_series(found, table)
    for one in sorted(series):
        held = await asyncio.to_thread(dataset_rows, wanted.dataset, one, wanted.since_ms, wanted.until_ms)
        columns = columns_of(united([held, topic.get(one, NO_ROWS)]), one)
        sink(columns, [one])
        _count(columns, done)


def _newer(columns: Columns, newest: dict[int, int]) -> NDArray[np.bool_]:
    """`(n,)`: newer than the last of its series; what is not was there already."""
    marks = []
    for row, close_ms in zip(columns.row.tolist(), columns.close_time_ms.tolist(), strict=True):
        marks.append(close_ms > newest.get(row, -1))
        if marks[-1]:
            newest[row] = close_ms
    return np.array(marks, np.bool_)


def _count(columns: Columns, done: Exported) -> None:
    closes = columns.close_time_ms
    if len(closes):
        done.candles += len(closes)
        done.first_close_ms = min(done.first_close_ms or int(closes.min()), int(closes.min()))
        done.last_close_ms = max(done.last_close_ms or 0, int(closes.max()))


async def _columns(settings: Settings, wanted: Wanted, table: SeriesTable) -> AsyncIterator[Columns]:
    """Candles of the span and others, partition by partition in the order of the log."""
    await check_topics(settings, "candles")
    async with started(new_reader(settings)) as reader:
        stretches = await _stretches(reader, topic_partitions(settings, "candles"), wanted)
        async for _, columns in candles(reader, stretches, table):
            yield columns


async def _stretches(
    reader: AIOKafkaConsumer, tps: list[TopicPartition], wanted: Wanted
) -> dict[TopicPartition, tuple[int, int]]:
    """From the first record that is stamped so late to the end: one stamped too late ends nothing, it may lie anywhere.

    A stamp is the close; a producer's own may be a little earlier, such as when the candle opens.
    """
    early_ms = max(0, wanted.since_ms - EARLY_BARS * timeframe_ms(wanted.timeframe))
    ends = await reader.end_offsets(tps)
    firsts = await reader.offsets_for_times(dict.fromkeys(tps, early_ms))
    return {tp: (ends[tp] if first is None else first.offset, ends[tp]) for tp, first in firsts.items()}


def say(done: Exported, as_json: bool) -> None:
    """Print what was exported."""
    text = f"{done.candles} candles of {len(done.series)} series in {done.file}"
    sys.stdout.write((json.dumps(vars(done)) if as_json else text) + "\n")
