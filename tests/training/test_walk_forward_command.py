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

from models.bundle import unpack
from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.spec import Network
from tests.eventually import eventually
from tests.training.make_candles import MINUTE_MS, make_table, write_csv
from training.dataset import build_dataset
from training.folds import Schedule, walk_forward
from training.split import Split, validate_spread
from training.train import Recipe
from training.walk_forward_command import WalkOptions, run_walk_forward, walk_files
from training.walk_forward_files import keep_dataset, kept, known_at, load_dataset, workshop
from training.walk_forward_run import Training, train_window
from training.walk_forward_words import in_words

ROOT = Path(__file__).parents[2]
TRAIN_BARS, STEP_BARS, JUDGE_BARS = 1_900, 260, 90
TINY: dict[str, Any] = {
    "train_bars": TRAIN_BARS, "step_bars": STEP_BARS, "gate": True, "judge_bars": JUDGE_BARS,
    "hidden": 4, "members": 1, "lookback": 8, "epochs": 1, "jobs": 1,
}  # fmt: skip
RUN = (
    "import json, sys, pathlib; from training.walk_forward_command import run_walk_forward; "
    "options = json.loads(sys.argv[1]); "
    "run_walk_forward(options | {k: pathlib.Path(options[k]) for k in ('out',)} "
    "| {'paths': [pathlib.Path(options['paths'])]}, True)"
)


def told(_text: str, _share: float) -> None:
    """Nobody listens."""


def lasting(result: dict[str, Any]) -> dict[str, Any]:
    """What must not differ between two runs."""
    return {name: result[name] for name in ("policies", "pooled", "windows", "ages", "gate")}


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(make_table(2_700), tmp_path_factory.mktemp("candles"))


