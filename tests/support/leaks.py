"""What a test must not leave behind: open files and sockets, threads, delayed calls, readers.

`Leftovers.now()` before a test, `left_since` after it. The reactor closes sockets one turn
later, so the caller gives it a few turns before it believes what it sees.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from twisted.internet import reactor

DESCRIPTORS = Path("/proc/self/fd")
REACTORS_OWN = "PoolThread-twisted.internet.reactor"
"""The name with which the reactor's own pool begins; its threads live as long as the process."""


@dataclass(frozen=True)
class Leftovers:
    """What is open and running at one moment, each by a name that says what it is."""

    files: frozenset[str]
    threads: frozenset[str]
    calls: frozenset[str]
    watched: frozenset[str]
    """What the reactor reads from or writes to."""

    @classmethod
    def now(cls) -> Leftovers:
        """What is open and running in this process now."""
        threads = (t for t in threading.enumerate() if not t.name.startswith(REACTORS_OWN))
        return cls(
            frozenset(_open_files()),
            frozenset(f"{t.name} ({t.ident})" for t in threads),
            frozenset(f"{c} ({id(c):#x})" for c in reactor.getDelayedCalls()),
            frozenset(map(repr, [*reactor.getReaders(), *reactor.getWriters()])),
        )

    def left_since(self, before: Leftovers) -> list[str]:
        """What is here and was not `before`, one line each."""
        return [
            *(f"open file {f}" for f in sorted(self.files - before.files)),
            *(f"thread {t}" for t in sorted(self.threads - before.threads)),
            *(f"delayed call {c}" for c in sorted(self.calls - before.calls)),
            *(f"in the reactor {w}" for w in sorted(self.watched - before.watched)),
        ]


def _open_files() -> list[str]:
    """`number -> target` of each open descriptor; none where there is no /proc."""
    if not DESCRIPTORS.is_dir():
        return []
    found = []
    for name in os.listdir(DESCRIPTORS):  # noqa: PTH208 -- iterdir holds one more descriptor open
        try:
            found.append(f"{name} -> {os.readlink(DESCRIPTORS / name)}")  # noqa: PTH115
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found
