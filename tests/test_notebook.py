"""The notebook of docs/ is run cell by cell, as a person would."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from models.bundle import load
from models.forecast import Forecast

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
CODE_LINES = 10


def cells() -> list[dict[str, Any]]:
    return list(json.loads(NOTEBOOK.read_text())["cells"])


def sources() -> list[str]:
    return ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]


def test_notebook_is_nbformat_4_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell.keys() >= {"cell_type", "id", "metadata", "source"}
        assert cell["cell_type"] in {"markdown", "code"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            ast.parse("".join(cell["source"]))


def test_notebook_has_at_most_ten_lines_of_code() -> None:
    lines = [line for source in sources() for line in source.splitlines() if line.strip()]
    assert 5 <= len(lines) <= CODE_LINES


def test_notebook_run_in_order_gives_a_bundle_scores_and_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    for source in sources():
        exec(compile(source, str(NOTEBOOK), "exec"), known)
    bundle = load(known["trained"].save(str(tmp_path)))
    assert bundle.spec.symbols == ("BTC/USDT", "ETH/USDT", "SOL/USDT")
    scores, predictions = known["scores"], known["predictions"]
    assert 0.7 < scores.loc["crps_vs_vol60", "value"] < 1  # real candles: the range can be foretold a little
    assert scores.loc["crps_vs_vol60", "low"] < scores.loc["crps_vs_vol60", "value"]
    assert {"symbol", "close_time_ms", "close", *Forecast._fields} == set(predictions.columns)
    assert len(predictions) == 3 * (7_200 - 1_500 - 63)
    last = predictions.iloc[-1]
    assert last["close_time_ms"] == known["candles"]["timestamp_ms"].max() + 60_000  # the newest close has its forecast
    assert (predictions["interval_low"] < predictions["interval_high"]).all()
