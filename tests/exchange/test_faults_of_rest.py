"""Faults of REST answers, and how faults are asked for and end."""

from __future__ import annotations

import asyncio

import pytest

from tests.exchange.accelerated import PATIENCE_S, run, trading
from tests.exchange.catalogue import CATALOGUE


def test_fault_rest_429_answers_so_many_requests_with_retry_after() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("rest_429", count=2, retry_after_s=3)
            answers = [await market.get("/api/v3/ping") for _ in range(3)]
            assert [answer.status for answer in answers] == [429, 429, 200]
            assert answers[0].headers["Retry-After"] == "3"
            assert answers[0].body["code"] == -1003

    run(story())


def test_fault_rest_418_bans_until_it_ends() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("rest_418", seconds=7)
            answer = await market.get("/api/v3/ping")
            assert (answer.status, answer.headers["Retry-After"], answer.body["code"]) == (418, "7", -1003)
            await market.clear()
            assert (await market.get("/api/v3/ping")).status == 200

    run(story())


def test_fault_rest_502_answers_html() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("rest_502")
            answer = await market.get("/api/v3/time")
            assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (502, "text/html")

    run(story())


def test_fault_rest_hang_answers_late() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("rest_hang", delay_s=20)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(market.get("/api/v3/ping"), 0.1)

    run(story())


def test_fault_that_does_not_exist_is_refused_with_those_that_do() -> None:
    async def story() -> None:
        async with trading() as market:
            for body, words in (
                ({"name": "flood"}, "no fault 'flood'; there are tcp_kill"),
                ({"name": "drop", "speed": 1}, "drop takes share, not speed"),
                ({"name": "delist"}, "delist needs symbols"),
                ({"name": "drop", "symbols": ["NOPE"]}, "no symbols NOPE"),
            ):
                with pytest.raises(AssertionError, match=words):
                    await market.control("/faults", body)
            assert [each["name"] for each in (await market.control("/faults"))["faults"]] == list(CATALOGUE)

    run(story())


def test_fault_ends_by_itself_after_its_seconds() -> None:
    async def story() -> None:
        async with trading() as market:
            await market.fault("rest_502", seconds=0.1)
            async with asyncio.timeout(PATIENCE_S):
                while (await market.control("/faults"))["active"]:
                    pass
            assert (await market.get("/api/v3/ping")).status == 200

    run(story())
