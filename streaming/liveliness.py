"""Tells a quiet market from a dead feed, and a feed that holds back one symbol from a symbol with nothing to tell.

Enters: how many frames came, what each series was told last, REST's newest rows. Leaves: what is wrong in words, and
series subscribed anew. Does not know: sockets.

Silence by itself says nothing: at night a small market has no trade for minutes. So when no frame came for a while REST
is asked for the newest bar of a few series: where it knows more than the feed told, the feed is dead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from models.kline import Kline
from models.series import Series
from streaming import metrics
from streaming.feed.errors import ExchangeError, ExchangeUnavailable
from streaming.feed.tally import FeedStatus
from streaming.repairs import Asks
from streaming.sequences import Entry, Sequences
from streaming.settings import Settings

logger = logging.getLogger(__name__)

PROBED = 3
"""Series asked for, those that spoke last."""
PROBE_S = 5.0
"""Between probes."""


class Feeds(Protocol):
    """Who brings the frames."""

    def status(self) -> FeedStatus:
        """How it is; neither sockets nor refusals: REST alone is polled."""

    def resubscribe(self, series: Series) -> None:
        """Hear a series through a fresh subscription."""


class Liveliness:
    """Of one process; `look` once a second."""

    def __init__(
        self, settings: Settings, sequences: Sequences, rest: Asks, feed: Feeds, now_ms: Callable[[], int]
    ) -> None:
        self._dead_s = settings.ingest.dead_s
        self._sequences = sequences
        self._rest = rest
        self._feed = feed
        self._now_ms = now_ms
        self._heard = 0
        self._heard_at = self._probed_at = time.monotonic()
        self._silence: str | None = None  # why the silence is no quiet market
        self._dead = False
        self._refused = 0  # series that the exchange does not send

    def ailment(self) -> str | None:
        """What is wrong just now."""
        if self._dead:
            return f"the feed is dead: no frame for {self._age_s():.0f} s; {self._silence}"
        if beside := self._sequences.ailment():
            return beside
        behind = self._sequences.behind(bars=5)
        if behind > len(self._sequences) / 2:
            return f"{behind} of {len(self._sequences)} series are more than 5 bars behind"
        if self._refused:
            return (
                f"the exchange refuses {self._refused} of {len(self._sequences)} series on its websocket, REST brings "
                "them on later; they are asked for again, and the log has its reason"
            )
        return None

    async def look(self) -> None:
        """See how things are, and act."""
        if self._sequences.heard != self._heard:
            self._heard, self._heard_at, self._silence = self._sequences.heard, time.monotonic(), None
        age_s = self._age_s()
        metrics.frame_age.set(age_s)
        status = self._feed.status()
        self._refused = status.refused
        if not (status.sockets or status.refused) or not len(self._sequences):
            self._say(dead=False)
            return
        if age_s > self._dead_s / 2 and time.monotonic() - self._probed_at > PROBE_S:
            self._probed_at = time.monotonic()
            self._silence = await self._probe() if status.alive else f"no websocket is connected: {status.last_error}"
        self._say(dead=age_s > self._dead_s and self._silence is not None)
        if not self._dead and age_s < self._dead_s / 2:
            self._find_silent()

    def _age_s(self) -> float:
        return time.monotonic() - self._heard_at

    def _say(self, dead: bool) -> None:
        metrics.feed_alive.set(not dead)
        if dead and not self._dead:
            logger.error("feed is dead age_s=%.0f why=%s", self._age_s(), self._silence)
        elif self._dead and not dead:
            logger.info("feed is alive again")
        self._dead = dead

    async def _probe(self) -> str | None:
        """Why this silence is no quiet market; None: it is one."""
        entries = sorted(self._sequences, key=lambda entry: -entry.told_at_ms)[:PROBED]
        try:
            for entry in entries:
                rows = await self._rest.klines(entry.series.symbol, entry.series.timeframe, limit=2, within_s=PROBE_S)
                if knows_more(rows, entry.last):
                    return f"REST has newer bars of {entry.series.symbol} than the feed told"
        except (ExchangeUnavailable, ExchangeError) as error:
            return f"nor does REST answer: {error}"
        return None

    def _find_silent(self) -> None:
        """Series that only REST brings on while others are told: hear them through a fresh subscription."""
        now_ms = self._now_ms()
        for entry in self._sequences:
            repaired = entry.sequencer.counts.repaired
            if not is_overtaken(entry):
                entry.repaired_before = repaired
                entry.resubscriptions = 0
            elif repaired > entry.repaired_before and now_ms >= entry.resubscribe_at_ms:
                entry.repaired_before = repaired
                entry.resubscriptions += 1
                wait_bars = min(2**entry.resubscriptions, 60)
                entry.resubscribe_at_ms = now_ms + wait_bars * entry.series.timeframe_ms
                metrics.silent_series.inc()
                logger.warning("feed is silent for one, subscribing anew series=%s", entry.series.key.decode())
                self._feed.resubscribe(entry.series)


def is_overtaken(entry: Entry) -> bool:
    """Whether a whole bar was published of which the feed said nothing."""
    told_ms = entry.last.open_time_ms if entry.last else 0
    return told_ms < entry.sequencer.mark_ms - entry.series.timeframe_ms


def knows_more(rows: Sequence[Kline], told: Kline | None) -> bool:
    """Whether REST's newest rows go beyond what the feed told last."""
    if told is None:
        return bool(rows)
    return any((row.open_time_ms, row.volume) > (told.open_time_ms, told.volume) for row in rows)
