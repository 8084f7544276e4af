"""Real Oak in one long-lived process: stores, primaries and standbys, asked through lines.

The words are those of `tests/interop/peer/OakPeer.java`. An answer is a dictionary of texts; what
went wrong in Oak is an OakError with Oak's own words, and with what it logged.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple
from urllib.parse import quote, unquote_plus

from oak_build import Built, OakError

ANSWER_SECONDS = 60.0
"""For one request."""
TRUE_SECONDS = 30.0
"""Until a condition holds."""
START_SECONDS = 30.0
"""Until the process is there."""
STOP_SECONDS = 20.0
"""For the process to end, after the end of its input or a signal."""
LOG_SHOWN = 6000
"""Characters of Oak's log that an error shows."""

JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xmx1g")
SETTINGS = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Doak.gc.backoff=0",  # else a second compaction within ten hours is left out
    # With it netty makes self-signed certificates.
    "--add-exports=java.base/sun.security.x509=ALL-UNNAMED",
)

Told = dict[str, str]


class Walked(NamedTuple):
    """What was found when every node of a store was read: the head, counts, the digest."""

    head: str
    nodes: int
    properties: int
    blob_bytes: int
    digest: str


class Pending:
    """A request that may not have its answer yet."""

    def __init__(self, peer: Peer, asked: str) -> None:
        self._peer, self._asked = peer, asked
        self._line: str | None = None
        self._there = threading.Event()

    def settle(self, line: str) -> None:
        """The answer has come."""
        self._line = line
        self._there.set()

    @property
    def done(self) -> bool:
        """Whether it has an answer."""
        return self._there.is_set()

    def result(self, seconds: float = ANSWER_SECONDS) -> Told:
        """The answer; raises OakError if there is none in time, or that it failed."""
        if not self._there.wait(seconds):
            raise self._peer.error(f"no answer in {seconds:g} s to: {self._asked}")
        assert self._line is not None
        outcome, _, rest = self._line.partition(" ")
        if outcome != "ok":
            raise self._peer.error(f"{self._asked}: {unquote_plus(rest) or outcome}")
        pairs = (word.partition("=") for word in rest.split())
        return {key: unquote_plus(value) for key, _, value in pairs}


class Peer:
    """The process; killed at the end of its block at the latest."""

    def __init__(self, built: Built, release: str, jvm: Sequence[str] = JVM) -> None:
        self.release = release
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in __exit__
        command = [built.java, *jvm, *SETTINGS, "-cp", built.class_path, "OakPeer"]
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
        )
        self._numbers, self._names = itertools.count(1), itertools.count(1)
        self._pending: dict[str, Pending] = {"0": Pending(self, "the start")}
        self._started = self._pending["0"]
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            number, _, rest = line.rstrip("\n").partition(" ")
            if waiting := self._pending.pop(number, None):
                waiting.settle(rest)
        while self._pending:
            self._pending.popitem()[1].settle("the process has ended")

    def begin(self, verb: str, name: str, *words: object, **options: object) -> Pending:
        """Ask, and go on; requests with one `name` are carried out in their order."""
        number = str(next(self._numbers))
        given = [*map(str, words), *(f"{key}={value}" for key, value in options.items())]
        asked = " ".join([verb, name, *given])
        pending = self._pending[number] = Pending(self, asked[:200])
        assert self._child.stdin is not None
        line = " ".join(quote(word, safe="/#:;=,.@") for word in (number, verb, name, *given))
        try:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
        except OSError:
            pending.settle("the process has ended")
        return pending

    def call(self, verb: str, name: str, *words: object, **options: object) -> Told:
        """Ask, and wait for the answer."""
        return self.begin(verb, name, *words, **options).result()

    def name(self, kind: str) -> str:
        """A new name for an object."""
        return f"{kind}{next(self._names)}"

    def open(self, directory: Path, **options: object) -> Store:
        """A store that is open for writing; it is made where there is none."""
        opening = self.opening(directory, **options)
        opening.pending.result()
        return opening

    def opening(self, directory: Path, **options: object) -> Store:
        """A store that may still wait for its lock; see its `pending`."""
        name = self.name("store")
        return Store(self, name, self.begin("open", name, directory, **options))

    def walk(self, directory: Path, **options: object) -> Walked:
        """All of the content of the store in `directory`, read by Oak through a read-only open.

        Oak leaves ``*.ro.bak`` files in a directory whose newest tar is not closed.
        """
        return walked(self.call("walk", self.name("walk"), directory, **options))

    def digest(self, directory: Path, **options: object) -> str:
        """The content digest of the store in `directory`."""
        return self.walk(directory, **options).digest

    @property
    def pid(self) -> int:
        """The process id of the JVM."""
        return self._child.pid

    def wait_until_started(self) -> None:
        """Returns when requests are read."""
        self._started.result(START_SECONDS)

    def kill(self) -> None:
        """Ends the process with SIGKILL, in the middle of whatever it does."""
        self._child.send_signal(signal.SIGKILL)
        self._child.wait(STOP_SECONDS)

    def finish(self) -> None:
        """Ends the process as a service ends: all is closed."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        code = self._child.wait(STOP_SECONDS)
        if code:
            raise self.error(f"ended with {code}")

    def error(self, what: str) -> OakError:
        """What went wrong, with the end of what Oak logged."""
        self._log.flush()
        log = Path(f"/proc/self/fd/{self._log.fileno()}").read_text(errors="replace")
        return OakError(f"Oak {self.release}: {what}\n{log[-LOG_SHOWN:]}")

    def __enter__(self) -> Peer:
        self.wait_until_started()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child.poll() is None:
            self.kill()
        self._reader.join(STOP_SECONDS)
        for stream in (self._child.stdin, self._child.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def walked(told: Told) -> Walked:
    """A walk's answer as values."""
    return Walked(
        told.get("head", ""),
        int(told["nodes"]),
        int(told["properties"]),
        int(told["blobbytes"]),
        told["sha256"],
    )


