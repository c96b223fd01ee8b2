"""Where training stands, for whoever watches: a bar for people, a line of JSON an epoch for programs.

Enters: steps. Leaves: text on a stream. Does not know: torch, what is trained.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Step(NamedTuple):
    """Told after every batch, and once more when the epoch is validated."""

    epoch: int  # from 1
    epochs: int  # at most
    batch: int  # from 1
    batches: int  # at most
    train_loss: float  # mean of the epoch so far
    validation_score: float | None  # mean loss of the last epoch validated; less is better
    validated: bool  # the epoch is over, and the score is its own
    elapsed_s: float
    member: int = 1  # of an ensemble, from 1
    members: int = 1

    @property
    def done(self) -> float:
        """Share of all epochs of all members, above 0, at most 1."""
        of_member = (self.epoch - 1 + min(self.batch / self.batches, 1.0)) / self.epochs
        return (self.member - 1 + of_member) / self.members

    @property
    def eta_s(self) -> float:
        """Seconds until the last epoch, if training does not stop before it."""
        return self.elapsed_s * (1 - self.done) / self.done


Progress = Callable[[Step], None]


@contextmanager
def json_lines() -> Iterator[Progress]:
    """One JSON object an epoch on stdout."""

    def say(step: Step) -> None:
        if step.validated:
            line = {
                **({"member": step.member, "members": step.members} if step.members > 1 else {}),
                "epoch": step.epoch,
                "of": step.epochs,
                "train_loss": round(step.train_loss, 5),
                "validation_score": None if step.validation_score is None else round(step.validation_score, 5),
                "eta_s": round(step.eta_s, 1),
            }
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    yield say


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr; where that is no terminal, nothing until it ends."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading candles", total=1.0)

        def draw(step: Step) -> None:
            score = "" if step.validation_score is None else f", validation {step.validation_score:.4f}"
            member = f"member {step.member}/{step.members}, " if step.members > 1 else ""
            text = f"{member}epoch {step.epoch}/{step.epochs}, loss {step.train_loss:.4f}{score}"
            bar.update(task, completed=step.done, description=text)

        yield draw
