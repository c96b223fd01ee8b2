"""`python -m benchmarks NAME [--json]`: measure, and say figures. Messages go to stderr."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

import click

from benchmarks.figures import Figure
from benchmarks.workload import Size
from models.errors import CandlewickError

NAMES = ("hotpath", "burst", "drift", "train", "ingest")


def benchmark(name: str) -> Callable[[Size], Coroutine[Any, Any, list[Figure]]]:
    """The `run` of a benchmark; imported late, for each brings its own heavy libraries."""
    run: Callable[[Size], Coroutine[Any, Any, list[Figure]]] = import_module(f"benchmarks.{name}").run
    return run


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", type=click.Choice(NAMES))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a figure, one a line.")
@click.option("--rounds", type=click.IntRange(1, 20), default=Size.rounds, show_default=True)
@click.option("--series", type=click.IntRange(1), default=Size.series, show_default=True)
def main(name: str, as_json: bool, rounds: int, series: int) -> None:
    """Measure the figures of NAME on this machine: two cores, nothing else running."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        figures = asyncio.run(benchmark(name)(Size(rounds=rounds, series=series)))
    except CandlewickError as error:
        raise click.ClickException(str(error)) from error
    for figure in figures:
        click.echo(figure.as_json() if as_json else str(figure))


if __name__ == "__main__":
    main()
