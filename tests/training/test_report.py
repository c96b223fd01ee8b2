from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from models.errors import CandlewickError
from tests.training.reports import full_report
from training.report import UNPROVEN, check_writable, in_words, parts, peak_memory_mb, write_report


def test_write_report_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_report(tmp_path, {"n": 1})
    assert json.loads(write_report(tmp_path, {"n": 2}).read_text()) == {"n": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_write_report_with_a_figure_that_is_no_number_keeps_the_old_one(tmp_path: Path) -> None:
    write_report(tmp_path, {"n": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_report(tmp_path, {"n": float("nan")})
    assert json.loads((tmp_path / "report.json").read_text()) == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_write_report_of_two_processes_at_once_leaves_one_of_them_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, process = Path.replace, os.getpid()

    def after_the_other(self: Path, target: Path) -> Path:
        """Between writing and renaming, the other process does both."""
        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr(os, "getpid", lambda: process + 1)
        write_report(tmp_path, {"n": 2})
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", after_the_other)
    assert json.loads(write_report(tmp_path, {"n": 1}).read_text()) == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_check_writable_makes_the_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_check_writable_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CandlewickError, match="choose another folder"):
        check_writable(tmp_path / "file" / "out")


def test_peak_memory_is_in_megabytes() -> None:
    assert 20 < peak_memory_mb() < 20_000


def test_in_words_says_unknown_for_a_figure_without_a_value() -> None:
    known, unsure, nothing = ({"value": v, "low": w, "high": w} for v, w in ((0.9, 0.9), (0.8, None), (None, None)))
    ranges = {"crps_vs_vol60": known, "crps_vs_range_ewma": unsure, "crps_vs_har": known, "coverage80": known}
    returns = {"crps_vs_baseline": known, "coverage80": known}
    content = {
        "bundle": "abc", "range": ranges, "return": returns,
        "direction": {"auc": nothing, "brier_vs_climatology": known},
        "seconds": 1.0, "peak_memory_mb": 1.0, **UNPROVEN,
    }  # fmt: skip
    text = in_words(content)
    assert "0.900 [0.900, 0.900] of vol60, 0.800 of the range EMA" in text
    assert "AUC unknown" in text
    assert "proven: none" in text


def test_in_words_full_report_adds_rivals_and_the_sentinel() -> None:
    text = in_words(full_report())
    assert "1.004 [0.997, 1.011] of LightGBM" in text
    assert "of logistic regression" in text
    assert "sentinel   passed: Labels rolled in time gave no skill" in text
    assert "ALARM" not in text


def test_in_words_says_every_alarm() -> None:
    text = in_words(full_report() | {"alarms": ["one", "two"], "sentinel": {"passed": False, "sentence": "it leaks"}})
    assert [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("ALARM")] == [
        "it leaks",
        "one",
        "two",
    ]
    assert "passed" not in text


def test_parts_are_the_spans_in_utc_days() -> None:
    assert parts(full_report())[2] == ("test", 12_491, "2025-05-30", "2025-06-03")
    assert parts({}) == []
