from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import training
from training.walk_forward_files import ONLY_TELLS, code_digest


def test_code_digest_changes_with_every_module_but_those_that_only_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(next(iter(training.__path__))), tmp_path / "training")
    modules = sorted((tmp_path / "training").glob("*.py"))
    monkeypatch.setattr(training, "__path__", [str(tmp_path / "training")])
    of_now, changed = code_digest.__wrapped__(), set()
    for module in modules:
        text = module.read_bytes()
        module.write_bytes(text + b"\n# changed\n")
        if code_digest.__wrapped__() != of_now:
            changed.add(module.stem)
        module.write_bytes(text)
    assert {module.stem for module in modules} - changed == set(ONLY_TELLS)
