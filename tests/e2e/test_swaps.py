"""What is promised when bundles change under traffic: the close decides which serves, on every replica alike."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from models.events import decode_signal
from models.features import WARM_UP_BARS
from streaming.clients import new_producer, started
from streaming.embedded_kafka import EmbeddedKafka
from streaming.read import read_topic
from streaming.replay import Turn, replay
from tests.e2e.bundles import CORRUPT, LOOKBACKS, Desk, good
from tests.e2e.late_replica import SUFFIX
from tests.e2e.market import market
from tests.e2e.system import System, Worker, run

pytestmark = pytest.mark.timeout(400)

SERIES, CLOSES, SWAPS = 20, 400, 200
WARM_UP = WARM_UP_BARS + max(LOOKBACKS) - 1
MINUTE_MS = 60_000


class SwapsBeforeTurns:
    """A gate of the replay: before every second close a bundle is put on the topic and named, three in ten corrupt."""

    def __init__(self, desk: Desk, first_close_ms: int) -> None:
        self._desk = desk
        self._first_close_ms = first_close_ms
        self.done = 0
        self.corrupt: Counter[str] = Counter()

    async def passed(self, turn: Turn) -> None:
        """Swap, then let the turn go."""
        assert turn.closes == 1
        if (turn.first_close_ms - self._first_close_ms) // MINUTE_MS % 2 == 0:
            await self._swap(turn.first_close_ms)
            self.done += 1

    def sent(self, turn: Turn, ends: dict[int, int]) -> None:
        """Nothing to remember."""

    async def _swap(self, close_ms: int) -> None:
        n, desk = self.done, self._desk
        if n % 10 in (3, 6, 9):
            corrupt = CORRUPT[self.corrupt.total() % len(CORRUPT)]
            self.corrupt[corrupt.__name__] += 1
            await desk.activate_in_vain(await corrupt(desk, n), close_ms)
        elif n % 10 == 5:  # back to an older one
            await desk.activate(desk.valid[-3][2], close_ms)
        elif n % 10 == 8:  # announced ahead; words that come meanwhile are newer, and yet it is the highest epoch
            await desk.activate(await desk.put(good(n)), close_ms + 5 * MINUTE_MS)
        else:
            await desk.activate(await desk.put(good(n)), close_ms)


async def trade(system: System, late: list[Worker]) -> SwapsBeforeTurns:
    table = market(SERIES, WARM_UP + CLOSES)
    first_close_ms = int(table.close_time_ms[WARM_UP])
    async with started(new_producer(system.settings)) as producer:
        desk = Desk(producer, system.settings.topic("models"))
        await desk.activate(await desk.put(good(1_000)), 0)
        await desk.activate(await desk.put(good(1_001)), 0)
        await desk.activate(await desk.put(good(1_002)), 0)
        await replay(system.settings, table.until(first_close_ms - MINUTE_MS))
        gate = SwapsBeforeTurns(desk, first_close_ms)
        half = table.until(first_close_ms + CLOSES // 2 * MINUTE_MS)
        await replay(system.settings, half, 60 * 25, gate)
        late.append(system.worker("late", "-m", "tests.e2e.late_replica"))  # hours of closes behind by now
        await replay(system.settings, table, 60 * 25, gate)
    return gate


async def signals_against(desk: Desk, system: System) -> tuple[int, list[str]]:
    """How many records were published, and those of them that name another bundle than the test's own account."""
    count, wrong = 0, []
    async for record in read_topic(system.settings, "signals"):
        signal = decode_signal(record.value)
        count += 1
        if (signal.epoch, signal.bundle) != desk.covering(signal.close_time_ms):
            wrong.append(f"{signal.symbol} {signal.close_time_ms} epoch {signal.epoch}")
    return count, wrong


def test_200_swaps_three_in_ten_corrupt_leave_every_close_to_the_bundle_that_covers_it_on_every_replica(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    with System(kafka.bootstrap, topic_prefix, tmp_path, partitions=8) as system:
        replicas = [system.worker("one"), system.worker("two")]
        for replica in replicas:
            replica.wait_ready()

        gate = run(trade(system, replicas))

        replicas[2].wait_ready()
        system.wait_committed()
        system.wait_committed(SUFFIX)
        desk = gate._desk
        assert (gate.done, gate.corrupt.total(), len(gate.corrupt)) == (SWAPS, 60, len(CORRUPT))
        count, wrong = run(signals_against(desk, system))
        assert wrong == []
        found = system.assert_flawless(at_least=SERIES * CLOSES)
        assert found["duplicates"] >= found["expected"]  # the late replica said everything once more
        assert count == found["signals"] + found["duplicates"]
        assert [replica.code for replica in replicas] == [None, None, None]
        valid, refused = {epoch for epoch, *_ in desk.valid}, set(desk.refused)
        for replica in replicas:
            log = replica.stderr
            assert {int(epoch) for epoch in re.findall(r"activated .* epoch=(\d+)", log)} == valid, replica.name
            assert {int(at) for at in re.findall(r"refused at=\S+@(\d+)", log)} >= refused, replica.name
            assert "late switch" not in log
            assert "Traceback" not in log
        assert [replica.terminate() for replica in replicas] == [0, 0, 0]
