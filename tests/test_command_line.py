"""The command line as a process: what it imports, what it shows, what it hides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from candlewick import main
from streaming.options import Time
from tests.exchange.tape import SAMPLE
from tests.models.make_bundle import make_bundle

HEAVY = ("torch", "faust", "mode", "aiokafka", "scipy", "numpy", "msgspec", "pydantic", "prometheus_client", "rich")


def python(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python away from any `.env`, with no setting but these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CANDLEWICK_")}
    root = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env=clean | {"PYTHONPATH": root} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["models", "activate", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from candlewick import main; main(sys.argv[1:], standalone_mode=False); "
        f"print('IMPORTED', sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = python(tmp_path, "-c", code, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "IMPORTED []"


HOLD = """
import asyncio, signal, sys, tempfile, time
import candlewick
from streaming.command_line import run_to_end

async def hold(folder):
    print(folder, flush=True)
    await asyncio.sleep(60)

@candlewick.main.command("hold")
def hold_command():
    with tempfile.TemporaryDirectory(dir=".") as folder:
        if sys.argv[1] == "awaits":
            run_to_end(hold(folder))
        else:
            print(folder, flush=True)
            time.sleep(60)

signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2] == "nohup" else signal.SIG_DFL)
candlewick.main(["hold"])
"""


@pytest.fixture
def holding(tmp_path: Path) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Starts a command that holds a temporary folder; it says so once it does."""
    with ExitStack() as stack:

        def start(how: str, hangs_up: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", HOLD, how, hangs_up]
            env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
            process = stack.enter_context(
                subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert Path(tmp_path, process.stdout.readline().strip()).is_dir()
            return process

        yield start


@pytest.mark.parametrize("how", ["awaits", "works"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_command_asked_to_end_by_a_signal_takes_away_what_it_made(
    holding: Callable[[str, str], subprocess.Popen[str]], how: str, number: signal.Signals, tmp_path: Path
) -> None:
    """A closed terminal is a SIGHUP; the demo left its folder with all of its Kafka behind."""
    process = holding(how, "")
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["awaits", "works"])
def test_command_under_nohup_outlives_its_terminal(
    holding: Callable[[str, str], subprocess.Popen[str]], how: str
) -> None:
    process = holding(how, "nohup")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM


def commands(group: click.Group, *before: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        words = (*before, name)
        if isinstance(command, click.Group):
            yield from commands(command, *words)
        else:
            yield " ".join(words), command


def test_every_command_takes_json() -> None:
    takes_none = {
        name for name, command in commands(main) if not any("--json" in option.opts for option in command.params)
    }
    assert takes_none == {"bench"}  # which hands every option on


def test_schemas_are_json_whether_asked_for_or_not() -> None:
    plain, asked = (CliRunner().invoke(main, ["schemas", *option]) for option in ([], ["--json"]))
    assert "candles" in json.loads(asked.stdout)
    assert asked.stdout == plain.stdout


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_settings_never_show_a_secret(option: list[str], tmp_path: Path) -> None:
    secret = "correct-horse-battery"
    done = python(
        tmp_path, "-m", "candlewick", "settings", *option,
        CANDLEWICK_KAFKA__SASL_PASSWORD=secret, CANDLEWICK_KAFKA__SASL_USERNAME="anna",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "anna" in done.stdout
    assert "**********" in done.stdout
    assert secret not in done.stdout + done.stderr


def test_wrong_setting_is_named_without_its_value(tmp_path: Path) -> None:
    done = python(
        tmp_path, "-m", "candlewick", "settings", CANDLEWICK_KAFKA__SASL_PASSWORD="x", CANDLEWICK_LOG_LEVEL="?!"
    )
    assert done.returncode == 1
    assert "CANDLEWICK_LOG_LEVEL: " in done.stderr
    assert "?!" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["environment", "file"])
def test_settings_that_cannot_be_read_are_told_in_one_line(where: str, tmp_path: Path) -> None:
    if where == "file":
        (tmp_path / ".env").write_bytes(b"\xff\xfe")
    env = {"CANDLEWICK_KAFKA": "no JSON"} if where == "environment" else {}
    done = python(tmp_path, "-m", "candlewick", "settings", **env)
    assert done.returncode == 1
    assert done.stderr.startswith("candlewick: settings cannot be read, in the environment or in .env: ")
    assert done.stderr.count("\n") == 1


def test_command_that_needs_torch_where_there_is_none_names_the_mend(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    bundle = tmp_path / "bundle.safetensors"
    bundle.write_bytes(make_bundle(hidden=8))
    words = ("evaluate", "--bundle", str(bundle), "--candles", str(SAMPLE))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from candlewick import main; main(sys.argv[1:])"
    done = python(tmp_path, "-c", code, *words)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "candlewick: torch is not installed; `make setup` brings it, as does the extra `torch`"
    )


def test_role_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    done = python(tmp_path, "-m", "candlewick", "run", "prophesy")
    assert done.returncode == 1
    assert "no role is called prophesy" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "fails",
    [
        "raise MemoryError('Unable to allocate 2 GiB')",
        'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")',
    ],
    ids=["numpy", "torch"],
)
def test_command_without_memory_enough_says_so_and_the_mend(fails: str, tmp_path: Path) -> None:
    code = f"import candlewick\n@candlewick.main.command()\ndef greedy():\n    {fails}\ncandlewick.main(['greedy'])"
    done = python(tmp_path, "-c", code)
    assert done.returncode == 1
    assert done.stderr.startswith("candlewick: memory ran out (")
    assert "CANDLEWICK_TRAIN__MEMORY_MB" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["schemas", "--out", "file/x"], ["demo", "--keep", "file/x"]])
def test_path_that_cannot_be_used_is_told_in_one_line(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = python(tmp_path, "-m", "candlewick", *words)
    assert done.returncode == 1
    assert done.stderr == "candlewick: file/x: Not a directory; is the path right, and yours?\n"


@pytest.mark.parametrize(
    ("text", "time_ms"), [("0", 0), ("2025-05-30", 1_748_563_200_000), ("1748563200000", 1_748_563_200_000)]
)
def test_time_is_a_date_or_milliseconds(text: str, time_ms: int) -> None:
    assert Time().convert(text, None, None) == time_ms


@pytest.mark.parametrize(
    ("text", "why"), [("1748563200", "1748563200 must be in milliseconds"), ("soon", "'soon' is no time")]
)
def test_time_in_seconds_or_none_at_all_is_refused(text: str, why: str, tmp_path: Path) -> None:
    done = python(tmp_path, "-m", "candlewick", "export", "--until", text, "--out", "out.csv")
    assert done.returncode == 1
    assert done.stderr.startswith(f"candlewick: --until {why}")
    assert len(done.stderr.splitlines()) == 1


def test_command_where_nobody_knows_the_home_folder_says_so(tmp_path: Path) -> None:
    code = """
import pathlib
import candlewick
def unknown(_cls):
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = classmethod(unknown)
candlewick.main(["settings"])
"""
    done = python(tmp_path, "-c", code, XDG_DATA_HOME="")
    assert (done.returncode, done.stderr) == (1, "candlewick: nobody knows your home folder; set HOME\n")


def test_command_whose_output_is_closed_writes_into_nothing(tmp_path: Path) -> None:
    code = "import os; [os.close(each) for each in range(3)]; os.execv(os.sys.executable, os.sys.argv[1:])"
    script = "import candlewick, sys, os; candlewick.main(['schemas'], standalone_mode=False); " \
             "print(os.open('kept', os.O_CREAT), file=open('first', 'w'))"  # fmt: skip
    done = python(tmp_path, "-c", code, sys.executable, "-c", script)
    assert done.returncode == 0
    assert int((tmp_path / "first").read_text()) > 2
