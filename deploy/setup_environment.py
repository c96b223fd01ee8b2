"""Make `.venv` from the lock with nothing but Python 3.11 or newer: what `make setup` runs.

Enters: pyproject.toml, requirements/lock.txt, requirements/torch.txt. Leaves: `.venv` with everything installed and a
stamp of what it was made from, so that the next call ends at once. Does not know: what the packages are for, nor any
package index (uv and pip bring theirs, with this machine's settings and certificates).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "ready"
LOCK = ROOT / "requirements" / "lock.txt"
TORCH = ROOT / "requirements" / "torch.txt"
SOURCES = (ROOT / "pyproject.toml", LOCK, TORCH)

OLDEST_PYTHON = (3, 11)
OLDEST_UV = (0, 8)  # an older one on PATH is left alone, and .venv gets its own
PROBE_S = 20  # an index that is silent for longer counts as out of reach


def main() -> None:
    """Bring `.venv` up to date; a `.venv` made from these very files, in this very place, is left as it is."""
    if sys.version_info < OLDEST_PYTHON:
        continue_on_a_newer_python()
    if is_ready():
        return
    if PYTHON.exists() and not was_moved():
        STAMP.unlink(missing_ok=True)
        say("bringing .venv up to date")
    else:
        shutil.rmtree(VENV, ignore_errors=True)
        say(f"making .venv with Python {sys.version_info.major}.{sys.version_info.minor}")
    install_everything(uv=make_venv())
    STAMP.write_text(stamp())
    say("done")


def install_everything(uv: str) -> None:
    """Install the lock, then torch beside it, then this project itself."""
    say("installing the locked packages, about 310 MB")
    if not pip_install(uv, "--quiet", "--require-hashes", "-r", str(LOCK)):
        stop("the locked packages could not be installed")
    if not has_torch(uv):
        install_torch(uv)
    # The build backend is in the lock, so nothing unlocked is fetched to build the project.
    if not pip_install(uv, "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)):
        stop("the project itself could not be installed")
    say("compiling the hot path")
    run([str(PYTHON), "-m", "streaming.kernels"])  # whatever comes of it: it would be compiled at the first start


def install_torch(uv: str) -> None:
    """Install the smallest torch that fits this machine, saying its size before it is fetched."""
    if sys.platform == "linux":
        backend, build = ("auto", "GPU build, about 3 GB") if has_nvidia_gpu() else ("cpu", "CPU build, about 200 MB")
        if is_within_reach(uv, backend):
            say(f"installing torch: its {build} to fetch")
            if pip_install(uv, *torch_arguments(), f"--torch-backend={backend}"):
                return
        say("torch's own index is out of reach, so its default build comes instead: 2.6 GB to fetch, 5 GB on disk")
    else:
        say("installing torch: about 100 MB to fetch")  # the default build is the small one there
    if not pip_install(uv, *torch_arguments()):
        stop("torch could not be installed")


def torch_arguments() -> tuple[str, ...]:
    """What to install and what must not change by it."""
    return ("-r", str(TORCH), "-c", str(LOCK))


def has_torch(uv: str) -> bool:
    """Whether what torch.txt pins is installed, in any build (`2.13.0+cpu` is `2.13.0`)."""
    frozen = run([uv, "pip", "freeze", "--python", str(PYTHON)], capture_output=True, text=True).stdout.splitlines()
    pinned = {line.partition("#")[0].strip() for line in TORCH.read_text().splitlines()} - {""}
    return pinned <= {line.partition("+")[0] for line in frozen}


def is_within_reach(uv: str, backend: str) -> bool:
    """Whether the index of that build of torch answers in time."""
    command = [uv, "pip", "install", "--python", str(PYTHON), "--dry-run", f"--torch-backend={backend}"]
    try:
        probe = run([*command, *torch_arguments()], {"UV_HTTP_RETRIES": "1"}, capture_output=True, timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        return False
    return probe.returncode == 0


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver answers on this machine."""
    try:
        return run(["nvidia-smi", "-L"], capture_output=True, timeout=PROBE_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def make_venv() -> str:
    """Make `.venv` unless there is one, and find the uv to fill it with: that on PATH, else one inside `.venv`."""
    uv = shutil.which("uv")
    if uv is not None and VENV not in Path(uv).parents and uv_version(uv) >= OLDEST_UV:
        if not PYTHON.exists():
            make_sure([uv, "venv", "--quiet", "--python", sys.executable, str(VENV)], "uv could not make .venv")
        return uv
    own = VENV / "bin" / "uv"
    if not own.exists():
        stop_without_venv_module()
        make_sure([sys.executable, "-m", "venv", str(VENV)], "Python could not make .venv")  # or mend half of one
        wanted = "uv>=" + ".".join(map(str, OLDEST_UV))
        pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", wanted]
        make_sure(pip, "pip could not install uv")
    return str(own)


def make_sure(command: list[str], failure: str) -> None:
    """Run a command that must succeed."""
    if run(command).returncode != 0:
        stop(failure)


def uv_version(uv: str) -> tuple[int, ...]:
    """The version of a uv as numbers; (0,) for one that does not run."""
    try:
        text = run([uv, "--version"], capture_output=True, text=True, timeout=PROBE_S).stdout
    except (OSError, subprocess.TimeoutExpired):
        text = ""
    return tuple(map(int, re.findall(r"\d+", text)[:2])) or (0,)


def stop_without_venv_module() -> None:
    """Name the package to install where the system's Python comes without venv, as on Debian and Ubuntu."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        stop(f"{sys.executable} has no venv module", f"install the package {package} (apt install {package}), or uv")


def continue_on_a_newer_python() -> None:
    """Start over on the first newer Python of PATH, or say that there is none."""
    for minor in range(OLDEST_PYTHON[1], OLDEST_PYTHON[1] + 4):
        newer = shutil.which(f"python3.{minor}")
        if newer and run([newer, "-c", ""], capture_output=True).returncode == 0:
            os.execv(newer, [newer, __file__])  # noqa: S606 - no shell is meant
    version = ".".join(map(str, OLDEST_PYTHON))
    stop(f"{sys.executable} is older than Python {version}", f"install Python {version} or newer; PYTHON=... names one")


def is_ready() -> bool:
    """Whether `.venv` was made from these very files, in this very place."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == stamp()


def was_moved() -> bool:
    """Whether `.venv` came here with a copied or renamed folder: its scripts name the old place."""
    return STAMP.exists() and STAMP.read_text().partition(" ")[2] != str(ROOT)


def stamp() -> str:
    """A hash of everything `.venv` is made from, and the place it is made for."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in SOURCES)).hexdigest() + f" {ROOT}"


def pip_install(uv: str, *arguments: str) -> bool:
    """Install into `.venv` by uv; what goes wrong is uv's to say, on the screen.

    Bytecode is compiled here once: where Python may write none later, each process would compile torch anew for 7 s.
    """
    return run([uv, "pip", "install", "--compile-bytecode", "--python", str(PYTHON), *arguments]).returncode == 0


def run(command: list[str], settings: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, with the machine's own certificates for uv."""
    environment = {**system_certificates(), **os.environ, **(settings or {})}
    return subprocess.run(command, check=False, env=environment, stdin=subprocess.DEVNULL, **options)


def system_certificates() -> dict[str, str]:
    """Make uv trust what this machine trusts (proxies with a certificate of their own), where it says what that is."""
    known = ssl.get_default_verify_paths()
    return {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"} if known.cafile or known.capath else {}


def say(text: str) -> None:
    """Tell the person; the standard output stays for what was asked for."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def stop(reason: str, mend: str = "see above; it goes on from here when run again") -> NoReturn:
    """End with what is wrong and what to do about it."""
    sys.exit(f"setup: {reason}: {mend}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("stopped", "run it again to go on")
