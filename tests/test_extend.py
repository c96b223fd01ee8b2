"""docs/extend.md is applied to a copy of the source, and keeps what it promises."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.bundle import digest
from models.features import CATALOGUE
from tests.apply_blocks import Step, apply, steps_of
from tests.models.make_bundle import make_bundle

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extend.md"
COPIED = ("models", "training", "streaming", "tests/models", "tests/training")
MOST_LINES = 30
OLD = make_bundle(lookback=8, hidden=4)


def chapters() -> dict[str, list[Step]]:
    _, *parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    return {part.partition("\n")[0]: steps_of(part) for part in parts}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, with both chapters applied."""
    root = tmp_path_factory.mktemp("extended")
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.xz", "data"))
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copy(ROOT / "tests" / "extended_source.py", root / "tests")
    for steps in chapters().values():
        for step in steps:
            apply(step, root)
    return root


def run(root: Path, *words: str, stdin: str = "") -> str:
    """Run Python on the copy, and nothing but the copy."""
    done = subprocess.run(
        [sys.executable, *words], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, input=stdin,
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout


@pytest.fixture(scope="module")
def found(extended: Path) -> dict[str, Any]:
    out = run(extended, "-m", "tests.extended_source", str(extended / "work"), stdin=OLD.hex())
    return dict(json.loads(out.splitlines()[-1]))


@pytest.mark.parametrize("chapter", ["A feature", "A network"])
def test_chapter_adds_what_it_adds_in_thirty_lines(chapter: str) -> None:
    assert 0 < sum(step.lines for step in chapters()[chapter]) <= MOST_LINES


def test_extended_feature_is_the_newest_column_and_equals_its_definition(found: dict[str, Any]) -> None:
    assert (found["feature"] in CATALOGUE, found["spread"] > 0.1) == (False, True)
    assert found["from_definition"] < 1e-5


def test_extended_features_online_equal_offline(found: dict[str, Any]) -> None:
    assert found["warm"] > 100
    assert found["from_offline"] < 1e-6


def test_extended_catalogue_leaves_old_bundles_their_hash_and_columns(found: dict[str, Any]) -> None:
    assert found["old_hash"] == digest(OLD)
    assert found["old_columns"] == len(CATALOGUE)


def test_extended_network_is_trained_on_the_new_feature_and_served(found: dict[str, Any]) -> None:
    assert found["trained_features"] == [*CATALOGUE, found["feature"]]
    assert found["trained_network"] == "convolution"
    assert found["from_served"] < 1e-5


def test_extended_network_keeps_the_contract_of_every_network(extended: Path) -> None:
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_networks.py", "-k", "convolution"]
    assert re.search(r"\b[1-9]\d* passed", run(extended, *suite))


def test_page_with_a_block_that_says_not_where_it_goes_is_refused() -> None:
    with pytest.raises(ValueError, match="2 blocks of Python, but only 1 say where"):
        steps_of("New file `a.py`:\n```python\nx = 1\n```\nlike this:\n```python\nx = 2\n```\n")


@pytest.mark.parametrize(("text", "count"), [("b = 1\n", 0), ("a = 1\na = 1\n", 2)])
def test_step_after_a_line_that_is_not_there_once_is_refused(tmp_path: Path, text: str, count: int) -> None:
    (tmp_path / "m.py").write_text(text)
    (step,) = steps_of("In `m.py`, after `a =`:\n```python\nc = 1\n```\n")
    with pytest.raises(ValueError, match=f"has {count} lines that begin with a ="):
        apply(step, tmp_path)


def test_steps_change_files_where_they_say(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("a = 1\nb = 2\nd = 4\n")
    for where, block in (("after `b", "c = 3"), ("before `a", "z = 0"), ("instead of `d", "d = 5")):
        (step,) = steps_of(f"In `m.py`, {where}`:\n```python\n{block}\n```\n")
        apply(step, tmp_path)
    assert (tmp_path / "m.py").read_text() == "z = 0\na = 1\nb = 2\nc = 3\nd = 5\n"
