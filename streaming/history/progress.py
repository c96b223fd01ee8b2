"""Where a backfill stands, for whoever watches: a bar with the time left, on a terminal only.

Enters: what became of each series so far. Leaves: text on stderr. Does not know: exchanges, files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from streaming.history.gap_report import Filled


@contextmanager
def progress_bar(filled: Sequence[Filled]) -> Iterator[Callable[[Filled], None]]:
    """One bar over all series."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("candles", total=sum(own.expected for own in filled))

        def told(own: Filled) -> None:
            passed = sum(each.expected if each.done else each.held + each.new for each in filled)
            bar.update(task, completed=passed, description=own.symbol)

        yield told
