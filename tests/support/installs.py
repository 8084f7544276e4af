"""Fresh environments to install tarfailover into, without downloading what it depends on.

A fresh environment sees the installed packages of the tests' own environment through a path
file. A path file is read for plain directories only: the path files in there, and with them
the development install of the checkout, are not followed. So what is found of tarfailover in
the fresh environment is what was installed into it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
NOT_SOURCES = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
TWISTD = "from twisted.scripts.twistd import run; run()"
"""What the console script `twistd` consists of."""
SECONDS = 120


def python_files() -> set[str]:
    """The Python files of the product in the checkout, relative to it."""
    found = [*CHECKOUT.glob("tarfailover/**/*.py"), *CHECKOUT.glob("twisted/plugins/*.py")]
    return {str(file.relative_to(CHECKOUT)) for file in found}


def copy_checkout(to: Path) -> Path:
    """A copy of the sources alone: building leaves files behind, not in the checkout then."""
    return Path(shutil.copytree(CHECKOUT, to, ignore=shutil.ignore_patterns(*NOT_SOURCES)))


def build(sources: Path, to: Path) -> None:
    """Build a source archive and, from that, a wheel."""
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(to), str(sources)])


class Fresh:
    """A fresh virtual environment and an empty folder to start its programs in."""

    def __init__(self, home: Path) -> None:
        self.python = home / "env" / "bin" / "python"
        self.cwd = home / "empty"
        self.cwd.mkdir(parents=True)
        run([sys.executable, "-m", "venv", "--without-pip", str(home / "env")])
        (site,) = (home / "env").glob("lib/python3*/site-packages")
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def install(self, *what: str) -> None:
        """``pip install`` without its dependencies."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        run([*pip, "--no-deps", "--no-index", "--no-build-isolation", *what], self.cwd)

    def evaluate(self, code: str) -> str:
        """What `code` prints under the environment's Python."""
        return run([str(self.python), "-c", code], self.cwd)

    def twistd(self, *arguments: str) -> str:
        """What twistd prints under the environment's Python."""
        return run([str(self.python), "-c", TWISTD, *arguments], self.cwd)


def run(command: list[str], cwd: Path | None = None) -> str:
    """The output of `command`, which must end with 0, with no packages from a PYTHONPATH."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, check=False, cwd=cwd, env=environ, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout
