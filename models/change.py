"""When did the mean of a sequence change? Two detectors of it, each fed one value at a time.

Enters: values and the times they belong to. Leaves: shifts. Does not know: what the values mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ADWIN_DELTA, ADWIN_CLOCK = 0.002, 32
"""River's defaults, which held on real candles: confidence of a cut, and values from one search to the next."""
ADWIN_BUCKETS = 50
"""Of each size; River's 5 leave so few places to cut at that half the seeds missed the crash of August 2024."""
MAX_WIDTH = 20_160
"""Values that are remembered to date a shift; one further back is dated to the oldest of them."""
LEAST_SIDE = 5
"""Values on either side of a shift, at the least: what ADWIN asks for."""


class Shift(NamedTuple):
    """A change of mean: before it, after it, and the time of the first value after it."""

    before: float
    after: float
    since_ms: int


class AdaptiveWindow:
    """River's ADWIN: finds a rise and a fall, however long ago it began.

    Source: Bifet and Gavalda, "Learning from time-changing data with adaptive windowing", SIAM SDM 2007.
    """

    def __init__(self) -> None:
        from river.drift import ADWIN  # takes seconds: it brings scipy.stats

        self._adwin = ADWIN(ADWIN_DELTA, ADWIN_CLOCK, ADWIN_BUCKETS)  # type: ignore[no-untyped-call]
        self._values: deque[float] = deque(maxlen=MAX_WIDTH)
        self._times_ms: deque[int] = deque(maxlen=MAX_WIDTH)

    @property
    def mean(self) -> float | None:
        """Of the values since the newest shift; none while there is none."""
        return float(self._adwin.estimation) if self._times_ms else None

    def update(self, value: float, at_ms: int) -> Shift | None:
        """Take the next value; after a shift the window begins anew."""
        self._times_ms.append(at_ms)
        self._values.append(value)
        self._adwin.update(value)  # type: ignore[no-untyped-call]
        if not self._adwin.drift_detected:
            return None
        shift = likeliest_shift(self._values, self._times_ms)
        self.__init__()  # type: ignore[misc]
        return shift


class PageHinkley:
    """Page's test against the running mean: finds a rise by more than `delta`, sooner the larger it is.

    It speaks when the values since their lowest point exceed the mean and `delta` by more than `threshold` in sum.

    Source: Page, "Continuous inspection schemes", Biometrika 41 (1954).
    """

    LEAST_VALUES = 30

    def __init__(self, delta: float, threshold: float) -> None:
        self._delta, self._threshold = delta, threshold
        self._values, self._total = 0, 0.0
        self._excess = 0.0
        self._low = (0, 0.0, 0)  # values before the lowest point, their sum, and the time of the first one after it

    @property
    def mean(self) -> float | None:
        """Of the values since the newest shift; none while there is none."""
        return self._total / self._values if self._values else None

    def update(self, value: float, at_ms: int) -> Shift | None:
        """Take the next value; after a shift everything begins anew."""
        if self._excess <= 0:  # a new lowest point
            self._excess, self._low = 0.0, (self._values, self._total, at_ms)
        self._values, self._total = self._values + 1, self._total + value
        self._excess += value - self._total / self._values - self._delta
        if self._excess <= self._threshold or self._values < self.LEAST_VALUES:
            return None
        values, total, since_ms = self._low
        before = total / values if values else self._total / self._values
        shift = Shift(before, (self._total - total) / (self._values - values), since_ms)
        self.__init__(self._delta, self._threshold)  # type: ignore[misc]
        return shift


def likeliest_shift(values: Sequence[float], times_ms: Sequence[int]) -> Shift:
    """Cut values where one change of mean explains them best. `times_ms` are theirs; ten or more of each.

    ADWIN knows that there is a change, but not well where: it only forgets the oldest values until no cut is left.

    Source: the maximum likelihood cut of a normal sequence; Hinkley, "Inference about the change-point in a sequence
    of random variables", Biometrika 57 (1970).
    """
    n = len(values)
    sums = np.cumsum(np.asarray(values, np.float64))
    first = np.arange(LEAST_SIDE, n - LEAST_SIDE + 1)  # how many values lie before the cut
    gain = (sums[first - 1] - first * sums[-1] / n) ** 2 / (first * (n - first))
    cut = int(first[np.argmax(gain)])
    before = float(sums[cut - 1])
    return Shift(before / cut, (float(sums[-1]) - before) / (n - cut), times_ms[cut])
