"""Real Oak at our service: builds `Peer` on Oak's published artifacts and runs it.

`Peer.java` lies with the shared material beside the checkout; the pom beside the
interop tests pins the release of Oak. Both, and a JDK and Maven, are found by
`Toolchain.find`; `build` makes the class path once and keeps it in a directory that
is named after what it was built from, so nothing there is ever out of date.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = CHECKOUT.parent / "shared"
POM = CHECKOUT / "tests" / "interop" / "pom.xml"
CACHE = CHECKOUT / "build" / "interop"

RESOLVE_TIMEOUT = 240.0
"""Seconds for Maven to download what the pom names (15 MB and Maven's own plugins)."""

COMPILE_TIMEOUT = 60.0
"""Seconds for javac to compile Peer.java."""

PEER_TIMEOUT = 60.0
"""Seconds for one command of Peer that ends by itself."""

LINE_TIMEOUT = 30.0
"""Seconds until a running Peer prints the line that is waited for."""

STOP_TIMEOUT = 20.0
"""Seconds for a running Peer to end after its input was closed or it was signalled."""

JAVA_RELEASE = "11"
"""The oldest Java that the pinned Oak runs on."""

_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx768m")
_LOG = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
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
    """What Oak is built with: the JDK's programs, Maven, and the source of Peer."""

    java: str
    javac: str
    mvn: str
    source: Path
    pom: Path = POM

    @classmethod
    def find(cls, shared: Path = SHARED, path: str | None = None) -> Toolchain:
        """The tools on `path` (default: PATH); raises OakAbsentError naming all that is missing."""
        found = {name: shutil.which(name, path=path) for name in ("java", "javac", "mvn")}
        source = shared / "peer" / "Peer.java"
        missing = [f"no {name} on PATH" for name, where in found.items() if where is None]
        if not source.is_file():
            missing.append("no shared/peer/Peer.java beside the checkout")
        if missing:
            raise OakAbsentError("real Oak cannot judge here: " + ", ".join(missing))
        java, javac, mvn = (where or "" for where in found.values())
        return cls(java, javac, mvn, source)

    @property
    def key(self) -> str:
        """A name for what this tool chain builds, different for every source and pom."""
        parts = (self.source.read_bytes(), self.pom.read_bytes(), JAVA_RELEASE.encode())
        return hashlib.sha256(b"\0".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()[
            :16
        ]


def build(tools: Toolchain, cache: Path = CACHE) -> OakPeer:
    """The Peer that `tools` make, built at most once under `cache`, whoever else asks.

    Raises OakOfflineError where Maven reaches no repository, OakError where a tool fails.
    """
    home = cache / tools.key
    if not home.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "lock", RESOLVE_TIMEOUT + COMPILE_TIMEOUT):
            if not home.is_dir():
                _build_into(tools, home)
    return OakPeer(tools.java, home)


def _build_into(tools: Toolchain, home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="new-") as scratch:
        new = Path(scratch) / "peer"
        lib, classes = new / "lib", new / "classes"
        classes.mkdir(parents=True)
        _resolve(tools, lib)
        _tool(
            [tools.javac, "-nowarn", "--release", JAVA_RELEASE, "-cp", f"{lib}/*"]
            + ["-d", str(classes), str(tools.source)],
            COMPILE_TIMEOUT,
        )
        new.rename(home)


def _resolve(tools: Toolchain, lib: Path) -> None:
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={lib}"]
    try:
        _tool([tools.mvn, "-B", "-U", "-ntp", "-f", str(tools.pom), *goal], RESOLVE_TIMEOUT)
    except OakError as error:
        if maven_found_no_network(str(error)):
            raise OakOfflineError(f"Maven reaches no repository: {error}") from error
        raise


def _tool(command: list[str], timeout: float) -> str:
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


@dataclass(frozen=True)
class Walked:
    """What Oak found when it read every node of a store: the head, counts, the digest."""

    head: str
    nodes: int
    properties: int
    blob_bytes: int
    digest: str


class OakPeer:
    """A built Peer: runs its commands on store directories, each in a JVM of its own."""

    def __init__(self, java: str, home: Path) -> None:
        self._java = java
        self._class_path = f"{home / 'classes'}{os.pathsep}{home / 'lib'}/*"

    def command(self, *args: object, **properties: object) -> list[str]:
        """The command line of Peer with `args`; `properties` become ``-Dpeer.NAME=VALUE``."""
        defines = [f"-Dpeer.{name}={value}" for name, value in properties.items()]
        java = [self._java, *_JVM, _LOG, *defines, "-cp", self._class_path]
        return [*java, "Peer", *map(str, args)]

    def run(self, *args: object, timeout: float = PEER_TIMEOUT, **properties: object) -> str:
        """What Peer printed for the command `args`; raises OakError if it failed or was late."""
        return _tool(self.command(*args, **properties), timeout)

    def walk(self, directory: Path, *, timeout: float = PEER_TIMEOUT) -> Walked:
        """All of the content of the store in `directory`, read by Oak through a read-only open.

        Oak leaves ``*.ro.bak`` files in a directory whose newest tar is not closed.
        """
        said = self.run("walk", directory, timeout=timeout)
        found = dict(re.findall(r"(\w+)=(\S+)", said))
        return Walked(
            found["head"],
            int(found["nodes"]),
            int(found["props"]),
            int(found["blobbytes"]),
            found["sha256"],
        )

    def digest(self, directory: Path, *, timeout: float = PEER_TIMEOUT) -> str:
        """The content digest of the store in `directory`, as the fixtures' README defines it."""
        return self.walk(directory, timeout=timeout).digest

    def start(self, *args: object, **properties: object) -> OakProcess:
        """A running Peer: ``forever``, ``primary``, or a command that has to wait for a lock."""
        return OakProcess(self.command(*args, **properties))


class OakProcess:
    """A Peer that goes on running: lines in, lines out, and killed at the end at the latest."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    @property
    def pid(self) -> int:
        """The process id of the JVM."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the JVM has not ended yet."""
        return self._child.poll() is None

    def expect(self, pattern: str, *, timeout: float = LINE_TIMEOUT) -> re.Match[str]:
        """The next line in which `pattern` is found; raises OakError if none comes in time."""
        deadline = time.monotonic() + timeout
        seen: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise self._failed(f"no line with {pattern!r} in {timeout:g} s", seen) from None
            if line is None:
                raise self._failed(f"ended without a line with {pattern!r}", seen)
            seen.append(line)
            if match := re.search(pattern, line):
                return match

    def silent(self) -> bool:
        """Whether nothing that Peer printed is waiting to be read."""
        return self._lines.empty()

    def send(self, line: str) -> None:
        """Writes `line` to the standard input of Peer."""
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def finish(self, *, timeout: float = STOP_TIMEOUT) -> int:
        """Closes the standard input and returns the exit code; raises OakError if it is late."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._failed(f"still running after {timeout:g} s", []) from None

    def kill(self) -> None:
        """Ends the JVM with SIGKILL, in the middle of whatever it does, and waits for its end."""
        self._child.send_signal(signal.SIGKILL)
        self._child.wait(STOP_TIMEOUT)

    def _failed(self, what: str, seen: list[str]) -> OakError:
        self._errors.seek(0)
        told = "\n".join(seen) + "\n" + self._errors.read().decode(errors="replace")
        return OakError(f"{' '.join(self._command)}: {what}\n{told}")

    def __enter__(self) -> OakProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running:
            self.kill()
        self._reader.join(STOP_TIMEOUT)
        for stream in (self._child.stdin, self._child.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def until(condition: Callable[[], bool], what: str, timeout: float = LINE_TIMEOUT) -> None:
    """Returns once `condition` holds; raises OakError if `what` does not come true in time."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise OakError(f"not true within {timeout:g} s: {what}")
        pause.wait(0.02)


def waits_for_a_lock(pid: int) -> bool:
    """Whether the kernel has process `pid` queued for a POSIX record lock."""
    return re.search(rf"-> POSIX +\w+ +WRITE +{pid} ", Path("/proc/locks").read_text()) is not None
