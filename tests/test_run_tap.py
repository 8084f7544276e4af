"""What both composition roots do to their process, seen from outside: real processes."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from twisted.internet.task import Clock

from tarfailover import run_tap
from tarfailover.errors import ConfigError, DivergedError, StoreLockedError, TarFailoverError
from tarfailover.run_tap import keep_buffers

SECONDS = 60

FATAL = """
    from twisted.internet import reactor
    from tarfailover.errors import *
    from tarfailover.run_tap import fatal
    stop = fatal(reactor)
    reactor.addSystemEventTrigger("during", "shutdown", print, "stopped in good order")
"""
SIGNALS = """
    import os, signal
    from twisted.internet import reactor
    from tarfailover.run_tap import stop_on_signals
    stop_on_signals(reactor)
    reactor.addSystemEventTrigger("during", "shutdown", print, "stopped in good order")
"""


def run(*code: str) -> subprocess.CompletedProcess[str]:
    """A Python process that runs `code`."""
    program = "".join(map(textwrap.dedent, code))
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


# the end after an error


@pytest.mark.load
@pytest.mark.parametrize(
    ("error", "when"),
    [
        (StoreLockedError, "stop({}('why'))"),
        (DivergedError, "reactor.callWhenRunning(stop, {}('why'))"),
        (ConfigError, "reactor.callLater(0, stop, {}('why'))"),
    ],
)
def test_an_error_ends_the_process_in_good_order_with_its_exit_code(
    error: type[TarFailoverError], when: str
) -> None:
    ended = run(FATAL, when.format(error.__name__) + "\nreactor.run()\n")
    assert ended.returncode == error.exit_code, ended.stderr
    assert ended.stdout == "stopped in good order\n"


def test_several_errors_stop_once() -> None:
    twice = "reactor.callWhenRunning(lambda: [stop(StoreIOError('a')), stop(StoreIOError('b'))])\n"
    ended = run(FATAL, twice, "reactor.run()\n")
    assert ended.returncode == 17, ended.stderr
    assert ended.stdout == "stopped in good order\n"
    assert "Traceback" not in ended.stderr


def test_an_error_while_stopping_still_gives_the_exit_code() -> None:
    ended = run(
        FATAL,
        """
        error = DeadlineError("drain", 1, "the disk")
        reactor.addSystemEventTrigger("during", "shutdown", stop, error)
        reactor.callWhenRunning(reactor.stop)
        reactor.run()
        """,
    )
    assert ended.returncode == 22, ended.stderr


def test_why_it_ends_is_told() -> None:
    told = run(
        FATAL,
        """
        import sys
        from twisted.logger import globalLogBeginner, textFileLogObserver
        logs = [textFileLogObserver(sys.stderr)]
        globalLogBeginner.beginLoggingTo(logs, redirectStandardIO=False)
        stop(StoreLockedError("somebody writes this store"))
        reactor.run()
        """,
    )
    assert "somebody writes this store" in told.stderr


# the end by a signal


@pytest.mark.load
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_ends_the_process_in_good_order_with_0(number: signal.Signals, times: int) -> None:
    kill = f"[os.kill(os.getpid(), {int(number)}) for _ in range({times})]"
    ended = run(SIGNALS, f"reactor.callLater(0, lambda: {kill})\nreactor.run()\n")
    assert (ended.returncode, ended.stdout) == (0, "stopped in good order\n"), ended.stderr


def test_a_signal_while_it_stops_changes_nothing() -> None:
    ended = run(
        SIGNALS,
        """
        def kill():
            os.kill(os.getpid(), signal.SIGTERM)
        reactor.addSystemEventTrigger("before", "shutdown", kill)
        reactor.callWhenRunning(reactor.stop)
        reactor.run()
        """,
    )
    assert (ended.returncode, ended.stdout) == (0, "stopped in good order\n"), ended.stderr
    assert "Traceback" not in ended.stderr


# limits and memory

LIMIT = """
    import resource
    from tarfailover.run_tap import OPEN_FILES, raise_file_limit
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, {before})
    raise_file_limit()
    print(resource.getrlimit(resource.RLIMIT_NOFILE) == {after})
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("(64, 128)", "(128, 128)"),
        ("(128, 128)", "(128, 128)"),
        ("(64, hard)", "(OPEN_FILES if hard < 0 else min(hard, OPEN_FILES), hard)"),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_allowed(before: str, after: str) -> None:
    ended = run(LIMIT.format(before=before, after=after))
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    """What is set where the limits are `soft` and `hard`."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(run_tap.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(run_tap.resource, "setrlimit", lambda _, pair: found.append(pair))
    run_tap.raise_file_limit()
    return found


def test_a_limit_is_never_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    infinity = run_tap.resource.RLIM_INFINITY
    assert limits(monkeypatch, 1024, infinity) == [(run_tap.OPEN_FILES, infinity)]
    assert limits(monkeypatch, 1024, 4096) == [(4096, 4096)]
    for soft, hard in ((infinity, infinity), (10**6, infinity), (10**6, 10**6)):
        assert limits(monkeypatch, soft, hard) == []


class Library:
    """A C library, with `mallopt` or without."""

    def __init__(self, *, with_mallopt: bool) -> None:
        self.options: dict[int, int] = {}
        if with_mallopt:
            self.mallopt = self.options.__setitem__


@pytest.mark.parametrize("with_mallopt", [True, False])
def test_the_c_library_is_told_to_keep_buffers_if_it_can(
    monkeypatch: pytest.MonkeyPatch, with_mallopt: bool
) -> None:
    library = Library(with_mallopt=with_mallopt)
    monkeypatch.setattr(run_tap.ctypes, "CDLL", lambda _: library)
    keep_buffers()
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h.
    expected = {-3: 16 * 1024 * 1024, -1: 64 * 1024 * 1024}
    assert library.options == (expected if with_mallopt else {})


def test_the_c_library_of_this_machine_takes_it() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("this machine has no glibc")
    ended = run("from tarfailover.run_tap import keep_buffers\nkeep_buffers()\nprint('alive')\n")
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr


def test_stopping_waits_for_a_reactor_that_has_not_begun() -> None:
    class Waiting(Clock):
        running = False

        def __init__(self) -> None:
            super().__init__()
            self.later: list[Any] = []

        def callWhenRunning(self, *call: Any) -> None:  # noqa: N802 - Twisted's name
            self.later.append(call)

    # Only the signal handlers' installation is looked at: nothing is installed before.
    before = signal.getsignal(signal.SIGTERM)
    reactor = Waiting()
    run_tap.stop_on_signals(reactor)
    assert len(reactor.later) == 1
    assert signal.getsignal(signal.SIGTERM) is before
