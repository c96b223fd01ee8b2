"""How every command runs: its settings, the signals that end it, and what a person is told where it fails.

Enters: a command's work. Leaves: an exit code, and one line on stderr. Does not know: any command.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from models.errors import CandlewickError

if TYPE_CHECKING:
    from streaming.settings import Settings


def read_settings() -> Settings:
    """Settings of the environment and `.env`; the log is set up by them.

    Raises:
        CandlewickError: one is wrong, or none is called so.
    """
    from dotenv import dotenv_values
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from streaming.logs import set_up
    from streaming.settings import Settings

    try:
        settings = Settings()
    except ValidationError as error:
        names = ["CANDLEWICK_" + "__".join(map(str, each["loc"])).upper() for each in error.errors()]
        wrong = "; ".join(f"{name}: {each['msg']}" for name, each in zip(names, error.errors(), strict=True))
        raise CandlewickError(f"settings are wrong: {wrong}. Without them `candlewick settings` lists all") from None
    except (SettingsError, UnicodeDecodeError) as error:
        raise CandlewickError(f"settings cannot be read, in the environment or in .env: {error}") from None
    if unknown := Settings.misspelt([*os.environ, *dotenv_values(".env")]):
        raise CandlewickError(f"no setting is called {', '.join(unknown)}; `candlewick settings` lists them all")
    set_up(settings.log_level)
    return settings


def run_to_end(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; SIGTERM and SIGHUP are a Ctrl-C, so that everything started is stopped."""
    came: list[int] = []

    async def watched() -> Any:
        task = asyncio.current_task()

        def end(number: int) -> None:
            came.append(number)
            if task is not None:
                task.cancel()

        for number in _heard():
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        return await work

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        raise click.exceptions.Exit(128 + came[0] if came else 1) from None


def _heard() -> list[int]:
    """The signals that end the work beside Ctrl-C; not the closed terminal where `nohup` has it ignored."""
    return [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM and a closed terminal unwind what is under way: no temporary file, no worker stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _heard()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_what_is_closed() -> None:
    """Where stdin, stdout or stderr is closed, nothing takes its place: not a file that then is written into."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


MORE_MEMORY = (
    "Give fewer candles or symbols, or more memory; a job has CANDLEWICK_TRAIN__MEMORY_MB, and reads no more than "
    "CANDLEWICK_TRAIN__HISTORY_BARS"
)


def _is_of_memory(error: Exception) -> bool:
    """Whether there was not enough of it; torch has no exception of its own for that of the CPU."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


class Commands(click.Group):
    """Shows what a person can mend as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except CandlewickError as error:
            click.echo(f"candlewick: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(130)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            click.echo(
                "candlewick: torch is not installed; `make setup` brings it, as does the extra `torch`", err=True
            )
            ctx.exit(1)
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None and ctx.invoked_subcommand != "run":
                click.echo(f"candlewick: {error.filename}: {error.strerror}; is the path right, and yours?", err=True)
                ctx.exit(1)
            if _is_of_memory(error):
                click.echo(f"candlewick: memory ran out ({error}). {MORE_MEMORY}", err=True)
                ctx.exit(1)
            if "home directory" in str(error) and isinstance(error, RuntimeError):  # pathlib's
                click.echo("candlewick: nobody knows your home folder; set HOME", err=True)
                ctx.exit(1)
            if not type(error).__module__.startswith("aiokafka."):
                raise
            click.echo(f"candlewick: Kafka failed ({error!r}). Is it up? Try again once it is", err=True)
            ctx.exit(1)
