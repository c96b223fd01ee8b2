"""Candles of the topic into a dataset, on real Kafka: each once, whatever dies on the way."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import dataset as arrow
from pyarrow import parquet

from models.candle_files import read_candles
from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.events import Candle
from models.folder_lock import alone
from models.parquet_writing import merge_rows
from models.places import place
from models.series import Series
from streaming.clients import new_admin, started
from streaming.committed import committed_offsets
from streaming.embedded_kafka import EmbeddedKafka
from streaming.history.archive import ArchiveOptions, Archiver, run_archive
from streaming.history.spool import ARCHIVE, Spool
from streaming.metrics import OF_ROLE
from streaming.scrape import free_ports
from streaming.settings import Settings
from streaming.topics import init_topics
from tests.e2e.system import run, settings_of
from tests.eventually import eventually
from tests.models.candle_records import START_SLOT, make_absent, make_candle
from tests.models.test_series_rows import rows_at
from tests.streaming.history.topic_candles import SERIES, bars, send

ROOT = Path(__file__).parents[3]
BARS = 40


def archived(settings: Settings, out: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    """Archive up to the end; what the command says."""
    capsys.readouterr()
    run(run_archive(settings, ArchiveOptions(out, once=True, **options), as_json=True))
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def assert_holds(out: Path, candles: Iterable[Candle]) -> CandleTable:
    """Every candle once, for readers of ours and of Arrow's, and none that is not there."""
    expected = {(candle.symbol, candle.open_time_ms): candle.close for candle in candles}
    table = read_candles([out], timeframe="1m")
    assert table.rejected == ()
    found = {
        (symbol, int(time)): close
        for i, symbol in enumerate(table.symbols)
        for time, close in zip(table.open_time_ms, table.ohlcv[3, i], strict=True)
        if np.isfinite(close)
    }
    assert found == expected
    assert arrow.dataset(out, partitioning="hive").to_table(columns=["timestamp_ms"]).num_rows == len(expected)
    return table


async def committed(settings: Settings) -> dict[int, int]:
    async with started(new_admin(settings)) as admin:
        found = await committed_offsets(admin, settings.group("archive"))
    return {tp.partition: at.offset for tp, at in found.items()}


def on_the_way(out: Path) -> list[str]:
    return sorted(path.name for path in (out / ARCHIVE).rglob("*.parquet*"))


