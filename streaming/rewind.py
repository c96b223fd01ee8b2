"""What a commit remembers beside its offset: from where the state can be rebuilt.

Enters and leaves: the metadata string of a Kafka commit. Does not know: what state is.
"""

from __future__ import annotations

from typing import NamedTuple


class Resume(NamedTuple):
    """Where a partition is taken up: state is rebuilt from `start`, and from `resume` on its records speak."""

    start: int
    resume: int


def encode_rewind(offset: int, **more: int) -> str:
    """The metadata of a commit; roles may remember more than the offset."""
    return " ".join(f"{name}={value}" for name, value in {"rewind": offset, **more}.items())


def remembered(metadata: str | None) -> dict[str, int]:
    """What `encode_rewind` wrote; of another's making, whatever in it reads like it."""
    words = [word.partition("=") for word in (metadata or "").split()]
    return {name: int(value) for name, _, value in words if value.isdecimal()}


def plan(committed: int | None, metadata: str | None, beginning: int, end: int) -> Resume:
    """Where to begin, from what the group committed and what the log still holds.

    A log that no longer reaches back far enough gives series that start cold where it begins: they are withheld until
    they are warm, never approximated.

    Raises:
        ValueError: the commit lies beyond the end of the log, so the topic is not the one it was made for.
    """
    if committed is None or committed < 0:
        return Resume(beginning, beginning)
    if committed > end:
        raise ValueError(
            f"the group committed offset {committed}, the log ends at {end}: was the topic deleted and made again?"
        )
    rewind = remembered(metadata).get("rewind", beginning)  # of another's making: rebuild from all there is
    resume = max(committed, beginning)
    return Resume(min(max(rewind, beginning), resume), resume)
