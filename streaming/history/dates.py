"""Times as people write them.

Enters: an ISO date or UTC milliseconds. Leaves: UTC milliseconds, or the reverse. Does not know: any clock.
"""

from __future__ import annotations

from datetime import UTC, datetime

from models.candle_rows import FAR_MS
from models.errors import CandlewickError

_LEAST_MS = 100_000_000_000  # March 1973; a smaller number is a date without dashes, or seconds


def parse_time(text: str, option: str) -> int:
    """`2024-01-01`, `2024-01-01T12:00+02:00` or `1704067200000` in UTC milliseconds; without a zone it is UTC.

    Raises:
        CandlewickError: it is neither; the message names the option.
    """
    if text.isdecimal() and len(text) > 8:
        time_ms = int(text)
        if not _LEAST_MS <= time_ms < FAR_MS:
            raise CandlewickError(f"{option} {text} must be in milliseconds, like 1704067200000, or a date")
        return time_ms
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise CandlewickError(
            f"{option} {text!r} is no time; write a date like 2024-01-01, 2024-01-01T12:00, or UTC milliseconds"
        ) from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1_000)


def in_words(time_ms: int | None) -> str:
    """Like `2024-01-01 12:00 UTC`, with seconds where there are some."""
    if time_ms is None:
        return "never"
    time = datetime.fromtimestamp(time_ms / 1_000, UTC)
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time.second else f"{time:%Y-%m-%d %H:%M} UTC"
