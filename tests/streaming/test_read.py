"""What people read from topics, with records among it that are nothing of the kind, on a real broker."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from models.events import DeadLetter, Message, encode
from streaming.embedded_kafka import EmbeddedKafka
from streaming.read import print_dead_letters, print_signals
from streaming.scoreboard import Scoreboard
from streaming.settings import Settings
from streaming.topics import init_topics
from tests.e2e.system import run, settings_of
from tests.eventually import eventually
from tests.models.candle_records import BTC, START_SLOT
from tests.models.join_logs import make_signal
from tests.streaming.log_of_candles import write

JUNK = [Message(b"key", value, 0) for value in (b"junk", b"\xff\xfe", b'{"v":1}')]


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    settings = settings_of(kafka.bootstrap, topic_prefix, tmp_path, partitions=1)
    run(init_topics(settings))
    return settings


async def fill(settings: Settings) -> None:
    """A signal and a dead letter with junk around them, junk on every other topic."""
    signal = make_signal(BTC, START_SLOT)
    of_no_year = changed(signal, close_time_ms=2**60, model="other-1m")
    letter = DeadLetter(value_base64=None, key_base64=None, reason="why", topic="t", partition=0, offset=1)
    of_no_base64 = changed(letter, value_base64="a", offset=2)
    signals = [Message(BTC.key, encode(each), 0) for each in (of_no_year, signal)]
    letters = [Message(b"", encode(each), 0) for each in (of_no_base64, letter)]
    await write(settings, [*JUNK, *signals, JUNK[0]], "signals")
    await write(settings, [*JUNK, *letters], "dead-letters")
    for topic in ("outcomes", "scores", "drift"):
        await write(settings, JUNK, topic)


def test_signals_and_dead_letters_are_shown_and_junk_among_them_is_skipped_and_counted(
    settings: Settings, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run(fill(settings))
    with caplog.at_level(logging.WARNING):
        for as_json in (True, False):
            run(print_signals(settings, False, None, 0, as_json))
            run(print_dead_letters(settings, as_json))
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line).get("model", "letter") for line in lines[:2]] == ["default-1m", "letter"]
    assert len(lines) == 4
    assert f"skipped at={settings.topic('signals')}[0]@0" in caplog.text
    assert "skipped in all records=5" in caplog.text
    assert "skipped in all records=4" in caplog.text


def test_scoreboard_goes_on_behind_junk_and_counts_it(settings: Settings) -> None:
    run(fill(settings))
    board = Scoreboard()

    async def scene() -> None:
        following = asyncio.create_task(board.follow(settings))
        await asyncio.to_thread(eventually, lambda: (board.signals and board.skipped == 14) or following.done(), 60)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    run(scene())
    assert (board.signals, board.outcomes, board.skipped) == (1, 0, 14)
    assert [signal.model for signal in board.last()] == ["default-1m"]


def test_print_signals_for_a_person_tells_seconds_where_there_are_some(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    signals = [
        changed(make_signal(BTC, 1), close_time_ms=time_ms) for time_ms in (1_748_563_200_000, 1_748_563_201_000)
    ]
    run(write(settings, [Message(BTC.key, encode(each), 0) for each in signals], "signals"))
    run(print_signals(settings, follow=False, symbol=None, last=0, as_json=False))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("Z")[0] for line in lines] == ["2025-05-30 00:00", "2025-05-30 00:00:01"]
