"""Binance's limit on requests: weight by the minute of the exchange's clock, 429 beyond it, 418 for who goes on.

Enters: weights of requests. Leaves: a verdict each. Does not know: HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PATIENCE = 10
"""Requests beyond the limit before a ban. Ours: Binance does not tell its own number."""


class Verdict(NamedTuple):
    """On one request."""

    status: int  # 200, 429 or 418
    used: int  # weight of this minute, as the header says it
    retry_after_s: int


@dataclass
class Weights:
    """One address's account."""

    limit: int
    ban_ms: int
    minute: int = -1
    used: int = 0
    over: int = 0
    banned_until_ms: int = 0

    def spend(self, weight: int, now_ms: int) -> Verdict:
        """Count a request."""
        if now_ms < self.banned_until_ms:
            return Verdict(418, self.used, -(-(self.banned_until_ms - now_ms) // 1_000))
        if now_ms // 60_000 != self.minute:
            self.minute, self.used, self.over = now_ms // 60_000, 0, 0
        self.used += weight
        if self.used <= self.limit:
            return Verdict(200, self.used, 0)
        self.over += 1
        if self.over > PATIENCE:
            self.banned_until_ms = now_ms + self.ban_ms
            return Verdict(418, self.used, -(-self.ban_ms // 1_000))
        return Verdict(429, self.used, -(-((self.minute + 1) * 60_000 - now_ms) // 1_000))
