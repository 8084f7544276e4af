"""The slave's own small file beside the store: what must outlive the process.

Oak ignores it. It is replaced atomically and only saves work or guards against
mistakes: without it everything else is found again from the tars and the journal.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tarfailover.errors import DamagedStoreError, FormatError
from tarfailover.ids import RecordId
from tarfailover.store.durable import Disk, told

NAME = "tarfailover.json"
FORMAT = 1
_LIMIT = 64 * 1024


@dataclass(frozen=True)
class SlaveState:
    """What a slave knows about its store."""

    repository: str = ""
    """The name that the operator gave to the repository followed; empty if none."""
    epoch: int = 0
    """The highest epoch of a master seen; 0 if none had one."""
    cursor: str = ""
    """Where the last complete listing ended in the master's tars, in hex."""
    heads: tuple[str, ...] = field(default=())
    """The heads that this slave may have written last: the newest, and the one before.

    Another head in the journal was written by somebody else.
    """

    cleaned: str = ""
    """The generation of the head, ``number/full``, for which the last cleanup was complete."""

    @classmethod
    def load(cls, directory: Path) -> SlaveState | None:
        """The state kept in `directory`, None if there is none.

        Raises DamagedStoreError for a file that cannot be read.
        """
        path = directory / NAME
        if not path.exists():
            return None
        with told("read", path), path.open("rb") as file:
            data = file.read(_LIMIT)
        try:
            return cls._of(json.loads(data))
        except (ValueError, TypeError, KeyError, RecursionError, FormatError) as error:
            raise DamagedStoreError(
                f"{path}: not the state of a slave ({error}); remove the file: the slave then "
                "looks everything up again"
            ) from error

    @classmethod
    def _of(cls, found: Any) -> SlaveState:
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r} is not known")
        repository, epoch, cursor = found["repository"], found["epoch"], found["cursor"]
        # Not there in the files of the first version, which never cleaned up.
        cleaned = found.get("cleaned", "")
        if not isinstance(repository, str) or type(epoch) is not int or epoch < 0:
            raise ValueError(
                f"repository {repository!r} and epoch {epoch!r} are no name and number"
            )
        if type(cleaned) is not str:
            raise ValueError(f"cleaned is {cleaned!r}, which names no generation")
        heads = tuple(str(RecordId.parse(head)) for head in found["heads"])
        bytes.fromhex(cursor)
        return cls(repository, epoch, cursor, heads, cleaned)

    def save(self, directory: Path, disk: Disk) -> None:
        """Keep this state, durably; raises StoreIOError."""
        document = json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        disk.replace_file(directory / NAME, document.encode("ascii") + b"\n")

    def with_head(self, head: RecordId, before: RecordId | None) -> SlaveState:
        """The state in which `head` may be the head, or still the one `before`."""
        return replace(self, heads=(str(head), *([str(before)] if before else [])))
