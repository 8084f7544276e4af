"""What a check finds, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from tarfailover.ids import RecordId
from tarfailover.store.snapshot import Head

Severity = Literal["fault", "note"]

FAULT: Final = "fault"
"""The store is not what it should be."""
NOTE: Final = "note"
"""Worth knowing, and normal: the trace of a crash, of a cleanup, of a living writer."""

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes to do."""


def unseen(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


class Finding(NamedTuple):
    """One thing that a check found; `what` also says what it means."""

    severity: Severity
    file: str
    """A name inside the directory of the store."""
    offset: int | None
    """In bytes from the start of the file; None where the file as a whole is meant."""
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        where = self.file if self.offset is None else f"{self.file}, offset {self.offset}"
        return f"{where}: {self.what}{'; ' * bool(self.remedy)}{self.remedy}"


@dataclass
class Checked:
    """What a check has looked at so far."""

    tars: int = 0
    segments: int = 0
    bytes: int = 0
    """Of tar files, headers and padding included."""
    faults: int = 0
    notes: int = 0
    head: Head | None = None
    newest: RecordId | None = None
    """What the newest line of the journal names, usable or not."""
    closure_segments: int = 0
    closure_bytes: int = 0

    def count(self, finding: Finding) -> Finding:
        """Count `finding` and hand it back."""
        if finding.severity == FAULT:
            self.faults += 1
        else:
            self.notes += 1
        return finding


REWRITE = (
    "stop the writer and let `tarfailover repair` make its trailing entries anew; without another "
    "copy, cut the last 1024 bytes off this file, and open the store for writing"
)
"""For trailing entries: without an index, Oak and a slave scan the tar and make all three."""


def many(count: int, noun: str) -> str:
    """`count` with its noun: ``1 fault``, ``1,000 faults``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def restore(needed: bool) -> str:
    """The remedy for damage inside a segment that the head needs, or does not need."""
    if needed:
        return (
            "stop the writer and let `tarfailover repair` mend it with what another copy has, or "
            "restore the file from a copy of the store; a running slave mends its own"
        )
    return (
        "nothing current is lost, only old states of the repository: let `tarfailover repair` "
        "mend it with what another copy has, or let the next compaction and cleanup drop it"
    )
