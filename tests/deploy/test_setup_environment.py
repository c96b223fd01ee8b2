"""The set-up program, run as a person runs it, in a folder, with a uv that only writes down what it is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "deploy" / "setup_environment.py"

RECORDING_UV = """#!{python}
import pathlib, sys
here, asked = pathlib.Path({place!r}), " ".join(sys.argv[1:])
with open(here / "asked", "a") as log:
    log.write(asked + chr(10))
if asked == "--version":
    print("uv 0.13.8")
if asked.startswith("venv"):
    python = pathlib.Path(sys.argv[-1], "bin", "python")
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
sys.exit(any(refused in asked for refused in (here / "refused").read_text().split()))
"""


class Checkout:
    """A folder with the files that set-up reads, and a PATH that holds nothing but the recording uv."""

    def __init__(self, root: Path) -> None:
        self.root = root / "checkout"
        self.tools = root / "tools"
        for folder in (self.root / "deploy", self.root / "requirements", self.tools):
            folder.mkdir(parents=True)
        (self.root / "deploy" / PROGRAM.name).write_text(PROGRAM.read_text())
        (self.root / "pyproject.toml").write_text("")
        (self.root / "requirements" / "lock.txt").write_text("numpy==2.0.0\n")
        (self.root / "requirements" / "torch.txt").write_text("torch==2.13.0\n")
        uv = self.tools / "uv"
        uv.write_text(RECORDING_UV.format(python=sys.executable, place=str(self.tools)))
        uv.chmod(0o755)
        self.refuse("")

    def refuse(self, words: str) -> None:
        """Let uv fail whenever it is asked for one of these words."""
        (self.tools / "refused").write_text(words)

    def set_up(self, *launcher: str) -> subprocess.CompletedProcess[str]:
        """Run the program, by another launcher than plain Python if need be."""
        command = [sys.executable, *launcher, str(self.root / "deploy" / PROGRAM.name)]
        return subprocess.run(
            command, env={"PATH": str(self.tools)}, check=False, capture_output=True, text=True, timeout=60
        )

    def asked(self) -> list[str]:
        """What uv was asked since the last look, without the questions that change nothing."""
        log = self.tools / "asked"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if line != "--version" and not line.startswith("pip freeze")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_setup_fresh_checkout_installs_lock_by_hash_then_torch_then_project(checkout: Checkout) -> None:
    assert checkout.set_up().returncode == 0
    asked = [line for line in checkout.asked() if "--dry-run" not in line]
    assert asked[0].startswith("venv")
    assert "--require-hashes" in asked[1]
    assert "torch.txt" in asked[2]
    assert "-e" in asked[3].split()


def test_setup_second_call_asks_for_nothing(checkout: Checkout) -> None:
    checkout.set_up()
    checkout.asked()
    again = checkout.set_up()
    assert (again.returncode, again.stderr, checkout.asked()) == (0, "", [])


@pytest.mark.parametrize("source", ["pyproject.toml", "requirements/lock.txt", "requirements/torch.txt"])
def test_setup_changed_source_installs_again_into_same_venv(checkout: Checkout, source: str) -> None:
    checkout.set_up()
    checkout.asked()
    (checkout.root / source).write_text("# changed\n")
    assert checkout.set_up().returncode == 0
    asked = checkout.asked()
    assert any("--require-hashes" in line for line in asked)
    assert not any(line.startswith("venv") for line in asked)


def test_setup_interrupted_install_is_taken_up_again(checkout: Checkout) -> None:
    checkout.refuse("--require-hashes")
    failed = checkout.set_up()
    assert failed.returncode == 1
    assert "goes on from here when run again" in failed.stderr
    checkout.refuse("")
    assert checkout.set_up().returncode == 0


def test_setup_moved_folder_makes_venv_anew(checkout: Checkout) -> None:
    checkout.set_up()
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    checkout.asked()
    assert checkout.set_up().returncode == 0
    assert checkout.asked()[0].startswith("venv")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a small and a large build of torch")
def test_setup_cpu_index_within_reach_fetches_only_the_small_build(checkout: Checkout) -> None:
    done = checkout.set_up()
    fetched = [line for line in checkout.asked() if "torch.txt" in line and "--dry-run" not in line]
    assert len(fetched) == 1
    assert "--torch-backend=cpu" in fetched[0]
    assert "200 MB" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a small and a large build of torch")
def test_setup_cpu_index_out_of_reach_says_size_and_takes_default_build(checkout: Checkout) -> None:
    checkout.refuse("--torch-backend=cpu")
    done = checkout.set_up()
    assert done.returncode == 0
    assert "5 GB" in done.stderr
    fetched = [line for line in checkout.asked() if "torch.txt" in line and "--dry-run" not in line]
    assert len(fetched) == 1
    assert "--torch-backend" not in fetched[0]


def test_setup_python_without_venv_names_the_package(checkout: Checkout) -> None:
    (checkout.tools / "uv").unlink()
    without_ensurepip = (
        "import importlib.util, runpy, sys; find = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda name: None if name == 'ensurepip' else find(name); "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    failed = checkout.set_up("-c", without_ensurepip)
    assert failed.returncode == 1
    assert f"apt install python3.{sys.version_info.minor}-venv" in failed.stderr
