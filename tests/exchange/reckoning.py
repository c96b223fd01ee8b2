"""Holds the topic `candles` against the simulated exchange's truth.

Enters: records as a reader of committed ones sees them, and truths. Leaves: what is lost, doubled, out of order or
wrong, series by series. Does not know: how the candles got there.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

from models.events import Candle, decode_candle
from streaming.clients import new_reader, started
from streaming.settings import Settings
from streaming.topics import topic_partitions
from tests.exchange.client import Truth


class Reckoning(NamedTuple):
    """What speaks against a ledger; all empty is flawless."""

    lost: list[str]
    doubled: list[str]
    out_of_order: list[str]
    wrong: list[str]
    compared: int

    @property
    def flaws(self) -> list[str]:
        """All of them, with their kind."""
        kinds = zip(self._fields[:4], self[:4], strict=True)
        return [f"{kind}: {flaw}" for kind, flaws in kinds for flaw in flaws]


class Ledger:
    """The topic as it grows, read in a thread of its own without a group."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._firsts: dict[str, list[Candle]] = defaultdict(list)  # by key, revision 0 in the order of the log
        self._revised: dict[tuple[str, int], Candle] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow()), name="ledger")
        self._failure: BaseException | None = None

    def __enter__(self) -> Ledger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    async def _follow(self) -> None:
        try:
            async with started(new_reader(self._settings)) as reader:
                tps = topic_partitions(self._settings, "candles")
                reader.assign(tps)
                await reader.seek_to_beginning(*tps)
                while not self._stop.is_set():
                    for records in (await reader.getmany(timeout_ms=100)).values():
                        with self._lock:
                            for record in records:
                                self._take(record.key.decode(), decode_candle(record.value))
        except BaseException as error:
            self._failure = error
            raise

    def _take(self, key: str, candle: Candle) -> None:
        if not candle.revision:
            self._firsts[key].append(candle)
            return
        at = (key, candle.open_time_ms)
        if at not in self._revised or self._revised[at].revision < candle.revision:
            self._revised[at] = candle

    def marks(self) -> dict[str, int]:
        """Key to the close of its newest candle."""
        with self._lock:
            assert self._failure is None, self._failure
            return {key: candles[-1].close_time_ms for key, candles in self._firsts.items()}

    def origins(self, since_ms: int) -> dict[str, int]:
        """How many candles that open since then came which way."""
        counts: dict[str, int] = defaultdict(int)
        with self._lock:
            for candles in self._firsts.values():
                for candle in candles:
                    counts[candle.origin] += candle.open_time_ms >= since_ms
        return dict(counts)

    def since(self, key: str, from_ms: int) -> list[Candle]:
        """First words on one series' bars that open since then."""
        with self._lock:
            return [candle for candle in self._firsts.get(key, []) if candle.open_time_ms >= from_ms]

    def reckon(self, key: str, truth: Truth, from_ms: int, until_ms: int, step_ms: int) -> Reckoning:
        """One series over the bars that open from the one time to before the other."""
        with self._lock:
            firsts = list(self._firsts.get(key, []))
            revised = {at: candle for (of, at), candle in self._revised.items() if of == key}
        opens = [candle.open_time_ms for candle in firsts]
        seen = {candle.open_time_ms: candle for candle in reversed(firsts)}
        slots = range(-(-from_ms // step_ms) * step_ms, until_ms, step_ms)
        lost = [f"{key} {at}" for at in slots if at not in seen]
        doubled = (
            [f"{key} {at}" for at in sorted({at for at in opens if opens.count(at) > 1})]
            if len(seen) < len(opens)
            else []
        )
        disorder = [f"{key} {now} after {before}" for before, now in pairwise(opens) if now != before + step_ms]
        rows = {row[0]: [row] for row in truth.rows}
        for row in truth.revised:
            rows.setdefault(row[0], []).append(row)
        wrong = []
        for at in slots:
            if at in seen:
                newest = revised.get(at, seen[at])
                true: list[tuple[float | None, ...]] = [row[1:] for row in rows.get(at, [])]
                for candle in (seen[at], newest):
                    if _numbers(candle) not in (true or [(None,) * 5]):
                        wrong.append(f"{key} {at} said {_numbers(candle)} truth {true} origin {candle.origin}")
        return Reckoning(lost, doubled, disorder, wrong, len(slots))


def _numbers(candle: Candle) -> tuple[float | None, ...]:
    return (candle.open, candle.high, candle.low, candle.close, candle.volume)
