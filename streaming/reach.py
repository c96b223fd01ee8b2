"""Waits until the candles of a timeframe got to a close.

Enters: a timeframe and a close. Leaves: the moment when every live series has it. Does not know: who waits, or why.

Asking Kafka for the first record of that time costs next to nothing, so that is asked again and again; only when
there is one are the last records of each partition read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from models.errors import CandlewickError
from models.jobs import at, patience_ms
from streaming.clients import new_reader, started
from streaming.looking_back import Tail
from streaming.settings import Settings
from streaming.tail import LIVE_BARS, recent_closes
from streaming.topics import topic_partitions


class NeverReached(CandlewickError):  # noqa: N818 - an outcome, named as one
    """Candles did not come so far in all the time there was."""


async def reach(settings: Settings, timeframe_ms: int, close_ms: int) -> None:
    """Wait until every live series has a candle at a close (UTC ms) or after it.

    Series that lag are waited for `quiet_s` after the first one passed; those that are no longer live, not at all.

    Raises:
        NeverReached: that was not so within `patience_days` of now, or of the close where that is still to come.
    """
    began, first_passed = time.monotonic(), None
    days_ms = int(settings.train.patience_days * 86_400_000)
    patience_s = patience_ms(close_ms, time.time_ns() // 1_000_000, days_ms) / 1000
    tps = topic_partitions(settings, "candles")
    async with started(new_reader(settings)) as lookup:
        while time.monotonic() - began < patience_s:
            found = await lookup.offsets_for_times(dict.fromkeys(tps, close_ms))
            if any(found.values()):
                newest = (await recent_closes(settings, timeframe_ms)).values()
                if _all_passed(newest, timeframe_ms, close_ms):
                    return
                if any(tail.close_time_ms >= close_ms for tail in newest):
                    first_passed = first_passed or time.monotonic()
                    if time.monotonic() - first_passed > settings.train.quiet_s:
                        return
            await asyncio.sleep(settings.train.poll_s)
    raise NeverReached(
        f"candles did not get to {at(close_ms)} within {settings.train.patience_days:g} days of when they were due; "
        "ask again once they flow (CANDLEWICK_TRAIN__PATIENCE_DAYS)"
    )


def _all_passed(newest: Iterable[Tail], timeframe_ms: int, close_ms: int) -> bool:
    closes = [tail.close_time_ms for tail in newest]
    live = [close for close in closes if close >= max(closes) - LIVE_BARS * timeframe_ms]
    return bool(live) and min(live) >= close_ms
