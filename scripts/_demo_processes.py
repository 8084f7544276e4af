"""The processes of the demo: started, watched, waited for, and ended whatever happens.

Every wait has a name and a deadline, notices at once if a process has ended that should
run, and gives up when the person who watches says so.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

import _env

POLL_SECONDS = 0.002
STOP_SECONDS = 10.0
SHOWN_LINES = 12
"""Lines of each log that are shown when something went wrong."""


class DemoError(Exception):
    """Something went wrong; the message says what."""


class Interrupted(Exception):  # noqa: N818 - not an error
    """Somebody wants the demo to end: Ctrl-C, a signal, a closed terminal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Wish:
    """Whether somebody wants the demo to end.

    A signal is only noted, and acted upon where `check` is called: an exception in just any
    place could fall between the start of a process and the note that it must be ended.
    """

    _signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._number = 0

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Note the signals meanwhile."""
        before = [(each, signal.signal(each, self._note)) for each in self._signals]
        try:
            yield
        finally:
            for each, handler in before:
                signal.signal(each, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._number = number

    def check(self) -> None:
        """Raise Interrupted if it is so."""
        if self._number:
            raise Interrupted(self._number)


class Server:
    """One process, run in `directory`; everything that it prints is in a file there."""

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self.expected = True
        """Whether it should be running."""
        self._log = directory / f"{name}.log"
        with self._log.open("ab") as file:
            # In a session of its own, a Ctrl-C reaches the demo alone, which ends all in order.
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=_environ(),
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def said(self, pattern: str) -> re.Match[str] | None:
        """The last place in its log that `pattern` matches."""
        found = list(re.finditer(pattern, self.output()))
        return found[-1] if found else None

    def output(self) -> str:
        """All that it printed."""
        return self._log.read_text(errors="replace")

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.output().splitlines()
        return "\n".join(lines[-SHOWN_LINES:])

    def check(self) -> None:
        """Raise DemoError if it should be running and is not."""
        if self.expected and not self.running:
            code = self._process.returncode
            raise DemoError(f"the {self.name} ended by itself with exit code {code}")

    def ask_to_end(self) -> None:
        """Send SIGTERM, if it still runs."""
        self.expected = False
        if self.running:
            self._process.terminate()

    def wait(self, deadline: float) -> int:
        """Its exit code; killed if it still runs at `deadline`."""
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Send SIGKILL, if it still runs; returns the exit code, which is then -9."""
        self.expected = False
        self._process.kill()
        return self._process.wait()


class Servers:
    """All that was started; a context manager that leaves none of it running."""

    def __init__(self, directory: Path, wish: Wish) -> None:
        self._directory = directory
        self._wish = wish
        self._started: list[Server] = []

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, name: str, *arguments: str) -> Server:
        """Start twistd in the foreground with `arguments`, as the process `name`."""
        twistd = [str(program("twistd")), "--nodaemon", f"--pidfile={name}.pid"]
        return self._start(name, [*twistd, *arguments])

    def _start(self, name: str, command: list[str]) -> Server:
        server = Server(name, command, self._directory)
        self._started.append(server)
        return server

    def until(
        self,
        what: str,
        seconds: float,
        condition: Callable[[], object],
        moving: Callable[[], object] = lambda: None,
    ) -> None:
        """Wait until `condition` is true.

        Raises DemoError if it is not for `seconds` in which `moving` did not change either.
        """
        seen, deadline = moving(), time.monotonic() + seconds
        while not condition():
            self.check()
            if (now := moving()) != seen:
                seen, deadline = now, time.monotonic() + seconds
            elif time.monotonic() > deadline:
                raise DemoError(f"waited {seconds:g} s in vain for {what}")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raise if somebody wants an end, or if a process has come to one by itself."""
        self._wish.check()
        for server in self._started:
            server.check()

    def run(self, *arguments: str, seconds: float) -> tuple[int, str]:
        """Run the command line `tarfailover`; returns its exit code and output."""
        name = f"tarfailover {arguments[0]} {len(self._started)}"
        server = self._start(name, [sys.executable, "-m", "tarfailover", *arguments])
        server.expected = False
        self.until(f"{name} to end", seconds, lambda: not server.running)
        return server.kill(), server.output()

    def stop(self) -> dict[str, int]:
        """End all that runs, the last started first; returns the exit codes of these."""
        running = [each for each in reversed(self._started) if each.running]
        deadline = time.monotonic() + STOP_SECONDS
        for server in running:
            server.ask_to_end()
        return {server.name: server.wait(deadline) for server in running}

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n\n".join(f"--- {each.name}\n{each.tail()}" for each in self._started)


def program(name: str) -> Path:
    """The program `name` beside the Python that runs this."""
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise DemoError(f"{path} is not there; start scripts/demo, which installs it")
    return path


def _environ() -> dict[str, str]:
    """The variables for a child: none that configure tarfailover, and output without delay."""
    kept = {k: v for k, v in _env.clean_environ().items() if not k.startswith("TARFAILOVER_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}
