"""The exchange's own clock, told from a monotonic one: what is closed and settled goes by it, never by our wall clock.

Enters: the exchange's answers to what time it is, with the monotonic times around them, and times of events in frames.
Leaves: its time now, and by how much that may be off. Does not know: any clock; monotonic seconds are arguments.

An answer was made somewhere between sending and receiving, so its midpoint is off by half the round trip at most. Of
the last answers that agree the one with the shortest round trip is believed. A single answer that contradicts it is
only noted; when three in a row contradict it and agree with one another, the exchange's clock has jumped. A frame
can only lag behind its event, so it bounds the clock from below.

An estimate runs on at our pace, and is wrong while the exchange's clock runs at another. Whether a row is final goes by
`stated_ms` therefore, the exchange's last word alone.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

ANSWERS = 5
"""Agreeing answers remembered."""
REBELS = 3
"""Contradicting answers in a row that move the clock; one wild answer, or two, never do."""
CLAIMS = 8
"""Frames in a row with event times that cannot be true by the answers, and they are believed all the same."""
SERVERS_APART_MS = 50.0
"""The servers of one exchange may differ by so much without contradicting each other."""
DRIFT = 2e-4
"""Monotonic clocks differ by less: quartz by 100 ppm, and those of two machines may err in opposite directions."""


class _Answer(NamedTuple):
    """One statement of the offset from monotonic to exchange milliseconds."""

    offset_ms: float
    error_ms: float
    received_at_s: float

    def agrees(self, other: _Answer) -> bool:
        """Whether both can be true of one clock."""
        aged_ms = DRIFT * 1_000 * abs(self.received_at_s - other.received_at_s)
        return abs(self.offset_ms - other.offset_ms) <= self.error_ms + other.error_ms + aged_ms + SERVERS_APART_MS


class ExchangeClock:
    """Follows the clock of one exchange.

    Once three answers were heard after its last jump, and while an answer is heard at least every so often,
    `now_ms` is off by at most `error_ms`, plus `SERVERS_APART_MS` where its servers differ.
    """

    __slots__ = ("_answers", "_claims", "_floor_ms", "_latest_ms", "_offset_ms", "_rebels", "_stated_ms", "_top_ms")

    def __init__(self) -> None:
        self._answers: deque[_Answer] = deque(maxlen=ANSWERS)  # they agree with one another
        self._rebels: list[_Answer] = []  # they too, but not with the answers; fewer than REBELS
        self._claims: list[float] = []  # offsets that frames in a row claim at least; fewer than CLAIMS
        self._floor_ms = -math.inf  # the least that the offset can be, by frames
        self._offset_ms, self._top_ms = -math.inf, math.inf  # what is told, and the most that it may be
        self._latest_ms = -math.inf  # told last
        self._stated_ms = 0

    @property
    def known(self) -> bool:
        """Whether the exchange has been heard at all."""
        return self._offset_ms > -math.inf

    @property
    def in_doubt(self) -> bool:
        """Whether the newest word contradicts the time that is told: better ask again soon."""
        return bool(self._rebels or self._claims) or not self._answers

    def hear(self, server_ms: int, sent_at_s: float, received_at_s: float) -> None:
        """Take the exchange's answer to what time it is.

        Raises:
            ValueError: it was received before it was sent.
        """
        if received_at_s < sent_at_s:
            raise ValueError(f"answer received at {received_at_s} s, sent at {sent_at_s} s")
        self._stated_ms = server_ms
        half_ms = (received_at_s - sent_at_s) * 500
        answer = _Answer(server_ms + 0.5 - sent_at_s * 1_000 - half_ms, half_ms + 0.5, received_at_s)
        if self._contradicts(answer):
            self._rebel(answer)
            return
        self._rebels.clear()
        self._answers.append(answer)
        self._floor_ms = min(self._floor_ms, answer.offset_ms + answer.error_ms)
        self._settle()

    def at_least(self, event_ms: int, received_at_s: float) -> None:
        """Take the time of an event that a frame told of: the exchange's clock is not behind it."""
        self._stated_ms = event_ms
        claim_ms = event_ms - received_at_s * 1_000
        if claim_ms <= self._offset_ms:  # nearly always
            if self._claims:
                self._claims.clear()
        elif not self._answers or claim_ms > self._top_ms + SERVERS_APART_MS:
            self._claim(claim_ms)
        elif claim_ms <= self._top_ms:
            self._floor_ms = claim_ms
            self._settle()

    def now_ms(self, monotonic_s: float) -> int:
        """The exchange's time, UTC milliseconds; never less than told before unless its clock was set back.

        Raises:
            ValueError: nothing was heard of the exchange yet.
        """
        told_ms = monotonic_s * 1_000 + self._offset_ms
        if told_ms > self._latest_ms:
            self._latest_ms = told_ms
        elif not self.known:
            raise ValueError("the exchange's time is not known before one answer or several frames were heard")
        return int(self._latest_ms)

    def stated_ms(self, monotonic_s: float) -> int:
        """What the exchange itself said last, UTC milliseconds, but no more than `now_ms`: one wild word does no harm.

        Raises:
            ValueError: nothing was heard of the exchange yet.
        """
        return min(self._stated_ms, self.now_ms(monotonic_s))

    def error_ms(self, monotonic_s: float) -> float:
        """By how much the time told now may be off; infinite when only frames were heard."""
        if not self._answers:
            return math.inf
        best = self._best(monotonic_s)
        told_ms = max(self._latest_ms - monotonic_s * 1_000, self._offset_ms)
        return abs(told_ms - best.offset_ms) + best.error_ms + self._aged_ms(best, monotonic_s)

    def _contradicts(self, answer: _Answer) -> bool:
        if answer.offset_ms + answer.error_ms + SERVERS_APART_MS < self._floor_ms:
            return True
        return bool(self._answers) and not answer.agrees(self._best(answer.received_at_s))

    def _rebel(self, answer: _Answer) -> None:
        """Note an answer that contradicts; enough of them that agree are the new truth."""
        self._rebels = [rebel for rebel in self._rebels if rebel.agrees(answer)] + [answer]
        if len(self._rebels) < REBELS:
            return
        told_ms = self._offset_ms
        self._answers = deque(self._rebels, maxlen=ANSWERS)
        self._rebels, self._claims = [], []
        self._floor_ms = -math.inf
        self._settle()
        if self._offset_ms < told_ms:  # set back
            self._latest_ms = -math.inf

    def _claim(self, claim_ms: float) -> None:
        """Note a frame from what should be the future; enough of them in a row, and the clock was set forward."""
        self._claims.append(claim_ms)
        if len(self._claims) < CLAIMS:
            return
        self._floor_ms = min(self._claims)
        self._claims = []
        self._answers.clear()
        self._settle()

    def _settle(self) -> None:
        """The offset that is told: that of the best answer, unless frames prove it to be more."""
        if not self._answers:
            self._offset_ms, self._top_ms = self._floor_ms, math.inf
            return
        best = self._best(self._answers[-1].received_at_s)
        self._offset_ms = max(best.offset_ms, self._floor_ms)
        self._top_ms = max(best.offset_ms + best.error_ms, self._offset_ms)

    def _best(self, monotonic_s: float) -> _Answer:
        """The answer that may be off by the least at this time."""
        return min(self._answers, key=lambda answer: answer.error_ms + self._aged_ms(answer, monotonic_s))

    @staticmethod
    def _aged_ms(answer: _Answer, monotonic_s: float) -> float:
        return DRIFT * 1_000 * abs(monotonic_s - answer.received_at_s)
