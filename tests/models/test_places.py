from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from models.candle_files import read_candles
from models.candle_report import run_check
from models.candle_stats import dataset_stats
from models.errors import CandlewickError
from models.parquet_writing import make_dataset, merge_rows, write_dataset
from models.places import RemotePath, place
from models.series import Series
from tests.models.test_parquet_writing import START, assert_same, make_table
from tests.models.test_series_rows import rows_at

TRACES = "s3://key:secret@bucket/folder"


@pytest.fixture
def remote() -> RemotePath:
    found = place(f"memory://{uuid4().hex}")
    assert isinstance(found, RemotePath)
    return found


def test_place_of_a_url_or_of_a_path_made_of_one_is_remote() -> None:
    assert place("s3://bucket/a/b") == place(Path("s3://bucket/a/b")) == RemotePath("s3://bucket/a/b")
    assert place("a/b") == place(Path("a/b")) == Path("a/b")
    assert place("file:///data/a") == Path("/data/a")


def test_remote_path_never_shows_credentials() -> None:
    path = RemotePath(TRACES) / "exchange=binance"
    assert str(path) == "s3://bucket/folder/exchange=binance"
    assert "secret" not in repr(path)


def test_remote_path_of_an_unknown_protocol_or_missing_library_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CandlewickError, match=r"nope:// is no protocol of fsspec; use a folder, or s3://bucket/folder"):
        read_candles([place("nope://bucket/a")])

    def lacks(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacks)
    with pytest.raises(CandlewickError, match=r"s3:// needs a library that is not installed: pip install 'candlewick"):
        read_candles([place(TRACES)])


def test_remote_dataset_reads_back_the_same_table(remote: RemotePath) -> None:
    table = make_table()
    write_dataset(table, remote)
    write_dataset(table, remote)
    assert_same(read_candles([remote]), table)
    assert_same(read_candles([remote / "exchange=binance"]), table)
    assert dataset_stats([remote], START)["totals"]["rows"] == table.rows


def test_remote_dataset_is_checked_and_told_like_a_local_one(
    remote: RemotePath, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(make_table(), remote)
    run_check({"paths": [Path(str(remote))], "exchange": "binance", "timeframe": None}, as_json=True)
    assert json.loads(capsys.readouterr().out)["totals"]["series"] == 2


def test_remote_dataset_takes_higher_revisions_only(remote: RemotePath) -> None:
    series = Series("binance", "S0/USDT", "1m")
    merge_rows(remote, series, rows_at([0, 1], revision=0, price=100.0))
    merge_rows(remote, series, rows_at([0, 1, 2], revision=0, price=200.0))
    merge_rows(remote, series, rows_at([1], revision=2, price=300.0))
    merge_rows(remote, series, rows_at([1], revision=1, price=400.0))
    table = read_candles([remote], timeframe="1m")
    np.testing.assert_array_equal(table.ohlcv[3, 0], [100.0, 300.0, 200.0])


def test_remote_dataset_that_is_something_else_is_refused(remote: RemotePath) -> None:
    (remote / "prices.csv").write_bytes(b"x")
    with pytest.raises(CandlewickError, match=r"holds prices\.csv and is no dataset of ours"):
        make_dataset(remote)
    with pytest.raises(CandlewickError, match="of a URL only those are read"):
        read_candles([remote])
    with pytest.raises(CandlewickError, match="does not exist"):
        read_candles([remote / "none"])


def test_remote_store_that_refuses_says_so_without_credentials(
    remote: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RefusedError(Exception):
        pass

    def refuse(self: object, path: str, data: bytes = b"", **options: object) -> None:
        raise RefusedError(f"Access denied for {TRACES}")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.raises(CandlewickError, match=r"cannot be written \(Access denied for s3://bucket/folder\)"):
        make_dataset(remote)


def test_remote_part_that_others_change_again_and_again_is_given_up(
    remote: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = iter(range(100))
    monkeypatch.setattr(RemotePath, "stamp", lambda self: str(next(stamps)))
    with pytest.raises(CandlewickError, match="was changed by others 5 times; let one process at a time write"):
        write_dataset(make_table(), remote)
