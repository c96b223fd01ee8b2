from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest

from models import candle_csv
from models.candle_files import read_candles
from models.errors import CandlewickError
from tests.models.test_candle_files import HEADER, candle_lines, write


@pytest.mark.parametrize("block", [150, 1_000, 5_000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_read_candles_in_blocks_of_any_size_is_the_same_to_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: str
) -> None:
    lines = [*candle_lines(bars=range(100)), "", "nonsense", *candle_lines("ETHUSDT", range(100)), "7,BTCUSDT"]
    path = tmp_path / "a.csv"
    path.write_bytes(end.join([HEADER, *lines]).encode())
    monkeypatch.setattr(candle_csv, "BLOCK_BYTES", block)
    table = read_candles([path])
    assert [(bad.line, bad.reason[:12]) for bad in table.rejected] == [(103, "not a candle"), (204, "not a candle")]
    assert table.ohlcv.shape == (5, 2, 100)
    np.testing.assert_array_equal(table.ohlcv[:, 1, 70], [170, 173, 169, 171, 70.5])


def test_read_candles_of_one_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candle_csv, "BLOCK_BYTES", 1_000)
    with pytest.raises(CandlewickError, match=r"line 42 is longer than 1,000 bytes"):
        read_candles([write(tmp_path / "a.csv", [*candle_lines(), "x" * 5_000])])


def test_read_candles_row_by_row_reads_the_same_numbers_as_at_once(tmp_path: Path) -> None:
    lines = [line.replace("101", "101.123456789012345") for line in candle_lines()]
    at_once = read_candles([write(tmp_path / "a.csv", lines)])
    row_by_row = read_candles([write(tmp_path / "b.csv", [*lines[:20], "", *lines[20:]])])
    np.testing.assert_array_equal(at_once.ohlcv, row_by_row.ohlcv)


def test_read_candles_cut_xz_file_of_candles_is_told_not_half_read(tmp_path: Path) -> None:
    text = "\n".join([HEADER, *candle_lines(bars=range(3_000))])
    whole = lzma.compress(text.encode())
    for length in (len(whole) - 20, len(whole) // 2, 30):
        (tmp_path / "a.csv.xz").write_bytes(whole[:length])
        with pytest.raises(CandlewickError, match=r"a\.csv\.xz cannot be read .*fetch or write it again"):
            read_candles([tmp_path])


def test_read_candles_of_xz_with_other_column_order_is_the_same(tmp_path: Path) -> None:
    plain = read_candles([write(tmp_path / "a.csv", candle_lines())])
    turned = [",".join(line.split(",")[::-1]) + ",extra" for line in candle_lines()]
    text = "\n".join([",".join(HEADER.split(",")[::-1]) + ",more", *turned])
    (tmp_path / "b.csv.xz").write_bytes(lzma.compress(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()))
    np.testing.assert_array_equal(read_candles([tmp_path / "b.csv.xz"]).ohlcv, plain.ohlcv)
