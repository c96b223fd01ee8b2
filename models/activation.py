"""Which bundle serves which close: the activations of the log, in one immutable timeline.

Enters: valid activations with their epochs. Leaves: the one that covers a close. Does not know: weights, Kafka.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from models.events import Activation, Skill

_SKILLS: tuple[Skill, ...] = ("range", "return", "direction")


class Slot(NamedTuple):
    """What every bundle of one model has in common: a model serves one timeframe and one horizon."""

    timeframe_ms: int
    horizon_bars: int


class Epoch(NamedTuple):
    """One valid activation; `number` is its offset in `models`, None offline."""

    number: int | None
    model: str
    bundle: str
    effective_from_ms: int
    proven: tuple[Skill, ...] = ()


def epoch_of(activation: Activation, offset: int) -> Epoch:
    """The epoch an activation makes at its offset; skills are those its report names as proven."""
    named = (activation.report or {}).get("proven", ())
    proven = tuple(skill for skill in _SKILLS if skill in named) if isinstance(named, list) else ()
    return Epoch(offset, activation.model, activation.bundle, activation.effective_from_ms, proven)


@dataclass(frozen=True)
class Timeline:
    """Every model's epochs. A swap makes a new timeline: whoever holds the old one goes on with the old one."""

    slots: dict[str, Slot] = field(default_factory=dict)
    _epochs: dict[str, tuple[Epoch, ...]] = field(default_factory=dict)

    def with_epoch(self, epoch: Epoch, slot: Slot) -> Timeline:
        """The timeline after one more activation, which must come later in the log than all before it.

        Epochs that start at or after the new one are covered by it for ever, and left out.
        """
        earlier = tuple(e for e in self._epochs.get(epoch.model, ()) if e.effective_from_ms < epoch.effective_from_ms)
        return replace(
            self,
            slots={**self.slots, epoch.model: slot},
            _epochs={**self._epochs, epoch.model: (*earlier, epoch)},
        )

    def models_of(self, timeframe_ms: int) -> list[str]:
        """Models that serve series of this timeframe."""
        return [model for model, slot in self.slots.items() if slot.timeframe_ms == timeframe_ms]

    def epochs(self, model: str) -> tuple[Epoch, ...]:
        """The epochs that still cover any close, in order of time."""
        return self._epochs.get(model, ())

    def covering(self, model: str, close_time_ms: int) -> Epoch | None:
        """The epoch of the highest number whose `effective_from_ms` is not after this close; None before the first."""
        epochs = self._epochs.get(model, ())
        after = bisect_right(epochs, close_time_ms, key=lambda epoch: epoch.effective_from_ms)
        return epochs[after - 1] if after else None
