"""What both composition roots do to the process they run in."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.application.service import IService, MultiService, Service
from twisted.logger import Logger

from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.errors import TarFailoverError

OPEN_FILES = 65536
"""Open files to allow if the hard limit does: one for each tar, one for each client."""

_M_MMAP_THRESHOLD = -3
_M_TRIM_THRESHOLD = -1
KEPT_BUFFER = 16 * 1024 * 1024
"""Bytes of a buffer up to which freed memory is kept for the next one."""
COLLECT_EVERY = 50_000
"""New objects between two looks for garbage in circles, of which there is next to none."""
KEPT_MEMORY = 64 * 1024 * 1024
"""Bytes of freed memory that the process keeps."""

_log = Logger("tarfailover")


def raise_file_limit() -> None:
    """Raise the soft limit of open files towards the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def keep_buffers() -> None:
    """Let glibc keep the memory of large buffers instead of giving it back at once.

    Otherwise each MiB read or written costs page faults: two thirds of the time that
    the kernel spends for this process. Does nothing with another C library.
    """
    gc.freeze()  # what the imports left is never garbage
    gc.set_threshold(COLLECT_EVERY)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BUFFER)
        mallopt(_M_TRIM_THRESHOLD, KEPT_MEMORY)


def stop_on_signals(reactor: Any) -> None:
    """Make SIGTERM and SIGINT an orderly stop with exit code 0, however often they come.

    Left to itself, twistd stops in good order too, but then ends by the same signal.
    """

    def stop(*_: object) -> None:
        reactor.callFromThread(_stop, reactor)

    def install() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    # The reactor installs its own handlers when it starts: these come after.
    reactor.callWhenRunning(install)


def reload_on_hangup(reactor: Any, reload: Callable[[], None]) -> None:
    """Make SIGHUP call `reload`; left to itself, it would end the process."""

    def hang_up(*_: object) -> None:
        reactor.callFromThread(reload)

    # The reactor has no handler of its own for this one, so it can be ours from the beginning.
    signal.signal(signal.SIGHUP, hang_up)


def with_status(
    service: Service,
    config: MasterConfig | SlaveConfig,
    reactor: Any,
    report: Callable[[], dict[str, Any]],
    health: Callable[[], tuple[bool, str]],
) -> IService:
    """`service`, and its status page beside it if one is wanted."""
    if not config.status_port:
        return service
    # Whoever wants none does not pay for the import.
    from tarfailover.status.service import StatusService  # noqa: PLC0415

    both = MultiService()
    service.setServiceParent(both)
    shown = StatusService(config, reactor, report, health, fatal(reactor))
    shown.setServiceParent(both)  # type: ignore[no-untyped-call]
    return both


def refuse(error: TarFailoverError) -> NoReturn:
    """End the process before it has begun, with one sentence and the error's exit code.

    Twistd answers a UsageError with all of its help in front, and an exit code that is 0
    or 1, depending on its version.
    """
    sys.stderr.write(f"{error}\n")
    raise SystemExit(error.exit_code)


def fatal(reactor: Any) -> Callable[[TarFailoverError], None]:
    """A function that ends the process with an error's exit code, after an orderly stop."""

    def stop(error: TarFailoverError) -> None:
        _log.critical("{error}", error=str(error))
        # twistd itself always ends with 0; what it has to tidy up it has done by then.
        atexit.register(_exit, error.exit_code)
        if reactor.running:
            reactor.callLater(0, _stop, reactor)
        else:
            reactor.callWhenRunning(_stop, reactor)

    return stop


def _stop(reactor: Any) -> None:
    """Begin to stop, unless that is under way."""
    if not reactor._stopped:  # noqa: SLF001 - there is no public way to ask
        reactor.stop()


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
