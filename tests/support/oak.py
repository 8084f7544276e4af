"""Real Oak at our service, one command a process: runs the `Peer` of the shared material.

`oak_peer` runs our own program, many commands in one process; this is what is left to move there.
"""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

from oak_build import CHECKOUT, RELEASES, Built, OakAbsentError, OakError, Toolchain, run_tool
from oak_peer import Walked

SHARED = CHECKOUT.parent / "shared"

PEER_TIMEOUT = 60.0
"""Seconds for one command of Peer that ends by itself."""

LINE_TIMEOUT = 30.0
"""Seconds until a running Peer prints the line that is waited for."""

STOP_TIMEOUT = 20.0
"""Seconds for a running Peer to end after its input was closed or it was signalled."""

_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx768m")
_LOG = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


def shared_peer() -> Toolchain:
    """The tools for the shared Peer on the newest Oak; raises OakAbsentError."""
    source = SHARED / "peer" / "Peer.java"
    if not source.is_file():
        raise OakAbsentError("real Oak cannot judge here: no shared/peer/Peer.java")
    tools = Toolchain.find(RELEASES["1.82"])
    return Toolchain(tools.java, tools.javac, tools.mvn, tools.pom, (source,))


class OakPeer:
    """A built Peer: runs its commands on store directories, each in a JVM of its own."""

    def __init__(self, built: Built) -> None:
        self._java, self._class_path = built.java, built.class_path

    def command(self, *args: object, **properties: object) -> list[str]:
        """The command line of Peer with `args`; `properties` become ``-Dpeer.NAME=VALUE``."""
        defines = [f"-Dpeer.{name}={value}" for name, value in properties.items()]
        java = [self._java, *_JVM, _LOG, *defines, "-cp", self._class_path]
        return [*java, "Peer", *map(str, args)]

    def run(self, *args: object, timeout: float = PEER_TIMEOUT, **properties: object) -> str:
        """What Peer printed for the command `args`; raises OakError if it failed or was late."""
        return run_tool(self.command(*args, **properties), timeout)

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
