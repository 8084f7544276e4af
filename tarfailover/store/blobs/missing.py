"""Binaries that a copy lacks, kept in a small file beside its segments.

They were not to be had from the master when a head was set that mentions them. Oak ignores
the file. It is replaced atomically, before a head is set that lacks something; without it
the slave finds again what is lacking when it starts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tarfailover.errors import DamagedStoreError
from tarfailover.store.durable import Disk, told

NAME = "tarfailover-blobs.json"
FORMAT = 1
MAX_MISSING = 10_000
"""Binaries on the list: if a master lacks more, it is not some of them that are missing."""
SHOWN = 2
"""Paths of one that a message shows."""
LONGEST_SHOWN = 200
"""Characters of an id that a message shows."""
_LIMIT = 64 * 1024 * 1024


class Missing(NamedTuple):
    """A binary that is lacking."""

    why: str
    paths: tuple[str, ...] = ()
    """Some properties that hold it, as far as they were looked for."""
    unneeded: bool = False
    """Whether all of the head was searched, and no node of it has this binary."""
    since: float = 0.0
    """When it was found to be lacking, in seconds since 1970."""


@dataclass
class MissingBlobs:
    """What the file says."""

    blob_store: str = ""
    """Where binaries of this copy are kept; empty if none were brought yet."""
    blobs: dict[str, Missing] = field(default_factory=dict)
    """By the id of the binary."""

    @classmethod
    def load(cls, directory: Path) -> MissingBlobs:
        """The list in `directory`, an empty one if there is none; raises DamagedStoreError."""
        path = directory / NAME
        if not path.exists():
            return cls()
        with told("read", path), path.open("rb") as file:
            data = file.read(_LIMIT + 1)
        try:
            if len(data) > _LIMIT:
                raise ValueError(f"it is larger than {_LIMIT} bytes")
            return cls._of(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DamagedStoreError(
                f"{path}: not the list of missing binaries of a slave ({error}); remove the file: "
                "the slave then looks for all of them again"
            ) from error

    @classmethod
    def _of(cls, found: Any) -> MissingBlobs:
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r} is not known")
        rows = {
            str(row["id"]): Missing(
                str(row["why"]), tuple(map(str, row["paths"])), bool(row["unneeded"]),
                float(row["since"]),
            )
            for row in found["missing"]
        }  # fmt: skip
        return cls(str(found["blob_store"]), rows)

    def save(self, directory: Path, disk: Disk) -> None:
        """Keep it, durably; raises StoreIOError."""
        rows = [{"id": blob, **each._asdict()} for blob, each in self.blobs.items()]
        document = {"format": FORMAT, "blob_store": self.blob_store, "missing": rows}
        disk.replace_file(directory / NAME, json.dumps(document, indent=1).encode("ascii") + b"\n")


def told_of(missing: Mapping[str, Missing], most: int = 3) -> str:
    """The first of `missing` in words, with the paths that need them."""
    first = islice(missing.items(), most)
    shown = [f"{_printable(blob)} ({_places(each)}: {each.why})" for blob, each in first]
    more = len(missing) - most
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def _places(each: Missing) -> str:
    if each.unneeded:
        return "no node has it"
    if not each.paths:
        return "its paths are not known"
    more = f" and {len(each.paths) - SHOWN} more" if each.paths[SHOWN:] else ""
    return "at " + ", ".join(each.paths[:SHOWN]) + more


def _printable(blob: str) -> str:
    """An id on one line; it comes from a peer, and may be anything."""
    cut = blob if len(blob) <= LONGEST_SHOWN else blob[:LONGEST_SHOWN] + "…"
    return cut if cut.isprintable() else ascii(cut)
