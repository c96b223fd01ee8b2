"""What people look at: signals, dead letters, models, settings.

Enters: topics. Leaves: lines on stdout. Does not know: how any of it was made.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.events import DeadLetter, Signal, decode_dead_letter, decode_signal
from models.spec import Spec, canonical_json
from streaming.clients import new_reader, started
from streaming.models_topic import read_models
from streaming.settings import Settings
from streaming.stretch import POLL_MS, Stretches, records, whole
from streaming.topics import require_topics, topic_partitions

logger = logging.getLogger(__name__)

T = TypeVar("T")
UNREADABLE = (ValueError, OverflowError, OSError, RecursionError)
"""What decoding raises, msgspec and base64 included, and a date beyond the years that there are."""


async def read_topic(settings: Settings, name: str, last: int = 0, follow: bool = False) -> AsyncIterator[Any]:
    """Records of a topic up to its present end, then, when following, as they come; `last` a partition, 0 is all."""
    async for batch in read_batches(settings, name, last, follow):
        for record in batch:
            yield record


async def read_batches(settings: Settings, name: str, last: int = 0, follow: bool = False) -> AsyncIterator[list[Any]]:
    """The same in batches of one partition each, for who reads very many."""
    await require_topics(settings, name)
    async with started(new_reader(settings)) as reader:
        stretches = await whole(reader, topic_partitions(settings, name))
        if last:
            stretches = {tp: (max(begin, end - last), end) for tp, (begin, end) in stretches.items()}
        batches = _followed(reader, stretches) if follow else records(reader, stretches)
        async for _, batch in batches:
            yield batch


async def _followed(reader: AIOKafkaConsumer, stretches: Stretches) -> AsyncIterator[tuple[TopicPartition, list[Any]]]:
    reader.assign(list(stretches))
    for tp, (first, _) in stretches.items():
        reader.seek(tp, first)
    while True:
        for batch in (await reader.getmany(timeout_ms=POLL_MS)).items():
            yield batch


async def _read_values(
    settings: Settings, name: str, decode: Callable[[bytes], T], last: int = 0, follow: bool = False
) -> AsyncIterator[T]:
    """What records say; those that say nothing of the kind are skipped, and the log has the first and their number."""
    skipped = 0
    async for record in read_topic(settings, name, last, follow):
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


async def print_signals(settings: Settings, follow: bool, symbol: str | None, last: int, as_json: bool) -> None:
    """Signals in order of their closes; followed, in the order of their coming, each once."""
    newest: dict[tuple[str, str, str, str], int] = {}
    found: list[Signal] = []
    async for signal in _read_values(settings, "signals", signal_of, 0 if symbol else last, follow):
        identity = (signal.exchange, signal.symbol, signal.timeframe, signal.model)
        if signal.close_time_ms <= newest.get(identity, -1) or symbol not in (None, signal.symbol):
            continue  # a duplicate after a crash: the first one wins
        newest[identity] = signal.close_time_ms
        if follow:
            _line(_signal_line(signal, as_json))
        else:
            found.append(signal)
    found.sort(key=lambda signal: signal.close_time_ms)
    for signal in found[-last:] if last else found:
        _line(_signal_line(signal, as_json))


def _signal_line(signal: Signal, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(signal).decode()
    at = _date(signal.close_time_ms)
    proven = "+".join(signal.proven) or "none"
    return (
        f"{at:%Y-%m-%d %H:%M}Z {signal.symbol:<10} {signal.timeframe:>3} close {signal.close:<12.8g}"
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


async def print_models(settings: Settings, as_json: bool) -> None:
    """Activations in order, then what was refused."""
    view = await read_models(settings)
    for offset, activation in view.activations:
        if as_json:
            _line(json.dumps({"epoch": offset, **msgspec.to_builtins(activation)}))
        else:
            since = _date(activation.effective_from_ms)
            _line(
                f"epoch {offset:<5} {activation.model:<16} {activation.bundle[:12]}  from {since:%Y-%m-%d %H:%M}Z  "
                f"{activation.reason}"
            )
    for offset, reason in view.refused:
        _line(json.dumps({"refused": offset, "reason": reason}) if as_json else f"refused {offset:<4} {reason}")


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


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
