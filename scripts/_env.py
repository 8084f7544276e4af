"""The environment of a script: made once under .venv/, and anew when what it is made from changed.

Only the standard library: on a fresh machine nothing else is there yet. Import this module
before any other, so that a Python that is too old is told so in words.
"""

from __future__ import annotations

import configparser
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
BASE_PYTHON = os.path.realpath(sys.executable)  # not that of an environment, should one run this
INSTALL_SECONDS = 900
PROBE = "import ensurepip, sys, venv; print(sys.version)"


class NoEnvironmentError(Exception):
    """An environment cannot be made; the message says what to do about it."""


def clean_environ() -> dict[str, str]:
    """The variables of this process without those that lead a Python to foreign packages."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}


def usable(python: str) -> bool:
    """Whether `python` runs and can make environments (a pyenv shim may do neither)."""
    return _probe(python).returncode == 0


def environment(name: str, *arguments: str, python: str = BASE_PYTHON) -> Path:
    """The `bin` folder of .venv/`name`, where ``pip install`` was given `arguments`.

    A stamp says what the environment was made from: the Python, the place, the arguments and
    the files that they name, the package's metadata. If it is still true, nothing is done.
    Raises NoEnvironmentError.
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
    try:
        binaries = environment(name, *arguments)
    except NoEnvironmentError as why:
        sys.exit(str(why))
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
        told = probe.stderr.strip().splitlines() or ["it says nothing"]
        raise NoEnvironmentError(
            f"{python} cannot make environments: {told[-1]}\n"
            "Install its venv module (Debian, Ubuntu: apt install python3-venv) and try again."
        )
    files = [(ROOT / a).read_text() for a in arguments if (ROOT / a).is_file()]
    told = [str(ROOT), python, probe.stdout, *arguments, *files, _metadata()]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()


def _metadata() -> str:
    """What an install depends on, without the settings of tools that share these files."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    kept = [s for s in setup.sections() if s.split(".")[0] in ("metadata", "options")]
    backend, _, _ = (ROOT / "pyproject.toml").read_text().partition("\n[tool.")
    return repr([(s, setup.items(s)) for s in kept]) + backend


def _make(home: Path, python: str, arguments: tuple[str, ...]) -> None:
    started = time.monotonic()
    print(f"making .venv/{home.name} with {python} (only when it changed)", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    _run([python, "-m", "venv", "--clear", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    # Not compiled: most of what is installed is never imported.
    _run([*pip, "install", "--quiet", "--no-compile", *arguments])
    print(f"made .venv/{home.name} in {time.monotonic() - started:.0f} s", flush=True)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, cwd=ROOT, env=clean_environ(), timeout=INSTALL_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as why:
        raise NoEnvironmentError(
            f"{why}\nThe lines above say what is missing; run the script again after that."
        ) from why
