"""`candlewick archive`: candles of the topic into a dataset, each once, the last word on each.

Enters: `candles`. Leaves: parts of a dataset; a commit that others can see, which decides nothing.
Does not know: exchanges, training.

How far it is stands in the dataset itself (`streaming.history.spool`). Positions are the consumer's own: ends of
transactions take offsets without being records. Candles that were replayed from files or made up are not an exchange's
word; they stay out unless asked for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from numpy.typing import NDArray

from models.candle_kernel import ORIGINS
from models.decode import Columns, decode_batch
from models.errors import CandlewickError
from models.folder_lock import alone
from models.parquet_writing import make_dataset
from models.places import Place, place
from models.series_table import SeriesTable
from models.whole_file import told
from streaming import health, metrics
from streaming.clients import new_member, started
from streaming.history.records import OWN_ORIGINS, batch_of, can_be_named, rows_of
from streaming.history.spool import ARCHIVE, Spool, Spooled
from streaming.history.witness import Witness, recognise
from streaming.settings import Settings
from streaming.topics import check_topics, topic_partitions

logger = logging.getLogger(__name__)

REPLAYED = "+replayed"
"""Whether replayed candles were asked for is remembered by the name; no topic has a plus in its own."""
BATCH_RECORDS = 20_000
POLL_MS = 500
SESSION_TIMEOUT_S = 10.0
STALL_S = 60.0
COMMIT_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class ArchiveOptions:
    """Where to, and how often."""

    out: Place | str
    once: bool = False  # up to the present end of the topic, then leave
    with_replayed: bool = False  # also what was replayed or injected
    flush_rows: int = 50_000  # candles in memory
    flush_s: float = 60.0
    merge_rows: int = 500_000  # candles in files by offset
    merge_s: float = 900.0
    stall_s: float = STALL_S  # with `once`: without any progress


@dataclass
class Archived:
    """What was done by this run."""

    candles: int = 0  # kept; one that is read again after a kill counts again
    left_out: Counter[str] = field(default_factory=Counter)  # by reason


async def run_archive(settings: Settings, options: ArchiveOptions, as_json: bool) -> None:
    """What the command line calls: archive until the end, or until cancelled.

    Raises:
        CandlewickError: the dataset is no fit place, another archiver is at it, the topic is not the one it knows, or
            the port for metrics is taken.
    """
    dataset = place(options.out)
    await check_topics(settings, "candles")
    await asyncio.to_thread(make_dataset, dataset)
    with told(dataset):
        (dataset / ARCHIVE).mkdir(parents=True, exist_ok=True)
        with alone(dataset / ARCHIVE, within_s=0.0):
            await _archive(settings, options, dataset, as_json)


async def _archive(settings: Settings, options: ArchiveOptions, dataset: Place, as_json: bool) -> None:
    topic = settings.topic("candles") + (REPLAYED if options.with_replayed else "")
    spool = await asyncio.to_thread(Spool, dataset, topic)
    async with started(new_member(settings, settings.group("archive"), SESSION_TIMEOUT_S)) as consumer:
        archiver = Archiver(consumer, spool, options)
        await archiver.begin(topic_partitions(settings, "candles"))
        if not options.once:
            health.serve(settings.metrics_port, {"archive": archiver.ailment})
            _say({"ready": ["archive"]}, True, "")
            await archiver.run()
        await archiver.run_to_end()
        done = archiver.done
        report = {"out": str(dataset), "candles": done.candles, "left_out": dict(done.left_out)}
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in done.left_out.items()) or "nothing"
        _say(report, as_json, f"{done.candles:,} candles archived in {dataset}; left out: {left_out}")


def _say(what: dict[str, Any], as_json: bool, text: str) -> None:
    sys.stdout.write((json.dumps(what) if as_json else text) + "\n")
    sys.stdout.flush()


class Archiver:
    """Reads on from where the dataset is; writes files by offset often, and parts seldom."""

    def __init__(self, consumer: AIOKafkaConsumer, spool: Spool, options: ArchiveOptions) -> None:
        self._consumer = consumer
        self._spool = spool
        self._options = options
        self._table = SeriesTable()
        self._waiting: dict[int, list[Columns]] = {}  # by partition; wanted, in no file yet
        self._read: dict[int, Witness] = {}  # by partition; the last record that was read
        self._tps: list[TopicPartition] = []
        self._flushed_s = self._merged_s = self._moved_s = time.monotonic()
        self._lag = 0  # records
        self._ending = False
        self.done = Archived()

    def ailment(self) -> str | None:
        """What is wrong just now."""
        stands_s = time.monotonic() - self._moved_s
        if not self._lag or stands_s < self._options.stall_s:
            return None
        return f"nothing was read for {stands_s:.0f} s, {self._lag} records behind the topic's end; is Kafka up?"

    async def begin(self, tps: list[TopicPartition]) -> None:
        """Take all partitions, each from where the dataset is.

        Raises:
            CandlewickError: a partition is not the one that the dataset was filled from.
        """
        self._tps = tps
        self._consumer.assign(tps)
        begins, ends = await self._consumer.beginning_offsets(tps), await self._consumer.end_offsets(tps)
        for tp in tps:
            position = self._spool.position(tp.partition)
            await self._recognise(tp, begins[tp], ends[tp])
            if position < begins[tp] and (position or begins[tp]):
                logger.warning(
                    "records deleted before they were archived at=%s[%d] from=%d to=%d", *tp, position, begins[tp]
                )
            self._consumer.seek(tp, max(position, begins[tp]))

    async def _recognise(self, tp: TopicPartition, begin: int, end: int) -> None:
        """Hold what was read before against what the topic has there now."""
        witness = await asyncio.to_thread(self._spool.witness, tp.partition)
        if witness and await recognise(self._consumer, tp, witness, (begin, end)) is False:
            raise CandlewickError(
                f"{tp.topic}[{tp.partition}] is not the topic that this dataset was filled from: its record "
                f"{witness.offset} is another one, or gone. Archive it into another folder, or remove the folder "
                f"{ARCHIVE} of the dataset: then all of it is read, and what is there already stays once"
            )

    async def run(self) -> None:
        """Archive until cancelled; what was read by then is put into the parts."""
        archiving = asyncio.ensure_future(self._archive())
        try:
            await asyncio.shield(archiving)
        finally:  # never in the middle of a step, whose files a thread may be writing
            self._ending = True
            await archiving

    async def _archive(self) -> None:
        while not self._ending:
            await self._step()
            await self._write_what_is_due()
            await self._measure()
        await self._flush()
        await self._merge()

    async def _measure(self) -> None:
        """How far behind the topic's end this is; transactions under way lie beyond that."""
        ends = {tp: self._consumer.last_stable_offset(tp) or 0 for tp in self._tps}
        lag = sum([max(0, ends[tp] - await self._consumer.position(tp)) for tp in self._tps])
        if not lag or lag != self._lag:
            self._moved_s = time.monotonic()
        self._lag = lag
        metrics.archive_lag.set(lag)

    async def run_to_end(self) -> None:
        """Archive up to what is the end now.

        Raises:
            CandlewickError: it cannot be reached.
        """
        left = dict(await self._consumer.end_offsets(self._tps))
        moved_s, stood = time.monotonic(), dict[TopicPartition, int]()
        while left:
            await self._step()
            await self._write_what_is_due()
            at = {tp: await self._consumer.position(tp) for tp in self._tps}
            left = {tp: end for tp, end in left.items() if at[tp] < end}
            if at != stood:
                moved_s, stood = time.monotonic(), at
            elif left and time.monotonic() - moved_s > self._options.stall_s:
                stuck = ", ".join(f"{tp.topic}[{tp.partition}]@{at[tp]} of {end}" for tp, end in left.items())
                raise CandlewickError(f"no progress for {self._options.stall_s:g} s at {stuck}; is Kafka up?")
        await self._flush()
        await self._merge()

    async def _step(self) -> None:
        """Take what has come, and keep what is wanted of it."""
        for tp, records in (await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH_RECORDS)).items():
            self._read[tp.partition] = Witness.of(records[-1].offset, records[-1].value)
            columns, rejects = decode_batch(self._table, batch_of(tp.partition, records))
            self._leave_out({"invalid": len(rejects)} if rejects else {})
            wanted = columns.take(self._wanted(columns))
            self.done.candles += len(wanted.row)
            metrics.archived_candles.inc(len(wanted.row))
            if len(wanted.row):
                self._waiting.setdefault(tp.partition, []).append(wanted)

    def _wanted(self, columns: Columns) -> NDArray[np.bool_]:
        """`(n,)`: candles of an exchange's own word; what is left out is counted by its reason."""
        named = np.array([can_be_named(series.symbol) for series in self._table.series] or [True], np.bool_)
        reason = np.array(ORIGINS, np.object_)[columns.origin]
        reason[np.isin(columns.origin, OWN_ORIGINS) | self._options.with_replayed] = ""
        if len(reason):
            reason[~named[columns.row]] = "of a symbol that no file can name"
        reason[columns.absent] = "absent"
        self._leave_out(Counter(word for word in reason.tolist() if word))
        return np.asarray(reason == "", np.bool_)

    def _leave_out(self, reasons: Mapping[str, int]) -> None:
        self.done.left_out.update(reasons)
        for reason, count in reasons.items():
            metrics.archive_left_out.labels(reason).inc(count)

    async def _write_what_is_due(self) -> None:
        now_s, rows = time.monotonic(), sum(len(own.row) for each in self._waiting.values() for own in each)
        if rows >= self._options.flush_rows or now_s - self._flushed_s >= self._options.flush_s:
            await self._flush()
        if self._spool.rows >= self._options.merge_rows or now_s - self._merged_s >= self._options.merge_s:
            await self._flush()
            await self._merge()

    async def _flush(self) -> None:
        """What is in memory, into files by offset; only then Kafka hears of it."""
        for tp in self._tps:
            waiting = self._waiting.pop(tp.partition, [])
            if waiting:
                position, witness = await self._consumer.position(tp), self._read.get(tp.partition)
                spooled = _spooled(self._table, waiting)
                await asyncio.to_thread(self._spool.add, tp.partition, position, spooled, witness)
        self._flushed_s = time.monotonic()
        await self._commit()

    async def _merge(self) -> None:
        """From files by offset into the parts."""
        reached = {tp.partition: (await self._consumer.position(tp), self._read.get(tp.partition)) for tp in self._tps}
        merged = await asyncio.to_thread(self._spool.merge, reached)
        self._merged_s = time.monotonic()
        metrics.archive_merged.inc(merged)
        await self._commit()
        logger.info("merged candles=%d", merged)

    async def _commit(self) -> None:
        """For people and their tools; the dataset knows better."""
        positions = {tp: self._spool.position(tp.partition) for tp in self._tps}
        offsets = {tp: OffsetAndMetadata(at, "") for tp, at in positions.items() if at}
        if not offsets:
            return
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            logger.info("not committed error=%r", error)


def _spooled(table: SeriesTable, waiting: list[Columns]) -> Spooled:
    row = np.concatenate([own.row for own in waiting])
    known, series_of = np.unique(row, return_inverse=True)
    series = [table.series[i] for i in known.tolist()]
    return Spooled(series, series_of.astype(np.int32), rows_of(waiting, table.timeframe_ms))
