"""Real Oak from its published artifacts: found, downloaded and built, once for each release.

`tests/interop/pom*.xml` pin the releases, `tests/interop/peer` holds our program around Oak. A
JDK and Maven are found by `Toolchain.find`; `build` makes the class path once and keeps it in a
directory that is named after what it was built from, so nothing there is ever out of date.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
INTEROP = CHECKOUT / "tests" / "interop"
CACHE = CHECKOUT / "build" / "interop"

RELEASES = {"1.82": INTEROP / "pom.xml", "1.22": INTEROP / "pom-1.22.xml"}
"""The newest release of Oak, and the oldest that still matters, with what Maven is told."""

SOURCES = tuple(sorted((INTEROP / "peer").glob("*.java")))
"""Our program around Oak; its class OakPeer is the one that runs."""

RESOLVE_TIMEOUT = 240.0
"""Seconds for Maven to download what a pom names (15 MB and Maven's own plugins)."""

COMPILE_TIMEOUT = 60.0
"""Seconds for javac."""

JAVA_RELEASE = "11"
"""The oldest Java that the newest release of Oak runs on."""

_UNREACHED = re.compile(r"Could not transfer|failed to transfer|in offline mode|Unknown host")
_REFUSED = re.compile(r"status code:? \d{3}|Not authorized|Forbidden|checksum", re.IGNORECASE)


class OakError(Exception):
    """Oak, or a tool that builds it, failed: says which command and what it printed."""


class OakAbsentError(OakError):
    """A part that this machine would have to have is not here: says which."""


class OakOfflineError(OakError):
    """Maven is here, but reaches no repository to take Oak from."""


def maven_found_no_network(output: str) -> bool:
    """Whether Maven's `output` tells of an unreachable repository, not of a refusing one."""
    return _UNREACHED.search(output) is not None and _REFUSED.search(output) is None


def offline_is_a_failure(environ: Mapping[str, str]) -> bool:
    """The rule for Maven without network: a person's test run skips, CI's fails.

    CI is where ``CI`` is set (to anything but nothing, ``0`` or ``false``), as every
    CI service does, or where ``TARFAILOVER_INTEROP=required``.
    """
    return oak_is_required(environ) or environ.get("CI", "").lower() not in ("", "0", "false")


def oak_is_required(environ: Mapping[str, str]) -> bool:
    """Whether ``TARFAILOVER_INTEROP=required`` forbids every skip for want of Oak."""
    return environ.get("TARFAILOVER_INTEROP") == "required"


@dataclass(frozen=True)
class Toolchain:
    """What Oak is built with: the JDK's programs, Maven, what it is told, and our sources."""

    java: str
    javac: str
    mvn: str
    pom: Path
    sources: tuple[Path, ...] = SOURCES

    @classmethod
    def find(cls, pom: Path, path: str | None = None) -> Toolchain:
        """The tools on `path` (default: PATH); raises OakAbsentError naming all that is missing."""
        found = {name: shutil.which(name, path=path) for name in ("java", "javac", "mvn")}
        missing = [f"no {name} on PATH" for name, where in found.items() if where is None]
        if missing:
            raise OakAbsentError("real Oak cannot judge here: " + ", ".join(missing))
        java, javac, mvn = (where or "" for where in found.values())
        return cls(java, javac, mvn, pom)

    @property
    def libraries_key(self) -> str:
        """A name for what Maven brings, different for every pom."""
        return _key(self.pom)

    @property
    def classes_key(self) -> str:
        """A name for what javac makes, different for every source and pom."""
        return _key(self.pom, *self.sources)


def _key(*files: Path) -> str:
    texts = [JAVA_RELEASE.encode(), *(file.read_bytes() for file in files)]
    return hashlib.sha256(b"".join(hashlib.sha256(t).digest() for t in texts)).hexdigest()[:16]


@dataclass(frozen=True)
class Built:
    """What came of it: a Java program, and where its classes are."""

    java: str
    class_path: str


def build(tools: Toolchain, cache: Path = CACHE) -> Built:
    """What `tools` make, each part built at most once under `cache`, whoever else asks.

    Raises OakOfflineError where Maven reaches no repository, OakError where a tool fails.
    """
    lib = _once(cache / f"lib-{tools.libraries_key}", lambda new: _resolve(tools, new))

    def compiled(new: Path) -> None:
        options = ["-nowarn", "-Xlint:-options", "--release", JAVA_RELEASE, "-cp", f"{lib}/*"]
        sources = map(str, tools.sources)
        run_tool([tools.javac, *options, "-d", str(new), *sources], COMPILE_TIMEOUT)

    classes = _once(cache / f"classes-{tools.classes_key}", compiled)
    return Built(tools.java, f"{classes}{os.pathsep}{lib}/*")


def _once(home: Path, make: Callable[[Path], None]) -> Path:
    """The folder `home`, which `make` fills under another name unless it is there."""
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        with _locked(home.parent / "lock", RESOLVE_TIMEOUT + COMPILE_TIMEOUT):
            if not home.is_dir():
                with tempfile.TemporaryDirectory(dir=home.parent, prefix="new-") as scratch:
                    new = Path(scratch) / home.name
                    new.mkdir()
                    make(new)
                    new.rename(home)
    return home


def _resolve(tools: Toolchain, lib: Path) -> None:
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={lib}"]
    try:
        run_tool([tools.mvn, "-B", "-U", "-ntp", "-f", str(tools.pom), *goal], RESOLVE_TIMEOUT)
    except OakError as error:
        if maven_found_no_network(str(error)):
            raise OakOfflineError(f"Maven reaches no repository: {error}") from error
        raise


def run_tool(command: list[str], timeout: float) -> str:
    """The standard output of `command`; raises OakError with all that it printed."""
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as expired:
        raise OakError(f"{' '.join(command)}: still running after {timeout:g} s") from expired
    if done.returncode != 0:
        said = done.stdout + done.stderr
        raise OakError(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    return done.stdout


@contextlib.contextmanager
def _locked(path: Path, timeout: float) -> Iterator[None]:
    """Holds the lock file `path`; raises OakError if others hold it for `timeout` seconds."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as held:
                if time.monotonic() > deadline:
                    raise OakError(f"{path}: held by another build for {timeout:g} s") from held
                pause.wait(0.1)
        yield
