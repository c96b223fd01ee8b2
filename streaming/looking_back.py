"""A look at `candles` from its end, farther and farther back, no farther than what is asked can lie.

Enters: from which close on something may still be missing, asked after each look. Leaves: what was seen. Does not know:
what it is asked for.

How far back that is, Kafka says: a record is stamped with its candle's close, so whatever closes at some time or later
lies at or behind the first record that is stamped so. Closes that were met say nothing of it: another series' history
is old by nature, wherever it lies. A record stamped later than its close, as by a producer that takes the time of
writing, only makes the look longer. One stamped before its close could be missed; no producer does that by default.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.candle_kernel import ORIGINS
from models.decode import Columns, Records
from models.events import Candle, Origin, decode_candle
from models.series import parse_key
from models.series_table import SeriesTable
from streaming.clients import COMMITTED, new_reader, started
from streaming.settings import Settings
from streaming.stretch import candles
from streaming.topics import require_topics, topic_partitions

FIRST_LOOK = 2_000
"""Records looked at from the end of each partition; twice as many each time they do not answer the question."""
NEVER_MS = 2**62
Offsets = dict[TopicPartition, int]


class Tail(NamedTuple):
    """The newest candle of a series."""

    close_time_ms: int  # UTC
    origin: Origin


class Recent:
    """The candles of some series in the `most` slots up to their newest, as the highest revision has them."""

    def __init__(self, keys: Collection[bytes] = (), most: int = 0) -> None:
        self._most = most
        self._of: dict[bytes, dict[int, Candle]] = {key: {} for key in keys}  # by close

    def of(self, key: bytes) -> list[Candle]:
        """Those of a series, in order of time."""
        return [candle for _, candle in sorted(self._of[key].items())][-self._most :]

    def begin_ms(self, key: bytes, tail: Tail | None) -> int:
        """The close of the oldest that may be among them; before the tail is known, any."""
        return 0 if tail is None else tail.close_time_ms - (self._most - 1) * parse_key(key).timeframe_ms

    def add(self, table: SeriesTable, newest: dict[bytes, Tail], batch: Records, columns: Columns) -> None:
        """Keep what is new enough of a batch."""
        begins = [self.begin_ms(key, newest.get(key)) if key in self._of else NEVER_MS for key in table.keys]
        wanted = np.flatnonzero(columns.close_time_ms >= np.array([*begins, NEVER_MS])[columns.row])
        places = np.searchsorted(batch.offsets, columns.offset[wanted])
        for row, place in zip(columns.row[wanted].tolist(), places.tolist(), strict=True):
            self._keep(self._of[table.keys[row]], decode_candle(batch.value(place) or b""))

    def _keep(self, recent: dict[int, Candle], candle: Candle) -> None:
        known = recent.get(candle.close_time_ms)
        if known is None or known.revision <= candle.revision:
            recent[candle.close_time_ms] = candle
        if len(recent) > 2 * self._most:
            for close in sorted(recent)[: -self._most]:
                del recent[close]


@dataclass
class Seen:
    """What lies between the end of the log and where has been looked; tails are first words, of revision 0.

    A correction alone shows no tail: it comes after bars that are newer than its own.
    """

    latest_ms: int = NEVER_MS  # what closes later counts as ahead of its time
    newest: dict[bytes, Tail] = field(default_factory=dict)  # by key
    ahead: dict[bytes, Tail] = field(default_factory=dict)  # likewise
    recent: Recent = field(default_factory=Recent)
    table: SeriesTable = field(default_factory=SeriesTable)

    def add(self, batch: Records, columns: Columns) -> None:
        """One batch more, in any order of batches."""
        words = columns.take(columns.revision == 0)
        ahead = words.close_time_ms > self.latest_ms
        self._note(self.newest, words.take(~ahead))
        self._note(self.ahead, words.take(ahead))
        self.recent.add(self.table, self.newest, batch, columns)

    def _note(self, newest: dict[bytes, Tail], words: Columns) -> None:
        order = np.lexsort((words.close_time_ms, words.row))
        last = order[np.flatnonzero(np.diff(words.row[order], append=-1))]  # of each row
        for at in last.tolist():
            key, tail = self.table.keys[words.row[at]], Tail(int(words.close_time_ms[at]), ORIGINS[words.origin[at]])
            if key not in newest or newest[key].close_time_ms < tail.close_time_ms:
                newest[key] = tail


async def look_back(settings: Settings, seen: Seen, since: Callable[[], int | None], to_end: str = COMMITTED) -> None:
    """Look until nothing is missing that closes at `since()` (UTC ms) or later, asked after each look; None: enough.

    Args:
        settings: which Kafka.
        seen: gets what is seen.
        since: from when on.
        to_end: UNCOMMITTED for who writes after what is seen: then what a transaction under way hides is waited for,
            since behind the burst of another shard may lie our own, acknowledged. COMMITTED waits for nobody.

    Raises:
        Stalled: Kafka gave nothing for a minute.
    """
    await require_topics(settings, "candles")
    tps = topic_partitions(settings, "candles")
    async with started(new_reader(settings, to_end)) as lookup, started(new_reader(settings)) as reader:
        begins, ends = await lookup.beginning_offsets(tps), await lookup.end_offsets(tps)
        upper, floors, look = ends, begins, FIRST_LOOK
        while any(upper[tp] > floors[tp] for tp in tps):
            lower = {tp: min(upper[tp], max(floors[tp], ends[tp] - look)) for tp in tps}
            async for batch, columns in candles(reader, {tp: (lower[tp], upper[tp]) for tp in tps}, seen.table):
                seen.add(batch, columns)
            since_ms = since()
            if since_ms is None:
                return
            upper, look = lower, look * 2
            floors = await _floors(lookup, begins, upper, since_ms)


async def _floors(lookup: AIOKafkaConsumer, begins: Offsets, upper: Offsets, since_ms: int) -> Offsets:
    """Before which offset of each partition nothing lies that closes so late."""
    if since_ms <= 0:
        return begins
    found = await lookup.offsets_for_times(dict.fromkeys(begins, since_ms))
    return {tp: upper[tp] if at is None else max(begins[tp], at.offset) for tp, at in found.items()}
