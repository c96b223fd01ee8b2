from __future__ import annotations

import logging
import time

import pytest

from streaming.logs import REPEAT_S, Seldom


def record_of(name: str, level: int, line: int = 1, message: str = "Unable connect to node %s") -> logging.LogRecord:
    return logging.LogRecord(name, level, "client.py", line, message, (7,), None)


def test_seldom_lets_an_error_of_a_retry_pass_once_as_a_warning() -> None:
    seldom = Seldom(logging.INFO)
    record = record_of("aiokafka.client", logging.ERROR)
    assert seldom.filter(record)
    assert (record.levelno, record.levelname) == (logging.WARNING, "WARNING")
    assert not any(seldom.filter(record_of("aiokafka.client", logging.ERROR)) for _ in range(100))


def test_seldom_says_how_many_it_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    seldom = Seldom(logging.INFO)
    for _ in range(3):
        seldom.filter(record_of("aiokafka.client", logging.ERROR))
    now_s += REPEAT_S
    again = record_of("aiokafka.client", logging.ERROR)
    assert seldom.filter(again)
    assert again.getMessage() == "Unable connect to node 7 (and 2 times more before)"


def test_seldom_tells_places_in_the_code_apart() -> None:
    seldom = Seldom(logging.INFO)
    assert all(seldom.filter(record_of("aiokafka.client", logging.ERROR, line)) for line in range(5))


@pytest.mark.parametrize(("level", "passes"), [("INFO", False), ("DEBUG", True)])
def test_seldom_holds_back_what_is_now_below_the_level(level: str, passes: bool) -> None:
    seldom = Seldom(logging.getLevelNamesMapping()[level])
    assert seldom.filter(record_of("aiokafka.consumer", logging.INFO)) is passes


def test_seldom_leaves_everybody_else_alone() -> None:
    seldom = Seldom(logging.INFO)
    records = [record_of("streaming.batches", logging.ERROR) for _ in range(3)]
    assert all(seldom.filter(record) for record in records)
    assert {record.levelno for record in records} == {logging.ERROR}
