"""What people give by mistake, at the command line: one line that names the mend, exit code 1, nothing left behind.

The same below the command line: `test_command`, `test_candle_files`, `test_dataset`, `test_bundle`, `test_judge`.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save as save_tensors

from candlewick import main
from models.bundle import load, save
from models.candle_table import CandleTable
from tests.models.make_bundle import make_bundle
from tests.training.make_candles import START_MS, make_table, write_csv

ROOT = Path(__file__).parents[2]
FULL_DISK_BYTES = 8_192
BLOB = make_bundle(hidden=4, lookback=8)


def refusal_of(*words: object) -> str:
    """What a command says as it refuses: the last line on stderr, with no more than a bar of progress before it."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit)  # nothing else came through
    assert done.stdout == ""
    *before, line = done.stderr.splitlines()
    assert line.startswith("candlewick: ")
    assert [text for text in before if text.strip() and "reading candles" not in text] == []
    return line.removeprefix("candlewick: ")


def train_refusal(candles: Path, out: Path, *more: object) -> str:
    said = refusal_of("train", "--candles", candles, "--out", out, *more)
    assert not out.exists() or not list(out.iterdir())
    return said


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def short(folder: Path) -> Path:
    return write_csv(make_table(900, ("AAA/USDT",)), folder)


def without_numbers(folder: Path) -> Path:
    write_csv(make_table(40, ("AAA/USDT", "BBB/USDT")), folder)
    file = folder / "BBBUSDT.csv"
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header, *(row.rpartition(",")[0] + ",nan" for row in rows)]) + "\n")
    return folder


def standing_still(folder: Path) -> Path:
    table = make_table(1_600, ("AAA/USDT",))
    return write_csv(replace(table, ohlcv=np.full_like(table.ohlcv, 7.0)), folder)


def of_two_timeframes(folder: Path) -> Path:
    table = make_table(100, ("AAA/USDT",))
    write_csv(table, folder)
    return write_csv(_every_fifth(make_table(100, ("BBB/USDT",))), folder)


def _every_fifth(table: CandleTable) -> CandleTable:
    first = -START_MS // 60_000 % 5
    return replace(table, open_time_ms=table.open_time_ms[first::5], ohlcv=table.ohlcv[:, :, first::5])


def cut_off(folder: Path) -> Path:
    write_csv(make_table(40, ("AAA/USDT",)), folder)
    (folder / "BBBUSDT.csv.xz").write_bytes(b"\xfd7zXZ\x00 and then the line went dead")
    return folder


@pytest.mark.parametrize(
    ("made", "options", "told"),
    [
        (empty, [], ["holds no candle file", "put *.csv"]),
        (short, [], ["AAA/USDT: 900 bars in a row, 1567 are needed", "Give more candles"]),
        (short, ["--lookback", 256], ["1759 are needed"]),
        (short, ["--horizon", 1_440], ["3004 are needed (warm-up, lookback, horizon)"]),
        (without_numbers, [], ["BBBUSDT.csv: no number in the whole column volume; mend or leave out the file"]),
        (standing_still, [], ["AAA/USDT: its price never changes", "Give more candles"]),
        (of_two_timeframes, [], ["1m expected, but 5m in", "BBBUSDT.csv", "read one timeframe at a time"]),
        (cut_off, [], ["BBBUSDT.csv.xz cannot be read", "fetch or write it again"]),
    ],
)
def test_train_of_candles_that_cannot_be_used_names_the_mend_and_leaves_nothing(
    tmp_path: Path, made: Callable[[Path], Path], options: list[object], told: list[str]
) -> None:
    said = train_refusal(made(tmp_path / "candles"), tmp_path / "out", *options)
    assert [text for text in told if text not in said] == []


def test_train_of_candles_that_are_not_there_names_them(tmp_path: Path) -> None:
    said = train_refusal(tmp_path / "nowhere", tmp_path / "out")
    assert said.endswith("nowhere does not exist; name a candle file or a folder of them")


BAD_BUNDLES = {
    "truncated": BLOB[:-100],
    "cut in the header": BLOB[:40],
    "empty": b"",
    "text": b"this is no bundle",
    "of another program": save_tensors({"weight": np.zeros(3, np.float32)}),
}


@pytest.fixture(params=BAD_BUNDLES)
def bad_bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(BAD_BUNDLES[request.param])
    return file


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(make_table(40, ("AAA/USDT",)), tmp_path_factory.mktemp("bad") / "candles")


def test_evaluate_of_what_is_no_bundle_names_the_file_and_the_mend(bad_bundle: Path, candles: Path) -> None:
    said = refusal_of("evaluate", "--bundle", bad_bundle, "--candles", candles)
    assert said.startswith(f"{bad_bundle} is no bundle that can be used: ")
    assert "Give a <sha256>.safetensors that candlewick train wrote" in said


def test_judge_against_what_is_no_bundle_names_the_file_and_the_mend(bad_bundle: Path, candles: Path) -> None:
    challenger = save(BLOB, bad_bundle.parent)
    span = ["--candles", candles, "--from", 0, "--until", "2025-05-30"]
    said = refusal_of("judge", "--challenger", challenger, "--champion", bad_bundle, *span)
    assert said.startswith(f"the champion's file {bad_bundle} cannot serve (")
    assert said.endswith("give the one that serves")


def test_publish_of_what_is_no_bundle_is_refused_without_kafka(bad_bundle: Path) -> None:
    said = refusal_of("models", "publish", bad_bundle)
    assert said.startswith(f"{bad_bundle} is no bundle that can be used: ")
    assert "Give a <sha256>.safetensors that candlewick train wrote" in said


def test_publish_of_a_bundle_whose_bytes_are_not_those_of_its_name_says_both(tmp_path: Path) -> None:
    file = tmp_path / f"{'0' * 64}.safetensors"
    file.write_bytes(BLOB)
    assert f"not {'0' * 64}" in refusal_of("models", "publish", file)


def test_predict_with_what_is_no_bundle_writes_no_signals(bad_bundle: Path, candles: Path) -> None:
    out = bad_bundle.parent / "signals.jsonl"
    said = refusal_of("predict", "--bundle", bad_bundle, "--candles", candles, "--out", out)
    assert said.startswith(f"{bad_bundle} is no bundle that can be used: ")
    assert not out.exists()


def test_train_on_a_disk_that_takes_no_more_leaves_the_old_bundle_whole(tmp_path: Path) -> None:
    """The kernel itself refuses to write: no file may grow beyond 8 KiB."""
    out, candles = tmp_path / "out", write_csv(make_table(2_000, ("AAA/USDT", "BBB/USDT")), tmp_path / "candles")
    old = save(BLOB, out)
    (out / "report.json").write_text('{"of": "the old one"}\n')
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    options = ["--hidden", "16", "--members", "1", "--lookback", "16", "--epochs", "1", "--report", "brief"]
    done = subprocess.run(
        [sys.executable, "-c", "import sys, candlewick; candlewick.main()",
         "train", "--candles", candles, "--out", out, *options],
        cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, preexec_fn=_fill_the_disk,
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"candlewick: {out}: the result cannot be kept (File too large); free some space")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert load(old).sha256 == old.stem


def _fill_the_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, FULL_DISK_BYTES))
