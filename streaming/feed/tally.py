"""What all sockets of a process have seen, counted in one place for health and metrics.

Enters: increments, from wherever something happens. Leaves: a `FeedStatus`. Does not know: who reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class FeedStatus(NamedTuple):
    """The state of a feed. Counts are since the start of the process."""

    sockets: int  # that there should be
    alive: int  # of these, connected now
    series: int  # asked for
    frames: int  # bars heard, running ones too
    bad_frames: int  # messages that could not be read
    strays: int  # bars that nobody asked for
    silent_s: float | None  # since the last bar of any socket; none: there never was one
    reconnects: int  # after an end that was not ours
    silences: int  # sockets replaced because nothing came
    rotations: int  # sockets replaced because of age, or because the exchange announced their end
    refusals: int  # series that the exchange would not send
    refused: int  # of them, how many are wanted and asked for nowhere just now
    last_error: str | None


@dataclass
class Tally:
    """Counts under way."""

    frames: int = 0
    bad_frames: int = 0
    strays: int = 0
    heard_at: float | None = None  # the loop's clock, seconds
    reconnects: int = 0
    silences: int = 0
    rotations: int = 0
    refusals: int = 0
    last_error: str | None = None

    def status(self, sockets: int, alive: int, series: int, now_s: float, refused: int = 0) -> FeedStatus:
        """What is counted, with what is true at this moment of the loop's clock."""
        return FeedStatus(
            sockets=sockets,
            alive=alive,
            series=series,
            frames=self.frames,
            bad_frames=self.bad_frames,
            strays=self.strays,
            silent_s=None if self.heard_at is None else now_s - self.heard_at,
            reconnects=self.reconnects,
            silences=self.silences,
            rotations=self.rotations,
            refusals=self.refusals,
            refused=refused,
            last_error=self.last_error,
        )
