from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import load
from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.predictor import WindowedPredictor
from tests.training.make_candles import MINUTE_MS, START_MS, make_table, write_csv
from training.command import TrainOptions, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(make_table(), tmp_path_factory.mktemp("candles"))


def small(candles: Path, out: Path, **options: Any) -> TrainOptions:
    quick = TrainOptions(
        candles=[candles], out=out, hidden=8, lookback=16, epochs=2, members=1, validate="newest", report="brief"
    )
    return replace(quick, **options)


def csv_of(table: CandleTable, folder: Path) -> Path:
    return write_csv(table, folder)


def report_of(bundle: Path) -> dict[str, Any]:
    return dict(json.loads((bundle.parent / "report.json").read_text()))


def test_train_leaves_a_bundle_that_serves_and_a_report_of_it(candles: Path, tmp_path: Path) -> None:
    path = train(small(candles, tmp_path / "new" / "out", report="full"))
    bundle, report = load(path), report_of(path)
    WindowedPredictor(bundle, "cpu")  # holds it to its golden output
    assert {p.name for p in path.parent.iterdir()} == {path.name, "report.json", "report.html", "model-card.md"}
    assert report["bundle"] == bundle.sha256 == path.stem
    assert bundle.spec.model == "default-1m"
    assert bundle.spec.symbols == ("AAA/USDT", "BBB/USDT", "CCC/USDT")
    assert report["proven"] in {"none", "range", "return", "range,return"}
    assert report["proven_reason"]
    assert report["sentinel"]["passed"]
    assert set(report["range"]) >= {
        "crps_vs_vol60", "crps_vs_range_ewma", "crps_vs_har", "crps_vs_lightgbm", "coverage80", "coverage95",
    }  # fmt: skip
    assert set(report["return"]) >= {"crps_vs_baseline", "coverage80"}
    assert set(report["direction"]) >= {"auc", "accuracy", "brier_vs_climatology", "brier_vs_logistic"}
    assert set(report["by_symbol"]) == set(bundle.spec.symbols)
    assert [epoch["epoch"] for epoch in report["training"]["history"]] == [1, 2]
    assert report["rows"]["train"] > report["rows"]["validation"] > 300
    assert report["seconds"] > 0
    assert report["peak_memory_mb"] > 100


def test_train_with_a_brief_report_leaves_no_card_of_another_bundle(candles: Path, tmp_path: Path) -> None:
    for name in ("report.html", "model-card.md"):
        (tmp_path / name).write_text("of the bundle before")
    path = train(small(candles, tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {path.name, "report.json"}


def test_train_until_is_the_last_bar_that_a_label_saw(candles: Path, tmp_path: Path) -> None:
    path = train(small(candles, tmp_path, horizon=5))
    spec, report = load(path).spec, report_of(path)
    assert spec.trained_until_ms == report["closes_ms"]["validation"][1] + 5 * MINUTE_MS
    assert spec.trained_until_ms < report["closes_ms"]["test"][0]
    assert report["closes_ms"]["train"][1] + 5 * MINUTE_MS < report["closes_ms"]["validation"][0]


def test_train_until_leaves_later_candles_out(candles: Path, tmp_path: Path) -> None:
    until_ms = START_MS + 2_200 * MINUTE_MS
    path = train(small(candles, tmp_path / "a", train_until_ms=until_ms))
    assert report_of(path)["closes_ms"]["test"][1] == until_ms - 3 * MINUTE_MS
    shorter = csv_of(make_table().until(until_ms), tmp_path / "shorter")
    assert train(small(shorter, tmp_path / "b")).name == path.name


def test_train_of_one_seed_gives_the_same_bytes_in_two_processes(candles: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from training.command import TrainOptions, train; "
        "print(train(TrainOptions([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), hidden=8, lookback=16, "
        "epochs=2, seed=7, report='brief')).name)"
    )
    names = [
        subprocess.run(
            [sys.executable, "-c", code, str(candles), str(tmp_path / str(run))],
            env={**os.environ, "OPENBLAS_NUM_THREADS": str(run)},
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout
        for run in (1, 2)
    ]  # fmt: skip
    assert names[0] == names[1]


def test_train_command_line_prints_lines_of_json_and_last_the_bundle(candles: Path, tmp_path: Path) -> None:
    options = ["--candles", candles, "--out", tmp_path, "--hidden", "8", "--lookback", "16", "--epochs", "2", "--json"]
    options += ["--report", "brief", "--members", "1"]
    command = [sys.executable, "-m", "candlewick", "train", *map(str, options), "--symbols", "AAAUSDT,BBBUSDT"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["epoch"] for line in lines[:-1]] == [1, 2]
    assert (tmp_path / f"{lines[-1]['bundle']}.safetensors").is_file()
    assert lines[-1]["symbols"] == ["AAA/USDT", "BBB/USDT"]


def test_train_series_that_is_too_short_is_left_out_by_name(tmp_path: Path) -> None:
    table = make_table()
    ohlcv = table.ohlcv.copy()
    ohlcv[:, 1, 900:] = np.nan
    path = train(small(csv_of(replace(table, ohlcv=ohlcv), tmp_path / "candles"), tmp_path / "out"))
    assert load(path).spec.symbols == ("AAA/USDT", "CCC/USDT")
    assert report_of(path)["left_out"]["BBB/USDT"].startswith("900 bars in a row, 1519 are needed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 700}, "rows are left for train, at least 64 are needed: give more candles, or a horizon shorter"),
        ({"horizon": 1_300}, "no series can be learned from"),
        ({"lookback": 257}, "--lookback 257 must lie between 1 and 256"),
        ({"horizon": 0}, "--horizon 0 must lie between 1 and 1,440"),
        ({"hidden": 513}, "--layers or --members is wrong"),
        ({"network": "transformer"}, "--network"),
        ({"model": "Default 1m"}, "--model"),
        ({"symbols": ["XYZ"]}, "ends with no known quote asset"),
        ({"symbols": ["DOGE/USDT"]}, "no candles of DOGE/USDT; the files hold AAA/USDT"),
        ({"train_until_ms": 5}, "no series can be learned from"),
        ({"timeframe": "5m"}, "5m expected, but 1m in"),
    ],
)
def test_train_options_that_cannot_work_are_told(
    candles: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CandlewickError, match=message):
        train(small(candles, tmp_path / "out", **options))


def test_train_of_prices_that_never_move_is_told(tmp_path: Path) -> None:
    table = make_table(symbols=("AAA/USDT",))
    ohlcv = np.full_like(table.ohlcv, 7.0)
    with pytest.raises(CandlewickError, match="AAA/USDT: its price never changes"):
        train(small(csv_of(replace(table, ohlcv=ohlcv), tmp_path / "candles"), tmp_path / "out"))


def test_train_into_what_is_no_folder_is_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CandlewickError, match=r"cannot be written .* choose another folder for --out"):
        train(small(tmp_path / "nowhere", tmp_path / "file" / "out"))


def test_training_command_imports_neither_torch_nor_scipy() -> None:
    code = "import sys, training.command; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
