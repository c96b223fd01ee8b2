"""What people look at: signals, dead letters, models, settings.

Enters: topics. Leaves: lines on stdout. Does not know: how any of it was made.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sized
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.errors import CandlewickError
from models.events import DeadLetter, Signal, decode_dead_letter, decode_signal
from models.series import canonical_symbol
from models.spec import Spec, canonical_json
from streaming.clients import new_reader, started
from streaming.models_topic import read_models
from streaming.settings import Settings
from streaming.stretch import POLL_MS, records, whole
from streaming.topics import require_topics, topic_partitions

logger = logging.getLogger(__name__)

T = TypeVar("T")
UNREADABLE = (ValueError, OverflowError, OSError, RecursionError)
"""What decoding raises, msgspec and base64 included, and a date beyond the years that there are."""


async def read_topic(
    settings: Settings, name: str, last: int = 0, at_end: Callable[[], None] | None = None
) -> AsyncIterator[Any]:
    """Records of a topic up to its present end; `last` a partition, 0 is all.

    With `at_end`, which is called there, it goes on with new ones as they come.
    """
    async for batch in read_batches(settings, name, last, at_end):
        for record in batch:
            yield record


async def read_batches(
    settings: Settings, name: str, last: int = 0, at_end: Callable[[], None] | None = None
) -> AsyncIterator[list[Any]]:
    """The same in batches of one partition each, for who reads very many."""
    await require_topics(settings, name)
    async with started(new_reader(settings)) as reader:
        stretches = await whole(reader, topic_partitions(settings, name))
        if last:
            stretches = {tp: (max(begin, end - last), end) for tp, (begin, end) in stretches.items()}
        async for _, batch in records(reader, stretches):
            yield batch
        if at_end is not None:
            at_end()
            async for batch in _followed(reader, {tp: end for tp, (_, end) in stretches.items()}):
                yield batch


async def _followed(reader: AIOKafkaConsumer, begins: Mapping[TopicPartition, int]) -> AsyncIterator[list[Any]]:
    reader.assign(list(begins))
    for tp, first in begins.items():
        reader.seek(tp, first)
    while True:
        for batch in (await reader.getmany(timeout_ms=POLL_MS)).values():
            yield batch


async def _read_values(
    settings: Settings,
    name: str,
    decode: Callable[[bytes], T],
    last: int = 0,
    at_end: Callable[[], None] | None = None,
) -> AsyncIterator[T]:
    """What records say; those that say nothing of the kind are skipped, and the log has the first and their number."""
    skipped = 0
    async for record in read_topic(settings, name, last, at_end):
        try:
            value = decode(record.value or b"")
        except UNREADABLE as error:
            skipped += 1
            if skipped == 1:
                logger.warning("skipped at=%s[%d]@%d reason=%s", record.topic, record.partition, record.offset, error)
        else:
            yield value
    if skipped > 1:
        logger.warning("skipped in all records=%d", skipped)


def signal_of(value: bytes) -> Signal:
    """A signal that can be shown.

    Raises:
        Exception: one of UNREADABLE; it is no signal, or closes in no year that there is.
    """
    signal = decode_signal(value)
    _date(signal.close_time_ms)
    return signal


def _dead_letter(value: bytes) -> DeadLetter:
    letter = decode_dead_letter(value)
    b64decode(letter.value_base64 or "")
    return letter


def _date(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _time(time_ms: int) -> str:
    """With seconds where there are some, as bars of seconds have them."""
    at = _date(time_ms)
    return f"{at:%Y-%m-%d %H:%M:%S}Z" if at.second else f"{at:%Y-%m-%d %H:%M}Z"


async def print_signals(settings: Settings, follow: bool, symbol: str | None, last: int, as_json: bool) -> None:
    """The last signals in order of their closes; followed, then new ones in the order of their coming; each once.

    Raises:
        CandlewickError: the symbol is none.
    """
    symbol = _canonical(symbol)
    newest: dict[tuple[str, str, str, str], int] = {}
    found: list[Signal] | None = []  # until the topic's present end

    def show_found() -> None:
        nonlocal found
        shown, found = sorted(found or (), key=lambda signal: signal.close_time_ms), None
        for signal in shown[-last:]:
            _line(_signal_line(signal, as_json))
        _say_if_none(shown, f"signals of {symbol}" if symbol else "signals")

    at_end = show_found if follow else None
    async for signal in _read_values(settings, "signals", signal_of, 0 if symbol else last, at_end):
        identity = (signal.exchange, signal.symbol, signal.timeframe, signal.model)
        if signal.close_time_ms <= newest.get(identity, -1) or symbol not in (None, signal.symbol):
            continue  # a duplicate after a crash: the first one wins
        newest[identity] = signal.close_time_ms
        if found is None:
            _line(_signal_line(signal, as_json))
        else:
            found.append(signal)
    show_found()


def _canonical(symbol: str | None) -> str | None:
    try:
        return None if symbol is None else canonical_symbol(symbol)
    except ValueError as error:
        raise CandlewickError(str(error)) from error


def _signal_line(signal: Signal, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(signal).decode()
    proven = "+".join(signal.proven) or "none"
    return (
        f"{_time(signal.close_time_ms)} {signal.symbol:<10} {signal.timeframe:>3} close {signal.close:<12.8g}"
        f" range {signal.expected_range_bps:6.1f} bps  {signal.interval_coverage:.0%} in"
        f" {signal.interval_low:.8g}..{signal.interval_high:.8g}  up {signal.probability_up:.3f}"
        f"  proven {proven}  {signal.model} {signal.bundle[:8]} epoch {signal.epoch}"
    )


async def print_dead_letters(settings: Settings, as_json: bool) -> None:
    """Every dead letter once: a crash may have written one twice, its identity tells."""
    letters: dict[tuple[str, int, int], DeadLetter] = {}
    async for letter in _read_values(settings, "dead-letters", _dead_letter):
        letters.setdefault((letter.topic, letter.partition, letter.offset), letter)
    for identity in sorted(letters):
        letter = letters[identity]
        if as_json:
            _line(msgspec.json.encode(letter).decode())
        else:
            value = b64decode(letter.value_base64 or "")[:60]
            _line(f"{letter.topic}[{letter.partition}]@{letter.offset}  {letter.reason}  value={value!r}")
    _say_if_none(letters, "dead letters")


async def print_models(settings: Settings, as_json: bool) -> None:
    """Activations in order, then what was refused."""
    view = await read_models(settings)
    for offset, activation in view.activations:
        if as_json:
            _line(json.dumps({"epoch": offset, **msgspec.to_builtins(activation)}))
        else:
            since = _time(activation.effective_from_ms)
            _line(
                f"epoch {offset:<5} {activation.model:<16} {activation.bundle[:12]}  from {since}  {activation.reason}"
            )
    for offset, reason in view.refused:
        _line(json.dumps({"refused": offset, "reason": reason}) if as_json else f"refused {offset:<4} {reason}")
    _say_if_none(view.activations, "activations")


async def print_spec(settings: Settings, name: str) -> None:
    """The spec of a bundle in a file or on the topic."""
    spec = await _spec(settings, name)
    _line(json.dumps(json.loads(canonical_json(spec)), indent=2))


async def _spec(settings: Settings, name: str) -> Spec:
    from models.bundle import unpack

    if Path(name).is_file():
        return unpack(await asyncio.to_thread(Path(name).read_bytes)).spec
    view = await read_models(settings)
    return view.spec(view.resolve(name))


def describe_settings(settings: Settings, as_json: bool) -> Iterator[str]:
    """Variable names and values; pydantic hides secrets by itself."""
    values = settings.model_dump(mode="json")
    if as_json:
        yield json.dumps(values)
        return
    for name, value in values.items():
        if isinstance(value, dict):
            for inner, inner_value in value.items():
                yield f"CANDLEWICK_{name.upper()}__{inner.upper()}={'' if inner_value is None else inner_value}"
        else:
            yield f"CANDLEWICK_{name.upper()}={value}"


def _say_if_none(found: Sized, what: str) -> None:
    """On stderr, so that an empty answer is known from one that does not come."""
    if not found:
        sys.stderr.write(f"no {what} so far\n")


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