def until(condition: Callable[[], bool], what: str, seconds: float = TRUE_SECONDS) -> None:
    """Returns once `condition` holds; raises OakError if `what` does not come true in time."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise OakError(f"not true within {seconds:g} s: {what}")
        pause.wait(0.02)


class Part:
    """An object in the process; closed at the end of its block."""

    def __init__(self, peer: Peer, name: str, pending: Pending) -> None:
        self.peer, self.name, self.pending = peer, name, pending
        self._closed = False

    def call(self, verb: str, *words: object, **options: object) -> Told:
        """Ask it, and wait for the answer."""
        return self.peer.call(verb, self.name, *words, **options)

    def begin(self, verb: str, *words: object, **options: object) -> Pending:
        """Ask it, and go on."""
        return self.peer.begin(verb, self.name, *words, **options)

    def close(self) -> None:
        """As a service closes it; once is enough."""
        if not self._closed:
            self._closed = True
            self.call("close")

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if value is None:
            self.close()
        elif not self._closed:
            self._closed = True
            self.begin("close")


class Store(Part):
    """A store that Oak has open for writing. Each change is durable when it returns."""

    def __enter__(self) -> Store:
        return self

    def fill(self, **options: object) -> Told:
        """Content of a repository: see Filling.java for the options."""
        return self.call("fill", **options)

    def commit(self, edits: Sequence[Sequence[str]]) -> Told:
        """One commit of some edits, in the words of Edits.java."""
        return self.call("commit", *itertools.chain(*([*edit, ";"] for edit in edits)))

    def marked(self) -> set[str]:
        """The external binaries that a garbage collection of Oak's would keep."""
        return set(self.call("marked")["ids"].split())

    def compact(self, how: str = "full") -> Told:
        """``full`` and ``tail`` clean up too; ``full-only``, ``tail-only``, ``cleanup-only``."""
        return self.call("compact", how)

    def checkpoint(self, **properties: str) -> str:
        """The name of a new checkpoint."""
        words = (f"{key}:{value}" for key, value in properties.items())
        return self.call("checkpoint", *words)["name"]

    def head(self) -> str:
        """The head, durable."""
        return self.call("state")["head"]

    def digest(self, path: str = "/") -> str:
        """The content digest below `path`, whose first name is root or checkpoints."""
        return walked(self.call("digest", path)).digest

    def primary(self, port: int, **options: object) -> Part:
        """Oak's own primary of this store: see Cold.java for the options."""
        name = self.peer.name("primary")
        pending = self.peer.begin("primary", name, self.name, port, **options)
        pending.result()
        return Part(self.peer, name, pending)

    def standby(self, port: int, **options: object) -> Standby:
        """Oak's own standby, which follows with this store."""
        name = self.peer.name("standby")
        words = (self.name, "127.0.0.1", port)
        pending = self.peer.begin("standby", name, *words, **options)
        pending.result()
        return Standby(self.peer, name, pending)


class Standby(Part):
    """Oak's own standby."""

    def __enter__(self) -> Standby:
        return self

    def close(self) -> None:
        """Begins to; nobody waits for the two seconds that netty takes."""
        if not self._closed:
            self._closed = True
            self.begin("close")

    def sync(self) -> int:
        """One run; how many runs have failed in a row by Oak's count."""
        return int(self.call("sync")["failed"])
