"""The processes of the benchmark: started, listened to, measured, ended."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

SECONDS = 600.0
"""The longest that anything is waited for."""
STOP_SECONDS = 15.0
SAMPLE_SECONDS = 0.02
TICKS = os.sysconf("SC_CLK_TCK")

LISTENING = re.compile(r"listening on (?:127\.0\.0\.1:)?(\d+)")
READY = re.compile(r": (no head yet|head \S+)$")
CONNECTED = re.compile(r"connected to ")
CARRIED = re.compile(r"carried (\d+) (\d+)")
"""A connection through a link is over: bytes to the target, bytes back."""
DURABLE = re.compile(r"head (\S+) is durable, .*: ([\d.]+) of [\d.]+ MiB, (\d+) segments")


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


class Usage(NamedTuple):
    """What a process, with the children that it has waited for, has used so far."""

    cpu: float
    """Seconds on a processor."""
    main: float
    """Those of the main thread alone."""

    def since(self, before: Usage) -> Usage:
        """What was used after `before`."""
        return Usage(self.cpu - before.cpu, self.main - before.main)


class Line(NamedTuple):
    """A line that a process printed, and when (time.monotonic)."""

    time: float
    match: re.Match[str]


class Process:
    """A program that runs, and what it prints; a context manager that ends it."""

    def __init__(self, *command: str | Path) -> None:
        self.name = " ".join(map(str, command[:3]))
        self.started = time.monotonic()
        self._popen = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._popen.pid
        self._lines: list[tuple[float, str]] = []
        self._last = ""
        """The newest line that was looked at, and that says something."""
        self._ended = False
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen, args=[self._popen.stdout])
        self._listener.start()

    def _listen(self, output: IO[str]) -> None:
        for line in output:
            with self._changed:
                self._lines.append((time.monotonic(), line.rstrip()))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def line(self, pattern: re.Pattern[str], seconds: float = SECONDS) -> Line:
        """Wait for the next line that has `pattern`; raises BenchError.

        Each line is looked at once: a second call looks behind the first one's line.
        """
        deadline = time.monotonic() + seconds
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._lines or self._ended, max(0.0, deadline - time.monotonic())
                )
                if not self._lines:
                    why = f"no line with {pattern.pattern!r} came"
                    raise BenchError(f"{self.name}: {why}, the last one is {self._last!r}")
                when, text = self._lines.pop(0)
                self._last = text or self._last
            found = pattern.search(text)
            if found:
                return Line(when, found)
            if "rror" in text or "Traceback" in text:
                rest = "\n".join(line for _, line in self._lines)
                raise BenchError(f"{self.name}: {text}\n{rest}")

    def usage(self) -> Usage:
        """What it has used until now; also right after its end, before `stop`."""
        return usage(self.pid)

    def end(self, seconds: float = SECONDS) -> float:
        """Wait for the program's own end, but keep what /proc says of it; returns when it was.

        Raises BenchError if it failed.
        """
        late = threading.Timer(seconds, self._popen.kill)
        late.start()
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        when = time.monotonic()
        late.cancel()
        if ended is None or ended.si_status:
            self._listener.join(STOP_SECONDS)
            told = "\n".join(line for _, line in self._lines)
            raise BenchError(f"{self.name} failed or was too slow:\n{told}")
        return when

    def stop(self) -> int:
        """End it in good order if it still runs, else by force; its exit code."""
        if self._popen.poll() is None:
            self._popen.terminate()
        try:
            code = self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(STOP_SECONDS)
        self._listener.join(STOP_SECONDS)
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        return code

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def usage(pid: int) -> Usage:
    """What process `pid` has used until now."""
    main = _cpu(Path(f"/proc/{pid}/task/{pid}/stat"), 13)  # first: the whole has then no less
    return Usage(_cpu(Path(f"/proc/{pid}/stat"), 15), main)


def _cpu(stat: Path, last: int) -> float:
    """Seconds: the fields from `utime` (11 behind the name) to before field `last`."""
    fields = stat.read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:last])) / TICKS


def peak_memory(pid: int) -> int:
    """VmHWM, bytes; 0 if the process is gone."""
    return memory(pid, "VmHWM")


def memory(pid: int, what: str = "VmRSS") -> int:
    """Resident bytes, or another number of /proc/PID/status; 0 if the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _children(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


class Watch:
    """Samples the peak memory of a process and of its children, which come and go."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        """Of the largest of them; bytes."""
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.look()

    def look(self) -> None:
        """Take one sample."""
        for pid in (self._pid, *_children(self._pid)):
            self.peak = max(self.peak, peak_memory(pid))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        self._over.set()
        self._thread.join()


def wait_childless(process: Process) -> None:
    """Wait until all children of `process` were waited for, so that it has their times."""
    deadline = time.monotonic() + STOP_SECONDS
    while _children(process.pid):
        if time.monotonic() > deadline:
            raise BenchError(f"{process.name}: a child does not end")
        time.sleep(0.01)


def twistd(plugin: str, *options: str | Path) -> Process:
    """``twistd`` of this Python's environment, in the foreground."""
    program = Path(sys.executable).with_name("twistd")
    return Process(program, "--nodaemon", "--pidfile=", plugin, *options)


@contextlib.contextmanager
def master(store: Path, *options: str) -> Iterator[tuple[Process, int]]:
    """A master that serves `store`, and its port."""
    with twistd("tarfailover-master", "--store", store, "--port", "0", *options) as process:
        yield process, int(process.line(LISTENING).match[1])


@contextlib.contextmanager
def proxy(target: int, round_trip: float, bandwidth: float) -> Iterator[tuple[Process, int]]:
    """A link to port `target`, and its own port; milliseconds, MB/s."""
    program = Path(__file__).with_name("bench_proxy.py")
    options = ("--target", target, "--round-trip", round_trip, "--bandwidth", bandwidth)
    with Process(sys.executable, program, *map(str, options)) as process:
        yield process, int(process.line(LISTENING).match[1])


def rsync_version() -> str:
    """The first line of ``rsync --version``, empty if there is none that knows --fsync."""
    program = shutil.which("rsync")
    if program is None:
        return ""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    helped = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return told.stdout.splitlines()[0] if "--fsync" in helped.stdout else ""


@contextlib.contextmanager
def rsync_daemon(store: Path, home: Path) -> Iterator[tuple[Process, int]]:
    """An rsync daemon on loopback that serves `store` as module ``store``, and its port.

    Its configuration is written into `home`.
    """
    port = _free_port()
    config = home / "rsyncd.conf"
    owner = f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if not os.getuid() else ""
    config.write_text(
        f"address = 127.0.0.1\nport = {port}\nuse chroot = no\nreverse lookup = no\n{owner}"
        f"[store]\npath = {store}\nread only = yes\n"
    )
    options = ("--daemon", "--no-detach", f"--config={config}", "--log-file=/dev/null")
    with Process("rsync", *options) as process:
        _wait_listening(port)
        yield process, port


def rsync_client(port: int, target: Path) -> Process:
    """A client that copies the daemon's module into the directory `target`."""
    source = f"rsync://127.0.0.1:{port}/store/"
    return Process("rsync", "--archive", "--whole-file", "--fsync", source, f"{target}/")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def _wait_listening(port: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), STOP_SECONDS).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise BenchError(f"nobody listens on port {port}") from None
            time.sleep(0.01)
        else:
            return
