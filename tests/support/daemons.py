"""Real twistd processes: started, watched line by line, and stopped as an operator stops them."""

from __future__ import annotations

import functools
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

LINE_SECONDS = 30.0
"""Until a process prints the line that is waited for."""
STOP_SECONDS = 5.0
"""For a process to end after SIGTERM: what the product promises."""
TWISTD = Path(sys.executable).with_name("twistd")


class DaemonError(AssertionError):
    """A process did not do what was expected; says what it printed."""


class Daemon:
    """A `twistd -n` process; killed at the end of the block at the latest."""

    def __init__(self, *arguments: object) -> None:
        self.command = [str(TWISTD), "-n", "--pidfile=", *map(str, arguments)]
        self.seen: list[str] = []
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def master(cls, store: Path, *options: object) -> Daemon:
        """A master of `store` on a port that the system chooses."""
        return cls("tarfailover-master", "--store", store, "--port", 0, *options)

    @classmethod
    def slave(cls, store: Path, port: int, *options: object) -> Daemon:
        """A slave that keeps its copy in `store`."""
        return cls("tarfailover-slave", "--store", store, "--port", port, *options)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    @functools.cached_property
    def port(self) -> int:
        """Where a master listens."""
        return int(self.expect(r"listening on \S+:(\d+)")[1])

    def expect(self, pattern: str, seconds: float = LINE_SECONDS) -> re.Match[str]:
        """The next line in which `pattern` is found."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise self.error(f"no line with {pattern!r} in {seconds:g} s") from None
            if line is None:
                raise self.error(f"ended without a line with {pattern!r}")
            self.seen.append(line)
            if match := re.search(pattern, line):
                return match

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code, once the process has ended; raises DaemonError if it is late."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.error(f"still running after {seconds:g} s") from None
        self._drain()
        return code

    def _drain(self) -> None:
        self._reader.join(LINE_SECONDS)
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.seen.append(line)

    @property
    def output(self) -> str:
        """All that was printed up to now."""
        return "\n".join(self.seen)

    def stop(self) -> None:
        """SIGTERM; must end with 0, in time, and without a traceback."""
        self.signal(signal.SIGTERM)
        code = self.end()
        if code or "Traceback" in self.output:
            raise self.error(f"ended with {code} after SIGTERM")

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        self.signal(signal.SIGKILL)
        self.process.wait(LINE_SECONDS)

    def error(self, what: str) -> DaemonError:
        """What went wrong, with all that was printed."""
        return DaemonError(f"{' '.join(self.command)}: {what}\n{self.output}")

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        self._reader.join(LINE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
