from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from models.errors import CandlewickError
from streaming import supervise
from streaming.command_line import Commands
from streaming.ledger import Fenced
from streaming.supervise import MAX_DELAY_S, MAX_RESTARTS, SHUT_OUT, WINDOW_S, Child, Restarts
from tests.models.candle_records import laws

DEADLINE_S = 30


def child(folder: Path, script: str) -> Child:
    return Child("tiny", ["sh", "-c", script], {**os.environ, "FOLDER": str(folder)}, folder / "logs" / "tiny.log")


def within_deadline(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, DEADLINE_S))


async def comes_true(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - files and processes set no event; the deadline is the whole test's
        await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- the bound on restarts


def test_restarts_of_a_crash_loop_double_their_delay_and_end() -> None:
    restarts = Restarts()
    assert [restarts.next_delay_s(float(second)) for second in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, None, None]


def test_restarts_that_are_rare_go_on_for_ever() -> None:
    restarts = Restarts()
    assert {restarts.next_delay_s(i * (WINDOW_S / MAX_RESTARTS + 1)) for i in range(100)} <= {0.5, 1.0, 2.0, 4.0, 8.0}


def test_restarts_after_the_window_begin_anew() -> None:
    restarts = Restarts()
    for _ in range(MAX_RESTARTS):
        restarts.next_delay_s(0.0)
    assert restarts.next_delay_s(WINDOW_S) is None
    assert restarts.next_delay_s(WINDOW_S + 0.1) == 0.5


def test_restarts_of_one_that_is_shut_out_end_at_the_second_time_within_the_window() -> None:
    restarts = Restarts()
    assert restarts.next_delay_s(0.0, SHUT_OUT) == 0.5
    assert restarts.next_delay_s(WINDOW_S + 1, SHUT_OUT) == 0.5
    assert restarts.next_delay_s(WINDOW_S + 2, 1) == 1.0
    assert restarts.next_delay_s(WINDOW_S + 3, SHUT_OUT) is None


@laws
@given(pauses=st.lists(st.sampled_from([0.0, 1.0, 90.0, 149.0, 150.0, 600.0, 601.0]), max_size=40))
def test_restarts_never_exceed_the_bound_in_any_window(pauses: list[float]) -> None:
    restarts, allowed, now_s = Restarts(), list[float](), 0.0
    for pause in pauses:
        now_s += pause
        recent = [at for at in allowed if now_s - at <= WINDOW_S]
        delay_s = restarts.next_delay_s(now_s)
        assert (delay_s is None) == (len(recent) >= MAX_RESTARTS)
        if delay_s is not None:
            assert 0 < delay_s <= MAX_DELAY_S
            allowed.append(now_s)


# --- a real process


def test_fenced_ledger_ends_its_process_with_the_code_that_the_supervisor_knows() -> None:
    @click.group(cls=Commands)
    def main() -> None: ...

    @main.command()
    def write() -> None:
        raise Fenced("another process took over")

    done = CliRunner().invoke(main, ["write"])
    assert (done.exit_code, done.stderr) == (SHUT_OUT, "candlewick: another process took over\n")


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_DELAY_S", 0.001)


@pytest.mark.usefixtures("no_patience")
def test_child_that_is_killed_is_started_again_and_ready_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = child(tmp_path, 'echo \'{"ready": ["tiny"]}\'; exec sleep 60')
        keeper = asyncio.create_task(kept.keep())
        await kept.ready.wait()
        first = kept.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await comes_true(lambda: kept.restarts == 1 and kept.ready.is_set())
        assert kept.pid not in (None, first)
        await kept.stop()
        await keeper

    within_deadline(scenario())


def test_child_is_ready_only_once_it_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        os.mkfifo(tmp_path / "pipe")
        said = """echo not json; echo '{"other": 1}'; read line < "$FOLDER/pipe"; echo '{"ready": []}'"""
        kept = child(tmp_path, f"{said}; exec cat")
        keeper = asyncio.create_task(kept.keep())
        with await asyncio.to_thread((tmp_path / "pipe").open, "w") as pipe:  # waits until it reads
            assert not kept.ready.is_set()
            pipe.write("go on\n")
        await kept.ready.wait()
        await kept.stop()
        await keeper
        assert not kept.ready.is_set()

    within_deadline(scenario())


@pytest.mark.usefixtures("no_patience")
def test_child_that_cannot_be_kept_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = child(tmp_path, "for i in 1 2 3 4 5 6 7 8 9; do echo line $i >&2; done; echo no luck >&2; exit 3")
        with pytest.raises(CandlewickError, match=r"tiny ended 6 times within 10 minutes.*code 3") as given_up:
            await kept.keep()
        assert str(given_up.value).endswith("line 8\nline 9\nno luck")
        assert len(str(given_up.value).splitlines()) == 1 + 12
        assert kept.restarts == MAX_RESTARTS
        assert kept.pid is None

    within_deadline(scenario())


@pytest.mark.usefixtures("no_patience")
def test_child_that_says_what_a_person_can_mend_is_given_up_with_that_line_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = child(tmp_path, "echo Traceback >&2; echo candlewick: there is no symbol NOPE/USDT >&2; exit 1")
        with pytest.raises(CandlewickError) as given_up:
            await kept.keep()
        log = tmp_path / "logs" / "tiny.log"
        assert str(given_up.value) == (
            "tiny ended 6 times within 10 minutes, the last time with code 1; "
            f"it says: there is no symbol NOPE/USDT (its log is {log})"
        )

    within_deadline(scenario())


@pytest.mark.usefixtures("no_patience")
def test_child_that_another_one_shuts_out_again_is_given_up_after_one_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = child(tmp_path, f"echo another process took over >&2; exit {SHUT_OUT}")
        with pytest.raises(CandlewickError, match=r"tiny was shut out again.*stop one of them") as given_up:
            await kept.keep()
        assert str(given_up.value).endswith("another process took over")
        assert kept.restarts == 1

    within_deadline(scenario())


def test_child_that_is_stopped_ends_and_is_not_started_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = child(
            tmp_path, """trap 'echo drained >&2; exit 0' TERM; echo '{"ready": []}'; while :; do read x; done"""
        )
        keeper = asyncio.create_task(kept.keep())
        await kept.ready.wait()
        pid = kept.pid
        assert pid is not None
        await kept.stop()
        await keeper
        assert not is_running(pid)
        assert (kept.pid, kept.restarts) == (None, 0)
        assert "drained" in (tmp_path / "logs" / "tiny.log").read_text()
        await kept.stop()  # once more does no harm

    within_deadline(scenario())


@pytest.mark.parametrize("timeout_s", [0.1, 600.0])
def test_child_that_ignores_its_stop_is_killed(
    timeout_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, or once that is cancelled by a second Ctrl-C: it lived on after the process that kept it."""
    monkeypatch.setattr(supervise, "STOP_TIMEOUT_S", timeout_s)

    async def scenario() -> None:
        kept = child(tmp_path, """trap '' TERM; echo '{"ready": []}'; while :; do read x; done""")
        keeper = asyncio.create_task(kept.keep())
        await kept.ready.wait()
        pid = kept.pid
        assert pid is not None
        stopping = asyncio.create_task(kept.stop())
        await asyncio.sleep(0)
        if timeout_s > DEADLINE_S:
            stopping.cancel()
        await asyncio.wait([stopping])
        await keeper
        assert not is_running(pid)

    within_deadline(scenario())


def test_child_has_a_pipe_on_its_stdin_that_ends_with_its_parent(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = child(tmp_path, """echo '{"ready": []}'; read x; echo "the parent is gone" >&2; exec sleep 60""")
        keeper = asyncio.create_task(kept.keep())
        await kept.ready.wait()
        assert kept._process is not None
        assert kept._process.stdin is not None
        kept._process.stdin.close()  # as the system does when the parent dies
        log = tmp_path / "logs" / "tiny.log"
        await comes_true(lambda: "the parent is gone" in log.read_text())
        await kept.stop()
        await keeper

    within_deadline(scenario())


@pytest.mark.usefixtures("no_patience")
def test_log_of_a_child_that_grew_too_large_is_put_aside_at_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "LOG_BYTES", 10)

    async def scenario() -> None:
        with pytest.raises(CandlewickError, match=r"the end of .*tiny\.log:\nmore than ten bytes$"):
            await child(tmp_path, "echo more than ten bytes >&2; exit 1").keep()

    within_deadline(scenario())
    assert (tmp_path / "logs" / "tiny.log.1").read_text() == "more than ten bytes\n"


def test_log_of_a_child_that_grows_too_large_is_put_aside_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "LOG_BYTES", 1_000)
    monkeypatch.setattr(supervise, "LOG_LOOK_S", 0.01)
    aside = tmp_path / "logs" / "tiny.log.1"

    async def scenario() -> None:
        endless = child(tmp_path, "while :; do echo one more line >&2; sleep 0.001; done")
        keeper = asyncio.create_task(endless.keep())
        await comes_true(lambda: aside.exists() and aside.stat().st_size > 1_000)
        size = aside.stat().st_size
        await comes_true(lambda: aside.stat().st_size != size)  # once more: it went on in a file that began anew
        await endless.stop()
        await keeper

    within_deadline(scenario())


def test_child_whose_own_child_outlives_it_is_started_again_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = child(tmp_path, """sleep 60 & echo $! >> "$FOLDER/orphans"; echo '{"ready": []}'; wait""")
        keeper = asyncio.create_task(kept.keep())
        await kept.ready.wait()
        assert kept.pid is not None
        os.kill(kept.pid, signal.SIGKILL)
        await comes_true(lambda: kept.restarts == 1 and kept.ready.is_set())
        await kept.stop()
        await keeper
        orphans = (tmp_path / "orphans").read_text().split()
        assert len(orphans) == 2
        await comes_true(lambda: not any(is_running(int(pid)) for pid in orphans))

    within_deadline(scenario())


def test_child_that_is_stopped_as_it_begins_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = child(tmp_path, "exec sleep 60")
        keeper = asyncio.create_task(kept.keep())
        await asyncio.sleep(0)  # it has begun to begin
        await kept.stop()
        await keeper

    within_deadline(scenario())


def test_child_that_is_stopped_between_tries_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_DELAY_S", MAX_DELAY_S)

    async def scenario() -> None:
        kept = child(tmp_path, "exit 1")
        keeper = asyncio.create_task(kept.keep())
        await comes_true(lambda: kept.restarts == 1)
        await kept.stop()
        await asyncio.wait_for(keeper, MAX_DELAY_S / 2)

    within_deadline(scenario())


@pytest.mark.parametrize("noise", ["echo 5", "echo '\"already\"'", "head -c 300000 /dev/zero | tr '\\0' x; echo"])
def test_child_that_says_something_odd_before_it_is_ready_is_kept(noise: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = child(tmp_path, f"""{noise}; echo '{{"ready": []}}'; exec sleep 60""")
        keeper = asyncio.create_task(kept.keep())
        await asyncio.wait([keeper, asyncio.create_task(kept.ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        assert kept.ready.is_set()
        await kept.stop()
        await keeper

    within_deadline(scenario())