def test_archive_of_transactions_has_every_candle_once_and_reads_on_from_there(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "d"
    run(send(settings, bars(0, BARS)))
    assert archived(settings, out, capsys)["candles"] == 5 * BARS
    assert_holds(out, bars(0, BARS))
    assert archived(settings, out, capsys) == {"out": str(out), "candles": 0, "left_out": {}}
    run(send(settings, bars(BARS, BARS + 3)))
    assert archived(settings, out, capsys)["candles"] == 15
    assert_holds(out, bars(0, BARS + 3))
    assert on_the_way(out) == []
    marks = {int(path.parent.name): int(path.stem) for path in (out / ARCHIVE).rglob("*.json")}
    assert run(committed(settings)) == marks


def test_archive_of_an_aborted_transaction_has_nothing_of_it(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(send(settings, bars(0, 2)))
    run(send(settings, bars(2, 4), abort=True))
    archived(settings, tmp_path / "d", capsys)
    assert_holds(tmp_path / "d", bars(0, 2))


def test_archive_takes_the_highest_revision_whenever_it_comes(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, (first, second) = tmp_path / "d", SERIES[:2]
    run(send(settings, bars(0, 3)))
    run(send(settings, [make_candle(first, START_SLOT, close=101.5, revision=2)]))
    archived(settings, out, capsys)
    later = [
        make_candle(first, START_SLOT, close=99.5, revision=1),
        make_candle(second, START_SLOT + 1, close=102.0, revision=1),
    ]
    run(send(settings, later))
    archived(settings, out, capsys)
    expected = {(candle.symbol, candle.close_time_ms): candle for candle in bars(0, 3)}
    for candle in (make_candle(first, START_SLOT, close=101.5), make_candle(second, START_SLOT + 1, close=102.0)):
        expected[candle.symbol, candle.close_time_ms] = candle
    assert_holds(out, expected.values())


def test_archive_leaves_out_what_is_no_exchanges_word_and_says_so(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [
        *bars(5, 7, origin="replayed"),
        *bars(7, 8, origin="injected"),
        make_absent(SERIES[0], START_SLOT + 9),
        make_candle(SERIES[0], START_SLOT + 10, low=-1.0),
        make_candle(Series("binance", "Ä/USDT", "1m"), START_SLOT),
    ]
    run(send(settings, [*bars(0, 3), *bars(3, 4, origin="repaired"), *bars(4, 5, origin="backfilled"), *odd]))
    said = archived(settings, tmp_path / "own", capsys)
    assert said["left_out"] == {
        "replayed": 10, "injected": 5, "absent": 1, "invalid": 1, "of a symbol that no file can name": 1
    }  # fmt: skip
    assert_holds(tmp_path / "own", bars(0, 5))
    archived(settings, tmp_path / "own", capsys, with_replayed=True)
    assert_holds(tmp_path / "own", bars(0, 8))


def test_archive_beside_backfilled_candles_lets_them_stand_unless_revised(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opens = bars(0, 2)[0].open_time_ms
    backfilled = rows_at([0, 1], price=77.0)._replace(open_time_ms=np.array([opens, opens + 60_000]))
    merge_rows(tmp_path / "d", SERIES[0], backfilled)
    revised = make_candle(SERIES[0], START_SLOT + 1, close=102.0, revision=1)
    run(send(settings, [*bars(0, 2), revised]))
    archived(settings, tmp_path / "d", capsys)
    table = read_candles([tmp_path / "d"], timeframe="1m")
    assert table.ohlcv[3, 0].tolist() == [77.0, 102.0]


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from streaming.history import archive, spool
from tests.e2e.system import settings_of
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
out, bootstrap, prefix, moment = sys.argv[1:]
if moment == "between file and commit":
    archive.Archiver._commit = die
elif moment == "between parts":
    merge = spool.merge_rows
    def once(*args):
        spool.merge_rows = die
        merge(*args)
    spool.merge_rows = once
elif moment == "before the mark":
    spool.whole = die
elif moment == "after the mark":
    unlink = Path.unlink
    Path.unlink = lambda path, **k: die() if path.parent.parent.parent.name == "_archive" else unlink(path, **k)
settings = settings_of(bootstrap, prefix, Path(out).parent, partitions=3)
asyncio.run(archive.run_archive(settings, archive.ArchiveOptions(Path(out), once=True), True))
"""
MOMENTS = {"between file and commit": 3, "between parts": 3, "before the mark": 3,
           "after the mark": 3}  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
def test_archive_killed_at_any_moment_doubles_nothing_and_loses_nothing(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], moment: str
) -> None:
    out = tmp_path / "d"
    run(send(settings, bars(0, 10)))
    words = [str(out), str(settings.kafka.bootstrap_servers), settings.kafka.topic_prefix, moment]
    died = subprocess.run([sys.executable, "-c", KILLED, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == -9, died.stderr
    assert len(on_the_way(out)) == MOMENTS[moment]
    run(send(settings, bars(10, 12)))  # so that the next run reads farther than the one that died
    archived(settings, out, capsys)
    assert_holds(out, bars(0, 12))
    assert on_the_way(out) == []


def test_archive_of_another_topic_of_the_same_name_is_refused(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], kafka: EmbeddedKafka
) -> None:
    out = tmp_path / "d"
    run(send(settings, bars(0, 4)))
    archived(settings, out, capsys)
    other = settings_of(kafka.bootstrap, f"o{settings.kafka.topic_prefix}", tmp_path, partitions=3)
    run(init_topics(other))
    (out / ARCHIVE / settings.topic("candles")).rename(out / ARCHIVE / other.topic("candles"))
    for own in ([], bars(50, 60)):  # shorter, and longer than what was read
        run(send(other, own))
        with pytest.raises(
            CandlewickError, match=r"is not the topic that this dataset was filled from.*another folder"
        ):
            archived(other, out, capsys)
    assert_holds(out, bars(0, 4))


def test_archive_beside_another_archiver_is_refused(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "d"
    archived(settings, out, capsys)
    with alone(out / ARCHIVE), pytest.raises(CandlewickError, match=r"another process writes into .*_archive"):
        archived(settings, out, capsys)


def test_archive_into_a_folder_that_cannot_be_written_says_so(settings: Settings) -> None:
    with pytest.raises(CandlewickError, match=r"/proc/none/d cannot be written .*; name another place"):
        run(run_archive(settings, ArchiveOptions("/proc/none/d", once=True), as_json=True))


def test_archive_into_an_object_store_is_the_same(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place(f"memory://{settings.kafka.topic_prefix}")
    run(send(settings, bars(0, 4)))
    for added in (20, 0):
        capsys.readouterr()
        run(run_archive(settings, ArchiveOptions(str(out), once=True), as_json=True))
        said = json.loads(capsys.readouterr().out)
        assert said["candles"] == added
    assert read_candles([out], timeframe="1m").rows == 20


def test_archive_that_stays_writes_what_comes_and_ends_when_cancelled(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, port = tmp_path / "d", free_ports(1)
    before = OF_ROLE["archive"].get_sample_value("candlewick_archived_candles_total") or 0.0

    async def stay() -> None:
        options = ArchiveOptions(out, flush_rows=1, merge_rows=7)
        telling = settings.model_copy(update={"metrics_port": port})
        archiving = asyncio.create_task(run_archive(telling, options, as_json=True))
        for added in range(4):
            await send(settings, bars(added, added + 1))
            await asyncio.to_thread(eventually, partial(holds, out, 5 * (added + 1)))
        await asyncio.to_thread(eventually, partial(tells, port, before + 20))
        archiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await archiving

    run(stay())
    assert json.loads(capsys.readouterr().out) == {"ready": ["archive"]}
    assert on_the_way(out) == []  # it was put into the parts before it ended
    assert_holds(out, bars(0, 4))
    archived(settings, out, capsys)
    assert_holds(out, bars(0, 4))


def tells(port: int, candles: float) -> bool:
    """Whether its metrics say that so many were archived, and that nothing is left to read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        said = answer.read().decode()
    return f"candlewick_archived_candles_total {candles}" in said and "candlewick_archive_lag_records 0.0" in said


def test_archiver_that_stands_still_behind_the_end_ails() -> None:
    archiver = Archiver(None, Spool(place("memory://none"), "candles"), ArchiveOptions("d", stall_s=1e-9))
    assert archiver.ailment() is None  # at the end there is nothing to read
    archiver._lag = 7
    assert "7 records behind" in str(archiver.ailment())


def holds(out: Path, candles: int) -> bool:
    """Whether there are so many candles in files of either kind."""
    try:
        rows = sum(parquet.read_metadata(path).num_rows for path in out.rglob("*.parquet"))
    except FileNotFoundError:  # joined with the parts just now
        return False
    return bool(rows >= candles)
