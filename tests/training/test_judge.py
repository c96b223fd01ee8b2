from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.bundle import digest, save
from models.errors import CandlewickError
from models.events import Verdict
from tests.models.make_bundle import make_bundle
from tests.training.make_candles import MINUTE_MS, START_MS, SYMBOLS, make_table, write_csv
from training.judge import JudgeOptions, judge_files, run_judge

ROOT = Path(__file__).parents[2]
FROM_MS = START_MS + 1_800 * MINUTE_MS
UNTIL_MS = FROM_MS + 360 * MINUTE_MS
SMALL: dict[str, Any] = {"lookback": 16, "hidden": 8, "symbols": SYMBOLS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judge")


@pytest.fixture(scope="module")
def options(folder: Path) -> JudgeOptions:
    return JudgeOptions(
        challenger=save(make_bundle(seed=1, **SMALL), folder),
        champion=save(make_bundle(seed=2, **SMALL), folder),
        candles=[write_csv(make_table(), folder / "candles")],
        from_ms=FROM_MS,
        until_ms=UNTIL_MS,
    )


def test_judge_files_gives_a_verdict_on_closes_after_from_whose_labels_end_by_until(options: JudgeOptions) -> None:
    verdict = judge_files(options)
    assert options.champion
    assert (verdict.challenger, verdict.champion) == (options.challenger.stem, options.champion.stem)
    assert verdict.from_ms == FROM_MS + MINUTE_MS
    assert verdict.until_ms == UNTIL_MS - 3 * MINUTE_MS
    assert (verdict.rows, verdict.blocks) == (357 * 3, 12)


def test_judge_files_depends_on_no_candle_after_until(options: JudgeOptions, folder: Path) -> None:
    shorter = write_csv(make_table().until(UNTIL_MS), folder / "shorter")
    assert judge_files(replace(options, candles=[shorter])) == judge_files(options)


def test_judge_files_of_symbols_judges_only_these(options: JudgeOptions) -> None:
    assert judge_files(replace(options, symbols=["AAAUSDT", "CCC/USDT"])).rows == 357 * 2


def test_judge_files_of_bundles_with_other_lookbacks_judges_the_rows_of_both(
    options: JudgeOptions, folder: Path
) -> None:
    longer = save(make_bundle(seed=3, **SMALL | {"lookback": 64}), folder)
    late = replace(options, from_ms=START_MS + 1_530 * MINUTE_MS, until_ms=START_MS + 1_900 * MINUTE_MS)
    alone, both = judge_files(late), judge_files(replace(late, champion=longer))
    assert both.rows == alone.rows - 3 * (1_500 + 63 - 1_530)
    assert both.from_ms > alone.from_ms


def test_judge_files_of_a_file_that_is_no_bundle_refuses_it_by_its_hash(options: JudgeOptions, folder: Path) -> None:
    rotten = bytearray(options.challenger.read_bytes())
    rotten[-4:] = np.float32(np.nan).tobytes()
    (folder / "rotten").write_bytes(rotten)
    verdict = judge_files(replace(options, challenger=folder / "rotten"))
    assert (verdict.promote, verdict.rows, verdict.challenger) == (False, 0, digest(bytes(rotten)))
    assert verdict.sentence.endswith("which is unfit to serve: tensor lstm.weight_ih_l0: holds NaN or infinity.")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"from_ms": UNTIL_MS}, "not after its begin"),
        ({"until_ms": FROM_MS + 40 * MINUTE_MS}, "blocks of time are too few"),
        (
            {"from_ms": UNTIL_MS * 2, "until_ms": UNTIL_MS * 2 + 1},
            "no forecast can be judged .* Give 1,516 bars before",
        ),
        ({"symbols": ["DOGE/USDT"]}, "no candles of DOGE/USDT"),
        ({"symbols": ["XYZ"]}, "no known quote asset"),
        ({"timeframe": "5m"}, "5m expected, but 1m in"),
    ],
)
def test_judge_files_of_what_cannot_be_judged_is_told(
    options: JudgeOptions, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(CandlewickError, match=message):
        judge_files(replace(options, **changed))


def test_judge_files_against_a_champion_that_is_no_bundle_is_told(options: JudgeOptions, folder: Path) -> None:
    (folder / "nothing").write_bytes(b"nothing")
    with pytest.raises(CandlewickError, match=r"champion's file .* cannot serve .*; give the one that serves"):
        judge_files(replace(options, champion=folder / "nothing"))


def test_run_judge_says_a_refusal_in_words(options: JudgeOptions, capsys: pytest.CaptureFixture[str]) -> None:
    named = {"paths": options.candles, "champion": options.champion, "challenger": options.challenger}
    run_judge({**named, "from_ms": FROM_MS, "until_ms": UNTIL_MS}, as_json=False)
    assert capsys.readouterr().out.startswith(f"Refuse {options.challenger.stem[:8]}, ")


def command(options: JudgeOptions, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["judge", "--challenger", options.challenger, "--candles", options.candles[0], "--until", UNTIL_MS, *more]
    return subprocess.run(
        [sys.executable, "-m", "candlewick", *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_judge_command_line_prints_one_verdict_and_exits_with_0(options: JudgeOptions) -> None:
    done = command(options, "--from", str(FROM_MS), "--symbols", "AAAUSDT,BBBUSDT", "--json")
    assert done.returncode == 0, done.stderr
    verdict = msgspec.json.decode(done.stdout, type=Verdict)
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout)["proven"] == list(verdict.proven)
    assert (verdict.champion, verdict.rows) == (None, 357 * 2)
    assert verdict.promote


def test_judge_command_line_of_what_cannot_be_judged_exits_with_1_and_a_reason(options: JudgeOptions) -> None:
    done = command(options, "--from", str(FROM_MS), "--symbols", "DOGE/USDT")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("candlewick: no candles of DOGE/USDT")


def test_training_judge_imports_neither_torch_nor_scipy() -> None:
    code = "import sys, training.judge; sys.exit(bool({'torch', 'scipy', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
