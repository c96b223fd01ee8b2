"""A dataset and the tail of the topic as one table: no candle twice, none left out that either has.

Enters: a dataset or candle files, the topic. Leaves: rows of series, or a file of the topic's part to be read beside
the dataset. Does not know: training.

Of one time the higher revision stands, and of equal ones the dataset's.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.candle_dataset import is_dataset, newest_open, oldest_open, read_series
from models.candle_files import candle_paths
from models.decode import Columns
from models.errors import CandlewickError, InvalidMessage
from models.parquet_files import folder_keys
from models.parquet_writing import Columns as FileColumns
from models.parquet_writing import write_file
from models.places import Place, place
from models.series import Series, timeframe_ms
from models.series_rows import SeriesRows
from models.series_table import SeriesTable
from streaming.clients import new_reader, started
from streaming.history.dates import in_words
from streaming.history.records import OWN_ORIGINS, by_series, can_be_named
from streaming.history.spool import Spool
from streaming.history.witness import recognise
from streaming.settings import Settings
from streaming.stretch import Stretches, candles
from streaming.topics import check_topics, topic_partitions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tail:
    """Which candles of the topic."""

    exchange: str
    timeframe: str
    with_replayed: bool = False  # also what was replayed or injected, which is no exchange's own word


@contextmanager
def with_topic(
    settings: Settings,
    paths: Sequence[Place],
    exchange: str,
    timeframe: str | None,
    with_replayed: bool = False,
) -> Iterator[tuple[Place, ...]]:
    """The paths, and after them a file of the topic's candles for as long as the block lasts.

    What an archive in one of the datasets already has of this very topic is not read again.

    Raises:
        CandlewickError: the timeframe is not known, or Kafka cannot be reached.
    """
    places = tuple(map(place, paths))
    tail = Tail(exchange, timeframe or _named_timeframe(places), with_replayed)
    with tempfile.TemporaryDirectory(prefix="candlewick-topic-") as folder:
        file = Path(folder) / "topic.parquet"
        rows = asyncio.run(topic_rows(settings, tail, places))
        if not rows:
            logger.warning("the topic holds no candle of %s %s beyond the files", exchange, tail.timeframe)
            yield places
            return
        _tell_gaps(places, rows)
        write_rows(file, rows)
        yield (*places, file)


def write_rows(file: Path, rows: Mapping[Series, SeriesRows]) -> None:
    """Candles of some series as one file, their revisions told.

    Raises:
        OSError: it cannot be written.
    """
    series = sorted(rows)
    symbol_of = np.repeat(np.arange(len(series), dtype=np.int32), [len(rows[own].open_time_ms) for own in series])
    time, ohlcv, revision = zip(*(rows[own] for own in series), strict=True)
    columns = np.concatenate(time), np.concatenate(ohlcv, axis=1), np.concatenate(revision)
    write_file(file, FileColumns([own.symbol for own in series], symbol_of, *columns), revised=True)


def _named_timeframe(places: Sequence[Place]) -> str:
    """The one that the folders name.

    Raises:
        CandlewickError: they name none, or several.
    """
    named = {folder_keys(path).get("timeframe") for path in candle_paths(places)}
    try:
        (timeframe,) = named
        timeframe_ms(timeframe or "")
    except (ValueError, InvalidMessage):
        raise CandlewickError("with the topic, --timeframe must be named: the folders do not name just one") from None
    return str(timeframe)


async def topic_rows(settings: Settings, tail: Tail, places: Sequence[Place]) -> dict[Series, SeriesRows]:
    """The candles of the topic that no archive among these places has, each time once, in order.

    Raises:
        CandlewickError: Kafka cannot be reached, or lacks the topic.
    """
    await check_topics(settings, "candles")
    tps = topic_partitions(settings, "candles")
    async with started(new_reader(settings)) as reader:
        reader.assign(tps)
        begins, ends = await reader.beginning_offsets(tps), await reader.end_offsets(tps)
        firsts = dict(begins)
        if not tail.with_replayed:  # an archive does not have those
            firsts |= await _archived(settings, reader, places, (begins, ends))
        columns, table = await _read(reader, {tp: (firsts[tp], ends[tp]) for tp in tps}, tail)
    return by_series(columns, table)


async def _archived(
    settings: Settings,
    reader: AIOKafkaConsumer,
    places: Sequence[Place],
    bounds: tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]],
) -> dict[TopicPartition, int]:
    """How far the parts of a dataset have this very topic; the farthest, if there are several."""
    begins, ends = bounds
    found: dict[TopicPartition, int] = {}
    for folder in places:
        if not await asyncio.to_thread(is_dataset, folder):
            continue
        spool = await asyncio.to_thread(Spool, folder, settings.topic("candles"))
        for tp in begins:
            merged, witness = await asyncio.to_thread(spool.merged, tp.partition)
            if witness is None or not begins[tp] < merged <= ends[tp]:
                continue
            if await recognise(reader, tp, witness, (begins[tp], ends[tp])):
                found[tp] = max(found.get(tp, 0), merged)
    return found


async def _read(reader: AIOKafkaConsumer, stretches: Stretches, tail: Tail) -> tuple[list[Columns], SeriesTable]:
    """What is wanted of the partitions."""
    table, found = SeriesTable(), list[Columns]()
    async for _, columns in candles(reader, stretches, table):
        mine = np.array([_is_wanted(series, tail) for series in table.series] or [False], np.bool_)
        own = np.isin(columns.origin, OWN_ORIGINS) | tail.with_replayed
        found.append(columns.take(mine[columns.row] & own & ~columns.absent))
    return found, table


def _is_wanted(series: Series, tail: Tail) -> bool:
    same_length = series.timeframe_ms == timeframe_ms(tail.timeframe)
    return series.exchange == tail.exchange and same_length and can_be_named(series.symbol)


def _tell_gaps(places: Sequence[Place], rows: Mapping[Series, SeriesRows]) -> None:
    """Warn of bars between the end of a dataset and the beginning of the topic, which nobody has."""
    for folder in places:
        if not is_dataset(folder):
            continue
        for series, own in sorted(rows.items()):
            newest_ms = newest_open(folder, series)
            missing = (int(own.open_time_ms[0]) - newest_ms) // series.timeframe_ms - 1 if newest_ms else 0
            if newest_ms and missing > 0:
                logger.warning(
                    "neither dataset nor topic has bars series=%s bars=%d since=%s; `candlewick backfill` gets them",
                    series.key.decode(), missing, in_words(newest_ms + series.timeframe_ms),
                )  # fmt: skip


def dataset_rows(folder: Place, series: Series, since_ms: int, until_ms: int) -> SeriesRows:
    """The candles of a dataset that close at `since_ms <= close <= until_ms` (UTC).

    Raises:
        CandlewickError: it is not there, or a part cannot be read.
    """
    _require_dataset(folder)
    return read_series(folder, series, since_ms - series.timeframe_ms, until_ms - series.timeframe_ms)


def oldest_close_in(folder: Place, series: Collection[Series]) -> int | None:
    """The oldest close (UTC ms) that a dataset has of some series; None: it has none of them.

    Raises:
        CandlewickError: it is not there, or a part cannot be read.
    """
    _require_dataset(folder)
    opens = ((own, oldest_open(folder, own)) for own in series)
    return min((first + own.timeframe_ms for own, first in opens if first is not None), default=None)


def _require_dataset(folder: Place) -> None:
    if not is_dataset(folder):
        raise CandlewickError(f"{folder} is no dataset; `candlewick backfill` and `candlewick archive` make one")
