"""The audit finds every kind of fault, once it is put onto the topics by hand; else its silence would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from models.candle_table import CandleTable
from models.events import DeadLetter, Direction, Message, Signal, decode_signal, encode
from models.series import Series
from models.serving import make_ready
from models.spec import Thresholds
from streaming.audit import FAULTS, Audit, audit
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.models_topic import Warrant, activate, publish
from streaming.offline import serve_offline
from streaming.partition import partition_of
from streaming.replay import Progress, replay, turns
from streaming.settings import Settings
from streaming.topics import init_topics
from tests.e2e.market import market
from tests.e2e.system import run, settings_of
from tests.e2e.test_crashes import LOOKBACK, WARM_UP
from tests.models.make_bundle import make_bundle

PARTITIONS, SERIES, CLOSES = 2, 2, 6
Signals = list[Signal]
Change = Callable[[Signals], Signals]


def table() -> CandleTable:
    return market(SERIES, WARM_UP + CLOSES)


def blob() -> bytes:
    return make_bundle(lookback=LOOKBACK, hidden=8)


def offline() -> Signals:
    return said_under(blob())


@cache
def said_under(blob: bytes) -> Signals:
    """What the engine says of the table, with no Kafka in between."""
    records = (turn.messages for turn in turns(table(), {}, 1, 50, Progress()))
    served = serve_offline(make_ready(blob, device="cpu"), records)
    return [decode_signal(message.value) for each in served for message in each.messages(0)]


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    """Candles, a bundle that covers all of them, and no signals yet."""
    settings = settings_of(kafka.bootstrap, topic_prefix, tmp_path, PARTITIONS)
    run(init_topics(settings))
    run(activate(settings, run(publish(settings, blob()))[0], "test", 0))
    run(replay(settings, table()))
    return settings


async def write(settings: Settings, topic: str, partition: int, messages: list[Message]) -> None:
    async with started(new_producer(settings)) as producer:
        for message in messages:
            await producer.send_and_wait(settings.topic(topic), message.value, message.key, partition=partition)


def publish_signals(settings: Settings, signals: Signals) -> None:
    for signal in signals:
        key = Series(signal.exchange, signal.symbol, signal.timeframe).key
        epoch = 1 if signal.epoch is None else signal.epoch  # the offset after the bundle's one chunk
        message = Message(key, encode(changed(signal, epoch=epoch)), 0)
        run(write(settings, "signals", partition_of(key, PARTITIONS), [message]))


def faults(found: Audit) -> dict[str, int]:
    return {fault: getattr(found, fault) for fault in FAULTS if getattr(found, fault)}


def with_first(**fields: Any) -> Change:
    return lambda signals: [changed(signals[0], **fields), *signals[1:]]


def followed_by(**fields: Any) -> Change:
    """All as they should be, and the first once more with another word in it."""
    return lambda signals: [*signals, changed(signals[0], **fields)]


def test_audit_of_what_the_engine_says_is_flawless(settings: Settings) -> None:
    publish_signals(settings, offline())
    found = run(audit(settings))
    assert found.flawless
    assert (found.expected, found.signals, found.checked, found.duplicates) == (12, 12, 12, 0)
    assert (found.candles, found.withheld) == (SERIES * (WARM_UP + CLOSES), {"warming_up": SERIES * WARM_UP})


TAMPERED: dict[str, tuple[Change, dict[str, int]]] = {
    "one is not there": (lambda signals: signals[1:], {"missing": 1}),
    "an output is off": (lambda s: with_first(location=s[0].location + 2e-5)(s), {"wrong": 1}),
    "a price is off": (lambda s: with_first(interval_high=s[0].interval_high * (1 + 2e-6))(s), {"wrong": 1}),
    "the close is off": (lambda s: with_first(close=s[0].close * 1.0001)(s), {"wrong": 1}),
    "the volatility is off": (lambda s: with_first(volatility=s[0].volatility * 1.001)(s), {"wrong": 1}),
    "the return in bps is off": (
        lambda s: with_first(expected_return_bps=s[0].expected_return_bps * (1 + 2e-6))(s), {"wrong": 1},
    ),
    "the range in bps is off": (
        lambda s: with_first(expected_range_bps=s[0].expected_range_bps * (1 + 2e-6))(s), {"wrong": 1},
    ),
    "a direction is shown that is not proven": (with_first(direction="long"), {"wrong": 1}),
    "one comes behind a later close": (lambda signals: [*signals[1:], signals[0]], {"overtaken": 1}),
    "an output is NaN": (with_first(scale=float("nan")), {"missing": 1, "unreadable": 1}),
    "the target is off": (lambda s: with_first(target_time_ms=s[0].target_time_ms + 1)(s), {"wrong": 1}),
    "the origin is off": (with_first(origin="live"), {"wrong": 1}),
    "skill is claimed for a symbol out of training": (with_first(proven=("range",)), {"wrong": 1}),
    "the bundle is another": (with_first(bundle="0" * 64), {"wrong_bundle": 1}),
    "the epoch is another": (with_first(epoch=7), {"wrong_bundle": 1}),
    "a duplicate names another bundle": (followed_by(bundle="0" * 64), {"wrong_bundle": 1}),
    "a duplicate names another epoch": (followed_by(epoch=7), {"wrong_bundle": 1}),
    "a duplicate is off": (followed_by(range_scale=9.0), {"wrong": 1}),
    "a close was too early to speak": (followed_by(close_time_ms=1_747_699_260_000), {"unexpected": 1}),
    "a model nobody activated speaks": (followed_by(model="other-1m"), {"unexpected": 1}),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_audit_finds_what_was_tampered_with(what: str, settings: Settings) -> None:
    tamper, expected = TAMPERED[what]
    publish_signals(settings, tamper(offline()))
    assert faults(run(audit(settings))) == expected


def with_direction(signal: Signal, thresholds: Thresholds) -> Signal:
    """As it is where the gate has shown skill in range and direction."""
    direction: Direction = "long" if signal.probability_up >= thresholds.long else "flat"
    return changed(signal, proven=("range", "direction"), direction=direction)


def test_audit_holds_proven_and_direction_against_the_report_and_the_thresholds(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    settings = settings_of(kafka.bootstrap, topic_prefix, tmp_path, PARTITIONS)
    thresholds = Thresholds(long=0.5, short=0.0)
    blob = make_bundle(lookback=LOOKBACK, hidden=8, symbols=("S000/USDT",), thresholds=thresholds)
    run(init_topics(settings))
    warrant = Warrant("job", {"proven": ["direction", "range"]})
    run(activate(settings, run(publish(settings, blob))[0], "gate", 0, warrant))
    run(replay(settings, table()))
    trained, foreign = ([s for s in said_under(blob) if s.symbol == f"S00{i}/USDT"] for i in range(2))
    right = [with_direction(signal, thresholds) for signal in trained]
    publish_signals(settings, [*right, *foreign])

    found = run(audit(settings))

    assert (faults(found), found.checked) == ({}, SERIES * CLOSES)
    other: Direction = "flat" if right[0].direction == "long" else "long"
    less, more = changed(right[0], proven=("range",)), changed(foreign[0], proven=("range",))
    for wrong, twisted in enumerate([less, more, changed(right[0], direction=other)], start=1):
        publish_signals(settings, [twisted])
        assert faults(run(audit(settings))) == {"wrong": wrong}


def test_audit_counts_an_exact_duplicate_and_has_nothing_against_it(settings: Settings) -> None:
    publish_signals(settings, [*offline(), offline()[0]])
    found = run(audit(settings))
    assert (found.flawless, found.duplicates, found.checked) == (True, 1, 13)


def test_audit_finds_poison_without_a_letter_and_a_letter_about_a_good_candle(settings: Settings) -> None:
    publish_signals(settings, offline())
    run(write(settings, "candles", 0, [Message(b"no key", b"no candle", 0)]))
    letter = DeadLetter(
        value_base64=None, key_base64=None, reason="mistaken", topic=settings.topic("candles"), partition=1, offset=0
    )
    run(write(settings, "dead-letters", 0, [Message(b"", encode(letter), 0)]))
    found = run(audit(settings))
    assert faults(found) == {"unburied": 1, "buried_alive": 1}
    assert found.poison == 1


def test_audit_of_dead_letters_with_junk_among_them_counts_it(settings: Settings) -> None:
    publish_signals(settings, offline())
    run(write(settings, "dead-letters", 0, [Message(b"", b"junk", 0)]))
    assert faults(run(audit(settings))) == {"unreadable": 1}
