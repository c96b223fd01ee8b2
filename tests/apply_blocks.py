"""What docs/extend.md tells a reader to do, done to a copy of the source.

A step is a line that names a file, and a block of Python under it: a new file, lines after or before or instead of one
line of a file, or at its end. A line is named by how it begins, and must be the only one in its file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_STEP = re.compile(
    r"^(?:New file `(?P<new>[^`]+)`"
    r"|At the end of `(?P<end>[^`]+)`"
    r"|In `(?P<file>[^`]+)`, (?P<where>after|before|instead of) `(?P<line>[^\n]+)`):\n"
    r"```python\n(?P<block>.*?)```$",
    re.MULTILINE | re.DOTALL,
)


class Step(NamedTuple):
    """One change of one file."""

    file: str
    where: str  # new, end, after, before, instead of
    line: str  # how the line begins; empty for a new file and the end
    block: str

    @property
    def lines(self) -> int:
        """Lines that are not blank."""
        return sum(bool(line.strip()) for line in self.block.splitlines())


def steps_of(text: str) -> list[Step]:
    """The steps of a page or chapter, in order.

    Raises:
        ValueError: a block of Python belongs to no step, so a reader would not know where it goes.
    """
    steps = [
        Step(
            found["new"] or found["end"] or found["file"],
            "new" if found["new"] else "end" if found["end"] else found["where"],
            found["line"] or "",
            found["block"],
        )
        for found in _STEP.finditer(text)
    ]
    if len(steps) != text.count("```python\n"):
        raise ValueError(f"{text.count('```python')} blocks of Python, but only {len(steps)} say where they go")
    return steps


def apply(step: Step, root: Path) -> None:
    """Change the file of a step under a root.

    Raises:
        ValueError: the line is not there, or there several times; or a new file is not new.
    """
    path = root / step.file
    if step.where == "new":
        if path.exists():
            raise ValueError(f"{step.file} exists already")
        path.write_text(step.block)
    elif step.where == "end":
        path.write_text(f"{path.read_text().rstrip()}\n\n\n{step.block}")
    else:
        path.write_text(_changed(step, path.read_text()))


def _changed(step: Step, text: str) -> str:
    lines = text.splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if line.lstrip().startswith(step.line)]
    if len(found) != 1:
        raise ValueError(f"{step.file} has {len(found)} lines that begin with {step.line}, one is needed")
    (at,) = found
    first = at + 1 if step.where == "after" else at
    stop = at if step.where == "before" else at + 1
    return "".join([*lines[:first], step.block, *lines[stop:]])
