"""The lock: hashed throughout, free of addresses, and in step with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK, TORCH = ((ROOT / "requirements" / name).read_text() for name in ("lock.txt", "torch.txt"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(text: str) -> dict[str, list[str]]:
    """Name to the versions pinned for it (several where the Python version decides)."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


def unmet(requirements: list[str], text: str) -> list[str]:
    """The requirements that no pin, or a pin out of bounds, answers."""
    pinned = pins(text)
    asked = [Requirement(line) for line in requirements]
    versions = {line: pinned.get(canonicalize_name(line.name), [""]) for line in asked}
    return [str(line) for line, found in versions.items() if not all(v and line.specifier.contains(v) for v in found)]


def test_lock_every_pin_has_hashes() -> None:
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE | re.IGNORECASE)[1:]
    assert len(entries) > len(PYPROJECT["project"]["dependencies"])
    assert [entry.partition(" ")[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_lock_names_no_address() -> None:
    assert re.findall(r"https?:|://|--(?:extra-)?index|--find-links| @ |(?<!\w)-[fi] ", LOCK + TORCH) == []


def test_lock_pins_every_dependency_within_its_bounds() -> None:
    wanted = PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["dev"]
    assert unmet(wanted, LOCK) == []


def test_lock_leaves_torch_to_its_own_pin_within_bounds() -> None:
    assert unmet(PYPROJECT["project"]["optional-dependencies"]["torch"], TORCH) == []


def test_lock_and_the_pins_of_torch_never_speak_of_the_same_package() -> None:
    assert pins(LOCK).keys() & pins(TORCH).keys() == set()  # else they differ on the Python that nobody tried


@pytest.mark.parametrize("of", ["torch", "sympy", "jinja2"])
def test_what_every_build_of_torch_needs_is_pinned(of: str) -> None:
    needed = [line for line in requires(of) or [] if Requirement(line).marker is None]
    assert needed
    assert unmet(needed, LOCK + TORCH) == []


def test_unmet_missing_and_out_of_bounds_pins_are_told() -> None:
    assert unmet(["numpy>=2", "scipy", "rich<15"], "numpy==1.26.4\nrich==14.0\n") == ["numpy>=2", "scipy"]
