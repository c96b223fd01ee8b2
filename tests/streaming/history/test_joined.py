"""A dataset and the topic's tail as one table, on real Kafka."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.candle_files import read_candles
from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.events import Candle
from models.parquet_writing import merge_rows
from models.places import Place
from models.series import Series
from models.series_rows import SeriesRows
from streaming.embedded_kafka import EmbeddedKafka
from streaming.export import Wanted, export, oldest_known
from streaming.history.archive import ArchiveOptions, run_archive
from streaming.history.joined import Tail, oldest_close_in, topic_rows, with_topic
from streaming.settings import Settings
from streaming.topics import init_topics
from tests.e2e.system import run, settings_of
from tests.models.candle_records import START_SLOT, make_candle
from tests.streaming.history.topic_candles import PARTITIONS, SERIES, bars, send

MINUTE = 60_000


def keep(out: Path, candles: Sequence[Candle]) -> Path:
    """What a backfill would have left."""
    for series in SERIES:
        own = [candle for candle in candles if candle.symbol == series.symbol]
        ohlcv = np.array([[c.open, c.high, c.low, c.close, c.volume] for c in own], np.float64).T
        times = np.array([candle.open_time_ms for candle in own], np.int64)
        merge_rows(out, series, SeriesRows(times, ohlcv, np.array([candle.revision for candle in own], np.int32)))
    return out


def closes(table: CandleTable) -> dict[tuple[str, int], float]:
    at = np.argwhere(table.present).tolist()
    return {(table.symbols[i], int(table.open_time_ms[t])): float(table.ohlcv[3, i, t]) for i, t in at}


def expected(*said: Sequence[Candle]) -> dict[tuple[str, int], float]:
    """What the later ones say stands."""
    return {(c.symbol, c.open_time_ms): c.close or 0.0 for candles in said for c in candles}


def joined(settings: Settings, *paths: Place, with_replayed: bool = False) -> CandleTable:
    with with_topic(settings, paths, "binance", None, with_replayed) as files:
        table = read_candles(files)
    assert table.rejected == ()
    return table


def test_with_topic_of_overlapping_halves_has_every_candle_once(settings: Settings, tmp_path: Path) -> None:
    dataset = keep(tmp_path / "d", bars(0, 30))
    run(send(settings, bars(20, 50)))
    table = joined(settings, dataset)
    assert closes(table) == expected(bars(0, 50))
    assert table.present.all()


def test_with_topic_conflicts_go_to_the_higher_revision_else_to_the_dataset(settings: Settings, tmp_path: Path) -> None:
    series = SERIES[0]
    held = [
        make_candle(series, START_SLOT, close=99.5),
        make_candle(series, START_SLOT + 1, close=99.5),
        make_candle(series, START_SLOT + 2, close=99.5, revision=3),
    ]
    dataset = keep(tmp_path / "d", [*held, *bars(10, 11)])
    said = [make_candle(series, START_SLOT + i, close=102.0, revision=i) for i in range(3)]
    run(send(settings, said))
    found = closes(joined(settings, dataset))
    assert found == expected(bars(10, 11), held, said[1:2])


def test_with_topic_leaves_out_what_was_replayed_unless_asked(settings: Settings, tmp_path: Path) -> None:
    dataset = keep(tmp_path / "d", bars(0, 10))
    run(send(settings, [*bars(10, 12, origin="replayed"), *bars(12, 14)]))
    assert closes(joined(settings, dataset)) == expected(bars(0, 10), bars(12, 14))
    assert closes(joined(settings, dataset, with_replayed=True)) == expected(bars(0, 14))


def test_with_topic_beside_its_archive_reads_only_what_came_after(settings: Settings, tmp_path: Path) -> None:
    dataset = tmp_path / "d"
    run(send(settings, bars(0, 20)))
    run(run_archive(settings, ArchiveOptions(dataset, once=True), as_json=True))
    run(send(settings, [*bars(20, 25), make_candle(SERIES[1], START_SLOT + 3, close=99.5, revision=1)]))
    tail = run(topic_rows(settings, Tail("binance", "1m"), [dataset]))
    assert sum(len(own.open_time_ms) for own in tail.values()) == 26
    revised = [make_candle(SERIES[1], START_SLOT + 3, close=99.5)]
    assert closes(joined(settings, dataset)) == expected(bars(0, 25), revised)


def test_with_topic_beside_an_archive_of_another_topic_reads_all(
    settings: Settings, tmp_path: Path, kafka: EmbeddedKafka
) -> None:
    dataset = tmp_path / "d"
    other = settings_of(kafka.bootstrap, f"o{settings.kafka.topic_prefix}", tmp_path, partitions=PARTITIONS)
    run(init_topics(other))
    run(send(other, bars(0, 5)))
    run(run_archive(other, ArchiveOptions(dataset, once=True), as_json=True))
    (dataset / "_archive" / other.topic("candles")).rename(dataset / "_archive" / settings.topic("candles"))
    run(send(settings, bars(5, 20)))
    assert closes(joined(settings, dataset)) == expected(bars(0, 20))


def test_with_topic_after_a_hole_says_which_bars_nobody_has(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = keep(tmp_path / "d", bars(0, 10))
    run(send(settings, bars(15, 20)))
    with caplog.at_level(logging.WARNING):
        joined(settings, dataset)
    assert "neither dataset nor topic has bars series=binance|S0/USDT|1m bars=5" in caplog.text


def test_with_topic_of_an_empty_topic_is_the_files_alone(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = keep(tmp_path / "d", bars(0, 10))
    with caplog.at_level(logging.WARNING):
        assert closes(joined(settings, dataset)) == expected(bars(0, 10))
    assert "the topic holds no candle of binance 1m beyond the files" in caplog.text


def test_with_topic_of_files_of_no_timeframe_asks_for_it(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp_ms,symbol,open,high,low,close,volume\n")
    with (
        pytest.raises(CandlewickError, match="--timeframe must be named"),
        with_topic(settings, [tmp_path / "a.csv"], "binance", None),
    ):
        pass


@pytest.mark.parametrize("name", ["c.csv", "c.parquet"])
def test_export_beside_a_dataset_has_what_either_has(settings: Settings, tmp_path: Path, name: str) -> None:
    dataset = keep(tmp_path / "d", bars(0, 30))
    run(send(settings, [*bars(20, 50), make_candle(SERIES[2], START_SLOT + 25, close=99.5, revision=1)]))
    first, last = ((START_SLOT + i) * MINUTE for i in (10, 45))
    done = run(export(settings, Wanted("1m", first, last, dataset), tmp_path / name))
    revised = [make_candle(SERIES[2], START_SLOT + 25, close=99.5)]
    assert closes(read_candles([tmp_path / name])) == expected(bars(10, 46), revised)
    assert (done.candles, done.first_close_ms, done.last_close_ms) == (5 * 36, first, last)


def test_export_beside_a_dataset_that_is_none_says_so(settings: Settings, tmp_path: Path) -> None:
    run(send(settings, bars(0, 5)))
    with pytest.raises(CandlewickError, match=r"none is no dataset; `candlewick backfill` and"):
        run(export(settings, Wanted("1m", 0, 2**50, tmp_path / "none"), tmp_path / "c.csv"))


def test_oldest_close_in_a_dataset_is_of_the_series_asked_for(tmp_path: Path) -> None:
    keep(tmp_path / "d", bars(3, 6))
    assert oldest_close_in(tmp_path / "d", SERIES) == (START_SLOT + 3) * MINUTE
    assert oldest_close_in(tmp_path / "d", [Series("okx", "S0/USDT", "1m")]) is None


def test_oldest_known_is_the_older_of_topic_and_dataset(settings: Settings, tmp_path: Path) -> None:
    dataset = keep(tmp_path / "d", bars(0, 10))
    assert run(oldest_known(settings, MINUTE, None)) is None
    run(send(settings, bars(8, 20)))
    assert run(oldest_known(settings, MINUTE, None)) == (START_SLOT + 8) * MINUTE
    assert run(oldest_known(settings, MINUTE, dataset)) == START_SLOT * MINUTE
    with pytest.raises(CandlewickError, match="is no dataset"):
        run(oldest_known(settings, MINUTE, tmp_path / "none"))
