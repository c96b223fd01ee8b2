"""What is promised of records that can never be used: each is put aside once, with its reason, and no other is."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from models.events import decode_dead_letter, encode
from models.series import Series
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.read import read_topic
from streaming.replay import Turn, replay
from tests.e2e.market import market
from tests.e2e.system import System, run
from tests.e2e.test_crashes import WARM_UP, serve_a_bundle
from tests.eventually import eventually
from tests.models.candle_records import make_candle

pytestmark = pytest.mark.timeout(300)

SERIES, PARTITIONS = 10, 4
KEY = Series("binance", "S003/USDT", "1m").key


class Poison(NamedTuple):
    """A record, and the reason (a regular expression) that must be given for it."""

    value: bytes | None
    reason: str
    key: bytes | None = KEY


def candle(**fields: Any) -> bytes:
    """A candle of the poisoned series, far ahead of all others: were it taken, the series would fall silent."""
    return encode(make_candle(Series("binance", "S003/USDT", "1m"), 30_000_000, **fields))


def broken(**fields: Any) -> bytes:
    return json.dumps(json.loads(candle()) | fields).encode()


POISON = {
    "nothing": Poison(None, "no value"),
    "empty": Poison(b"", "not a candle: .*truncated"),
    "not JSON": Poison(b"\x00\x01 candle", r"not a candle: JSON is malformed: .*\(byte 0\)"),
    "not UTF-8": Poison(candle().replace(b"S003", b"S\xff03"), "not a candle: 'utf-8' codec .*"),
    "brackets without end": Poison(b"[" * 100_000, "not a candle: Expected `object`, got `array`"),
    "a field missing": Poison(candle().replace(b'"high"', b'"hihg"'), "not a candle: .* required field `high`"),
    "another version": Poison(broken(v=2), "schema version 2 is unknown to this build .*: upgrade this build"),
    "no key": Poison(candle(), r"key None is not exchange\|symbol\|timeframe", None),
    "the key of another series": Poison(
        candle(), "key .*S004.* and value .*S003.* name different series", Series("binance", "S004/USDT", "1m").key
    ),
    "not a number": Poison(candle().replace(b"100.0", b"NaN"), r"not a candle: JSON is malformed: .*\(byte [1-9]\d+\)"),
    "beyond all numbers": Poison(candle().replace(b"100.0", b"1e999"), "not a candle: Number out of range .*open`"),
    "a negative price": Poison(broken(low=-1.0), "prices must be positive: open 100.0 .* low -1.0 .*"),
    "high below low": Poison(broken(high=98.0), "high 98.0 is below low 99.25"),
    "off the grid": Poison(
        broken(open_time_ms=1, close_time_ms=60_001, received_at_ms=60_001), "open_time_ms 1 is not on the grid of 1m"
    ),
    "of another length": Poison(broken(open_time_ms=0), r"close_time_ms is not open_time_ms \+ 60000, .* 1m"),
    "not closed yet": Poison(broken(received_at_ms=0), "received_at_ms 0 is before its close .*: it was not closed"),
    "absent and priced": Poison(broken(absent=True), "absent, and yet it has prices or volume"),
    "a price missing": Poison(broken(close=None), "a price or the volume is null, and it is not marked absent"),
    "huge": Poison(b"x" * 900_000, r"not a candle: .*; too large to copy \(.*\): read it at its place"),
}
Place = tuple[int, int]
"""Partition and offset."""


class PoisonBetweenTurns:
    """A gate of the replay: a record of poison before every turn, stamped with the beginning of time."""

    def __init__(self, send: Callable[..., Any], poison: list[Poison]) -> None:
        self._send = send
        self._left = list(poison)

    async def passed(self, turn: Turn) -> None:
        """Poison the partition that the turn writes to most."""
        partition = max(turn.messages, key=lambda p: len(turn.messages[p]))
        if self._left:
            await self._send(partition, self._left.pop(0))

    def sent(self, turn: Turn, ends: dict[int, int]) -> None:
        """Nothing to remember."""


async def letters(system: System) -> Counter[tuple[str, int, int]]:
    """Every record of `dead-letters` by what it is about."""
    found: Counter[tuple[str, int, int]] = Counter()
    async for record in read_topic(system.settings, "dead-letters"):
        letter = decode_dead_letter(record.value)
        found[letter.topic, letter.partition, letter.offset] += 1
    return found


async def trade(system: System, until: int, poison: list[Poison]) -> dict[Place, Poison]:
    """Candles up to a close of the table, with poison among them; where each of it lies."""
    table, places = market(SERIES, WARM_UP + 100), dict[Place, Poison]()
    async with started(new_producer(system.settings)) as producer:

        async def send(partition: int, what: Poison) -> None:
            sent = await producer.send_and_wait(
                system.settings.topic("candles"), what.value, what.key, partition=partition, timestamp_ms=1
            )
            places[partition, sent.offset] = what

        part = table.until(int(table.close_time_ms[until - 1]))
        await replay(system.settings, part, 60 * 50 if poison else None, PoisonBetweenTurns(send, poison))
    return places


def test_poison_is_put_aside_once_with_its_reason_and_every_good_candle_is_signalled(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    poison = list(POISON.values())
    with System(kafka.bootstrap, topic_prefix, tmp_path, PARTITIONS) as system:
        serve_a_bundle(system)
        worker = system.worker("first").wait_ready()
        run(trade(system, WARM_UP, []))
        places = run(trade(system, WARM_UP + 40, poison))
        system.wait_committed()
        once = run(letters(system))
        assert (len(once), set(once.values())) == (len(poison), {1})

        worker.kill()
        worker = system.worker("after a crash").wait_ready()
        run(trade(system, WARM_UP + 60, []))
        system.wait_committed()
        assert run(letters(system)) == once

        assert worker.terminate() == 0
        worker = system.worker("after a clean end", CANDLEWICK_PREDICT__COMMIT_INTERVAL_S="600").wait_ready()
        assert run(letters(system)) == once
        places |= run(trade(system, WARM_UP + 80, poison[:1]))
        eventually(lambda: len(run(letters(system))) == len(poison) + 1)
        worker.kill()  # before it has committed: the letter will be written twice

        system.worker("after a crash before the commit").wait_ready()
        run(trade(system, WARM_UP + 100, []))
        system.wait_committed()
        listed = system.lines("dead-letters", "list")
        assert [(each["topic"], each["partition"], each["offset"]) for each in listed] == sorted(run(letters(system)))
        assert_reasons(listed, places)
        found = system.assert_flawless(at_least=SERIES * 100)
        assert found["poison"] == len(poison) + 1


def assert_reasons(listed: list[dict[str, Any]], places: dict[Place, Poison]) -> None:
    """Each was given its own reason, and no other record one."""
    given = {(letter["partition"], letter["offset"]): letter["reason"] for letter in listed}
    assert given.keys() == places.keys()
    for place, reason in given.items():
        assert re.fullmatch(places[place].reason, reason), f"{reason!r} is not {places[place].reason!r}"
