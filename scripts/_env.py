"""The environment of a script: made once under .venv/, and anew when what it is made from changed.

Only the standard library: on a fresh machine nothing else is there yet. Import this module
before any other, so that a Python that is too old is told so in words.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 -- the oldest Python is exactly whom this tells
    sys.exit(
        f"tarfailover needs Python 3.10 or newer; {sys.executable} is {sys.version.split()[0]}.\n"
        f"Run this script with another one, like: python3.12 {sys.argv[0]}"
    )

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("setup.cfg", "pyproject.toml")
BASE_PYTHON = os.path.realpath(sys.executable)  # not that of an environment, should one run this
INSTALL_SECONDS = 900
PROBE = "import ensurepip, sys, venv; print(sys.version)"


def clean_environ() -> dict[str, str]:
    """The variables of this process without those that lead a Python to foreign packages."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}


def usable(python: str) -> bool:
    """Whether `python` runs and can make environments (a pyenv shim may do neither)."""
    return _probe(python).returncode == 0


def environment(name: str, *arguments: str, python: str = BASE_PYTHON) -> Path:
    """The `bin` folder of .venv/`name`, where ``pip install`` was given `arguments`.

    A stamp says what the environment was made from: the arguments, the files that they and
    the package's metadata live in, the Python, and the place. If it is still true, nothing is
    done. Ends the script with a clear message if it cannot be made.
    """
    home = ROOT / ".venv" / name
    home.parent.mkdir(exist_ok=True)
    with (home.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the one who holds it is bounded by INSTALL_SECONDS
        stamp, wanted = home / "stamp", _fingerprint(python, arguments)
        if not (stamp.is_file() and stamp.read_text() == wanted):
            _make(home, python, arguments)
            stamp.write_text(wanted)
    return home / "bin"


def enter(name: str, *arguments: str) -> None:
    """Go on in the environment .venv/`name`: starts the running script anew under its Python.

    Returns only there. The script's own imports of installed packages come after this call.
    """
    binaries = environment(name, *arguments)
    if Path(sys.prefix) != binaries.parent:
        python = str(binaries / "python")
        os.execve(python, [python, *sys.argv], clean_environ())  # noqa: S606 -- no shell wanted


def _probe(python: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-c", PROBE]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env=clean_environ()
    )


def _fingerprint(python: str, arguments: tuple[str, ...]) -> str:
    probe = _probe(python)
    if probe.returncode:
        sys.exit(
            f"{python} cannot make environments: {probe.stderr.strip().splitlines()[-1]}\n"
            "Install its venv module (Debian, Ubuntu: apt install python3-venv) and try again."
        )
    files = {*SOURCES, *(a for a in arguments if (ROOT / a).is_file())}
    told = [str(ROOT), python, probe.stdout, *arguments]
    digest = hashlib.sha256("\0".join(told).encode())
    for file in sorted(files):
        digest.update((ROOT / file).read_bytes())
    return digest.hexdigest()


def _make(home: Path, python: str, arguments: tuple[str, ...]) -> None:
    started = time.monotonic()
    print(f"making .venv/{home.name} with {python} (only when it changed)", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    _run([python, "-m", "venv", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _run([*pip, "install", "--quiet", *arguments])
    print(f"made .venv/{home.name} in {time.monotonic() - started:.0f} s", flush=True)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, cwd=ROOT, env=clean_environ(), timeout=INSTALL_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as why:
        sys.exit(f"{why}\nThe lines above say what is missing; run the script again after that.")
