from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.bundle import load, save
from models.errors import CandlewickError
from tests.models.make_bundle import make_bundle
from tests.training.make_candles import MINUTE_MS, START_MS, SYMBOLS, make_table, write_csv
from training.dataset import build_dataset
from training.evaluate import evaluate
from training.evaluation_command import EvaluateOptions, evaluate_file, run_evaluate
from training.split import Span

FEATURES = ("range", "volatility_10", "log_volume")
UNTIL_MS = START_MS + 1_700 * MINUTE_MS


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(make_table(1_900), tmp_path_factory.mktemp("candles"))


def bundle_in(folder: Path, **changed: Any) -> Path:
    small: dict[str, Any] = {"lookback": 8, "hidden": 4, "features": FEATURES, "symbols": SYMBOLS}
    return save(make_bundle(**small | {"trained_until_ms": UNTIL_MS} | changed), folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_in(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def report(candles: Path, bundle: Path) -> dict[str, Any]:
    return evaluate_file(EvaluateOptions(bundle, [candles]))


def test_evaluate_file_scores_only_closes_after_the_end_of_training(report: dict[str, Any], bundle: Path) -> None:
    dataset = build_dataset(make_table(1_900), 8, 3)
    wanted = evaluate(load(bundle), dataset, Span(1_700, 1_900))  # close of slot i: START + (i + 1) minutes
    assert report["closes_ms"]["test"] == [UNTIL_MS + MINUTE_MS, START_MS + (1_900 - 3) * MINUTE_MS]
    assert report["rows"] == {"test": 3 * 197}
    assert report["range"]["crps_vs_har"]["value"] == pytest.approx(wanted["range"]["crps_vs_har"]["value"])
    assert "by_sample" not in report
    assert any("earlier rows close no later" in sentence and "--all" in sentence for sentence in report["outside"])


def test_evaluate_file_has_the_sections_of_a_report(report: dict[str, Any], bundle: Path) -> None:
    json.dumps(report, allow_nan=False)
    assert report["bundle"] == bundle.stem
    assert report["proven"] == "none"
    sections = {"range", "return", "price", "direction", "by_symbol", "by_hour", "by_volatility", "reliability", "pit"}
    assert sections | {"importance", "outside", "symbols", "trained_until_ms", "seconds", "peak_memory_mb"} < set(
        report
    )
    assert sorted(entry["feature"] for entry in report["importance"]) == sorted(FEATURES)


def test_evaluate_file_of_everything_shows_what_training_may_have_seen_apart(candles: Path, bundle: Path) -> None:
    report = evaluate_file(EvaluateOptions(bundle, [candles], everything=True))
    samples = {cell["sample"]: cell["rows"] for cell in report["by_sample"]}
    assert samples["after training"] == 3 * 197
    assert report["rows"]["test"] == sum(samples.values()) > 3 * 197
    assert any("may be in-sample" in sentence for sentence in report["outside"])


def test_evaluate_file_of_candles_before_the_end_of_training_scores_them_and_says_so(
    candles: Path, tmp_path: Path
) -> None:
    later = bundle_in(tmp_path, trained_until_ms=START_MS + 10_000 * MINUTE_MS)
    report = evaluate_file(EvaluateOptions(later, [candles]))
    assert report["rows"]["test"] > 3 * 197
    assert any(sentence.startswith(f"time: {report['rows']['test']:,} of") for sentence in report["outside"])


def test_evaluate_file_of_foreign_symbols_names_them(candles: Path, tmp_path: Path) -> None:
    foreign = bundle_in(tmp_path, symbols=("AAA/USDT", "ZZZ/USDT"))
    report = evaluate_file(EvaluateOptions(foreign, [candles], symbols=("AAAUSDT", "BBBUSDT")))
    assert report["symbols"] == ["AAA/USDT", "BBB/USDT"] == list(report["by_symbol"])
    assert any("BBB/USDT did not train" in sentence for sentence in report["outside"])


def test_evaluate_file_leaves_a_short_series_out_and_says_what_it_lacks(bundle: Path, tmp_path: Path) -> None:
    table = make_table(1_900)
    ohlcv = table.ohlcv.copy()
    ohlcv[:, 2, 900:] = float("nan")
    report = evaluate_file(EvaluateOptions(bundle, [write_csv(replace(table, ohlcv=ohlcv), tmp_path)]))
    assert report["symbols"] == ["AAA/USDT", "BBB/USDT"]
    assert "900 bars" in report["data"]["left_out"]["CCC/USDT"]


def test_evaluate_file_of_another_timeframe_names_the_mend(candles: Path, tmp_path: Path) -> None:
    fives = bundle_in(tmp_path, timeframe_ms=300_000)
    with pytest.raises(CandlewickError, match="give it candles of 5m"):
        evaluate_file(EvaluateOptions(fives, [candles]))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda blob: blob[:1_000], "copied whole"),
        (lambda blob: blob[:-4], "copied whole"),
        (lambda blob: b"", "copied whole"),
        (lambda blob: b"timestamp_ms,symbol,open,high\n" * 50, "copied whole"),
        (lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]), "hash: the bytes are"),
    ],
    ids=["truncated-header", "truncated-data", "empty", "a-csv", "one-bit"],
)
def test_evaluate_file_of_a_spoiled_bundle_names_the_file_and_the_mend(
    candles: Path, bundle: Path, tmp_path: Path, spoil: Any, said: str
) -> None:
    spoiled = tmp_path / bundle.name
    spoiled.write_bytes(spoil(bundle.read_bytes()))
    with pytest.raises(CandlewickError, match=said) as failure:
        evaluate_file(EvaluateOptions(spoiled, [candles]))
    assert str(spoiled) in str(failure.value)
    assert "Give a <sha256>.safetensors" in str(failure.value)


def test_evaluate_file_of_a_missing_bundle_or_folder_names_it(candles: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CandlewickError, match="cannot be read"):
        evaluate_file(EvaluateOptions(tmp_path / "none.safetensors", [candles]))
    (tmp_path / "file").write_text("")
    with pytest.raises(CandlewickError, match="choose another folder for --out"):
        evaluate_file(EvaluateOptions(bundle, [candles], out=tmp_path / "file"))


def test_evaluate_file_of_candles_without_a_whole_window_asks_for_more(bundle: Path, tmp_path: Path) -> None:
    table = make_table(1_511)  # long enough by a hair, but for a hole in the last window of each
    ohlcv = table.ohlcv.copy()
    ohlcv[:, :, 1_505] = float("nan")
    with pytest.raises(CandlewickError, match="Give more candles"):
        evaluate_file(EvaluateOptions(bundle, [write_csv(replace(table, ohlcv=ohlcv), tmp_path)]))


def test_run_evaluate_prints_words_or_one_object_and_keeps_the_report(
    candles: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"bundle": bundle, "paths": (candles,), "symbols": (), "everything": False, "out": tmp_path / "out"}
    run_evaluate(options, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == printed
    assert (tmp_path / "out" / "report.html").stat().st_size > 1_000
    run_evaluate(options | {"out": None}, as_json=False)
    words = capsys.readouterr().out
    assert printed["bundle"] in words
    for said in ("of HAR", "AAA/USDT", "high volatility", "AUC", "OUTSIDE    time: "):
        assert said in words