@pytest.fixture(scope="module")
def walked(candles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("walked")
    return walk_files(WalkOptions(candles=[candles], out=out, **TINY), told), out


def test_walk_files_leaves_tables_of_every_policy_with_intervals(walked: tuple[dict[str, Any], Path]) -> None:
    result, out = walked
    assert json.loads((out / "walk-forward.json").read_text()) == result
    assert [row["window"] for row in result["windows"]] == [0, 1, 2]
    assert len({row["bundle"] for row in result["windows"]}) == 3
    assert result["policies"] == ["once", "retrained", "gated"]
    pooled = result["pooled"]["range"]
    assert pooled["once"]["vs_once"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    for policy in result["policies"]:
        assert pooled[policy]["vs_har"]["low"] < pooled[policy]["vs_har"]["value"] < pooled[policy]["vs_har"]["high"]
    assert pooled["retrained"]["vs_once"]["value"] != 1.0
    assert result["windows"][0]["range"]["retrained"]["vs_once"]["value"] == 1.0
    assert sum(row["rows"] for row in result["windows"]) == result["pooled"]["rows"] == 3 * 3 * STEP_BARS
    assert "retrained / once" in in_words(result)
    for name in ("windows", "ages"):
        assert (out / f"walk-forward-{name}.svg").read_text().startswith("<svg")


def test_walk_files_judges_only_what_nobody_was_trained_on_and_serves_after_it(
    walked: tuple[dict[str, Any], Path],
) -> None:
    result, _ = walked
    assert [verdict["challenger_window"] for verdict in result["gate"]] == [1, 2]
    for verdict in result["gate"]:
        challenger, champion = (result["windows"][verdict[f"{who}_window"]] for who in ("challenger", "champion"))
        assert (verdict["challenger"], verdict["champion"]) == (challenger["bundle"], champion["bundle"])
        assert verdict["from_ms"] > challenger["trained_until_ms"] > champion["trained_until_ms"]
        judged_until_ms = challenger["trained_until_ms"] + JUDGE_BARS * MINUTE_MS
        assert verdict["until_ms"] + 3 * MINUTE_MS == judged_until_ms  # the last judged label ends there
        if verdict["promote"]:
            assert verdict["serves_from_ms"] == judged_until_ms + MINUTE_MS
    for row in result["windows"]:
        assert row["from_ms"] == row["trained_until_ms"] + MINUTE_MS


def test_walk_files_again_reads_what_is_kept_and_makes_what_is_missing_or_spoiled(
    walked: tuple[dict[str, Any], Path], candles: Path
) -> None:
    result, out = walked
    first, second, _ = sorted((out / "parts").glob("window-*.npz"))
    before = {path: path.stat().st_mtime_ns for path in (first, second)}
    second.write_bytes(second.read_bytes()[:1_000])
    (out / "parts" / ".kept-left.partial").write_text("half")
    again = walk_files(WalkOptions(candles=[candles], out=out, **TINY), told)
    assert lasting(again) == lasting(result)
    assert first.stat().st_mtime_ns == before[first]
    assert second.stat().st_mtime_ns > before[second]
    assert not list((out / "parts").glob(".kept*"))


def test_run_walk_forward_killed_and_run_again_gives_the_same_tables(
    walked: tuple[dict[str, Any], Path], candles: Path, tmp_path: Path
) -> None:
    options = json.dumps({**TINY, "out": str(tmp_path), "paths": str(candles)})
    command = [sys.executable, "-c", RUN, options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as parent:
        try:
            eventually(lambda: list((tmp_path / "parts").glob("window-*.npz")), 100)
        finally:
            workers = children(parent.pid)
            parent.kill()
    assert workers
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 30)
    assert len(list((tmp_path / "parts").glob("window-*.npz"))) < 3
    again = walk_files(WalkOptions(candles=[candles], out=tmp_path, **TINY), told)
    assert lasting(again) == lasting(walked[0])


def children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for file in tasks for pid in file.read_text().split()]


def test_train_window_knows_nothing_that_comes_after_its_cut(tmp_path: Path) -> None:
    table = make_table(2_300)
    blobs = [trained(table, tmp_path / "a"), trained(changed_from(table, TRAIN_BARS), tmp_path / "b")]
    assert blobs[0] == blobs[1]
    assert blobs[0] != trained(changed_from(table, TRAIN_BARS - 1), tmp_path / "c")


def changed_from(table: CandleTable, slot: int) -> CandleTable:
    ohlcv = table.ohlcv.copy()
    ohlcv[:, :, slot:] *= 1.5
    return replace(table, ohlcv=ohlcv)


def trained(table: CandleTable, folder: Path) -> bytes:
    """The bundle of the first window, from the task that a worker runs."""
    keep_dataset(build_dataset(table, 8, 3), folder)
    dataset = load_dataset(folder)
    window = walk_forward(dataset.labelled.sum(axis=0), Schedule(TRAIN_BARS, STEP_BARS, 3))[0]
    split = Split(*validate_spread(window.learned, 0.15, 3), window.test)
    out = folder / "window.npz"
    train_window(
        Training(
            0, folder, window, split, Recipe(Network(kind="lstm", hidden=4, layers=1), 1, 0), "test", out, os.getppid()
        )
    )
    found = kept(out)
    assert found is not None
    known_until_ms = int(dataset.close_time_ms[TRAIN_BARS - 1])
    assert unpack(found.blob).spec.trained_until_ms == known_until_ms
    assert len(found.scores.range) == len(found.scores.har) == 3 * STEP_BARS
    return found.blob


def test_known_at_holds_no_bar_and_no_label_from_after_the_cut() -> None:
    dataset = build_dataset(make_table(1_800), 8, 3)
    known = known_at(dataset, 1_700)
    assert known.features.shape[1] == known.ohlcv.shape[2] == len(known.close_time_ms) == 1_700
    assert np.flatnonzero(known.labelled.any(axis=0)).max() == 1_696
    assert np.isnan(known.y_range[:, 1_697:]).all()
    assert np.isnan(known.y_return[:, 1_697:]).all()
    assert dataset.labelled[:, 1_697:1_700].all()


def test_workshop_in_use_is_refused(tmp_path: Path) -> None:
    with workshop(tmp_path), pytest.raises(CandlewickError, match="another walk-forward works in"), workshop(tmp_path):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 1_300}, "no series can be learned from"),
        ({"train_bars": 1_520}, r"would learn from \d+ rows, at least 128 are needed: give --train-bars above 1,520"),
        ({"train_bars": 9_000}, "no rows are left to test on"),
        ({"judge_bars": 50}, "--judge-bars 50 are too few: the gate needs 84"),
        ({"step_bars": 0}, "step_bars 0 must be 1 or more"),
        ({"symbols": ["DOGE/USDT"]}, "no candles of DOGE/USDT"),
        ({"hidden": 513}, "--hidden, --layers or --members is wrong"),
        ({"validation_share": 0.7}, "--validation-share 0.7 must lie between"),
        ({"jobs": 0}, "--jobs 0 must lie between 1 and 512"),
    ],
)
def test_walk_files_options_that_cannot_work_are_told(
    candles: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CandlewickError, match=message):
        walk_files(WalkOptions(**{"candles": [candles], "out": tmp_path, **TINY, **options}), told)


def test_run_walk_forward_says_one_object_and_progress_beside_it(
    walked: tuple[dict[str, Any], Path], candles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_walk_forward({"paths": [candles], "out": walked[1], **TINY}, True)
    said = capsys.readouterr()
    assert lasting(json.loads(said.out)) == lasting(walked[0])
    assert "95 % 3 of 3 windows were done before" in said.err
