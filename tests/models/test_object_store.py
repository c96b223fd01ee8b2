"""Datasets on a server of the shape of S3, through s3fs as a person would have it."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator

import pytest

from models.candle_dataset import newest_open
from models.candle_files import read_candles
from models.candle_stats import dataset_stats
from models.errors import CandlewickError
from models.parquet_writing import make_dataset, write_dataset
from models.places import RemotePath, place
from models.series import Series
from tests.models.test_parquet_writing import START, assert_same, make_table

s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")
server_of = pytest.importorskip("moto.server", reason="no server of the shape of S3: moto[server] is not installed")

SECRET = "wJalr-not-a-real-secret"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = server_of.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> RemotePath:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"candles-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem().mkdir(name)
    found = place(f"s3://{name}/dataset")
    assert isinstance(found, RemotePath)
    return found


def test_dataset_on_s3_reads_back_the_same_table(bucket: RemotePath) -> None:
    table = make_table()
    make_dataset(bucket)
    for first, stop in ((0, 150), (120, 300)):
        write_dataset(table.since(START + first * 60_000).until(START + stop * 60_000), bucket)
    assert_same(read_candles([bucket]), table)
    assert dataset_stats([bucket], START)["totals"]["rows"] == table.rows
    assert newest_open(bucket, Series("binance", "S0/USDT", "1m")) == table.open_time_ms[table.present[0]][-1]


def test_dataset_on_s3_of_no_bucket_says_so_without_credentials(
    bucket: RemotePath, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = place("s3://no-such-bucket-at-all/dataset")
    with caplog.at_level(logging.INFO), pytest.raises(CandlewickError, match=r"s3://no-such-bucket.* does not exist"):
        read_candles([nowhere])
    with pytest.raises(CandlewickError, match=r"s3://no-such-bucket.* cannot be written") as refused:
        write_dataset(make_table(), nowhere)
    assert SECRET not in caplog.text + str(refused.value)
    assert SECRET in os.environ["AWS_SECRET_ACCESS_KEY"]
