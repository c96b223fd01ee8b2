"""What options of the command line mean, where several commands have them.

Enters: words. Leaves: values, or an error that names the option. Does not know: any command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from models.errors import CandlewickError

PATHS = click.Path(path_type=Path)
NETWORKS = ("lstm", "gru", "mlp")
TIMES = "a date (UTC) or UTC milliseconds"


class Time(click.ParamType):
    """A point in time; seconds since 1970 are refused, which taken for milliseconds would mean January 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """UTC milliseconds; 0 is the beginning of time."""
        from streaming.history.dates import parse_time

        return int(value) if value in (0, "0") else parse_time(str(value), param.opts[0] if param else "the time")


as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object, or one a line, on stdout.")
json_anyway = click.option("--json", is_flag=True, expose_value=False, help="As always: stdout is JSON anyway.")


def candle_options(command: Any) -> Any:
    """Which candles of files, for whoever learns from them."""
    for option in reversed(
        [
            click.option(
                "--candles", "paths", type=PATHS, multiple=True, required=True, help="File or folder; may be repeated."
            ),
            click.option("--symbols", default="", help="Only these, by commas."),
            click.option("--exchange", default="binance", show_default=True),
            click.option("--timeframe", help="Default: the commonest spacing of the files."),
        ]
    ):
        command = option(command)
    return command


def network_options(command: Any) -> Any:
    """What to train, for whoever trains."""
    for option in reversed(
        [
            click.option("--network", type=click.Choice(NETWORKS), default="lstm", show_default=True),
            click.option("--hidden", type=click.IntRange(1, 512), default=32, show_default=True),
            click.option("--layers", type=click.IntRange(1, 4), default=1, show_default=True),
            click.option(
                "--members",
                type=click.IntRange(1, 8),
                default=2,
                show_default=True,
                help="Networks pooled in one bundle.",
            ),
            click.option(
                "--lookback", type=click.IntRange(1, 256), default=64, show_default=True, help="Candles of context."
            ),
            click.option(
                "--horizon", type=click.IntRange(1, 1_440), default=3, show_default=True, help="Candles ahead."
            ),
            click.option(
                "--epochs", type=click.IntRange(1, 1_000), default=30, show_default=True, help="At most so many."
            ),
            click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        ]
    ):
        command = option(command)
    return command


def speed_of(speed: str) -> float | None:
    """Times faster than the candles' own time; none: as fast as it goes.

    Raises:
        CandlewickError: it is neither a positive number nor `max`.
    """
    if speed == "max":
        return None
    try:
        value = float(speed)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise CandlewickError(f"--speed {speed!r} is neither a positive number nor max")
    return value


def names_of(text: str) -> tuple[str, ...]:
    """Names by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
