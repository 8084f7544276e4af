"""The file in which a deep check that was cut off keeps how far it came."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tarfailover.errors import ConfigError, FormatError
from tarfailover.repository.deepcheck.books import ROLES, Books, Counts, Damage
from tarfailover.repository.deepcheck.marks import Marks
from tarfailover.store.durable import Disk, told

FORMAT = 1
MAX_BYTES = 4 * 1024**3
"""Of the file when it is unpacked; a store of a terabyte needs about a tenth."""


def save(path: Path, store: Path, books: Books, blobs: Path | None = None) -> None:
    """Keep `books` about `store` in `path`, replaced atomically; raises StoreIOError.

    `blobs` is where external binaries were looked for.
    """
    document = {
        "format": FORMAT,
        "store": str(store.resolve()),
        "blobs": _text(blobs),
        "marked": {role: books.marked[role].dump() for role in ROLES},
        "tainted": {role: books.tainted[role].dump() for role in ROLES},
        "counts": asdict(books.counts),
        "told": [list(each) for each in books.told],
        "more": books.more,
    }
    packed = gzip.compress(json.dumps(document).encode("ascii"), 3, mtime=0)
    Disk().replace_file(path, packed)


def load(path: Path, store: Path, blobs: Path | None = None) -> Books:
    """The books kept in `path`, fresh ones if there is no such file.

    Raises ConfigError for a file that is something else, or about another store, or about
    a check that looked for external binaries elsewhere than in `blobs`.
    """
    if not path.exists():
        return Books()
    try:
        found = json.loads(_unpacked(path))
        belongs = found["store"] if found["format"] == FORMAT else None
        books = _books(found)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        EOFError,
        FormatError,
        OSError,
        zlib.error,
    ) as error:
        raise ConfigError(
            f"{path} is not what a check keeps ({error}); name another file, or remove this one"
        ) from error
    if belongs != str(store.resolve()):
        raise ConfigError(f"{path} is about the store {belongs}; name another file for this one")
    if found.get("blobs") != _text(blobs):
        where = found.get("blobs") or "no blob store"
        raise ConfigError(f"{path} is about a check with {where}; name another file for this one")
    return books


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _unpacked(path: Path) -> bytes:
    with told("read", path):
        packed = path.read_bytes()
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        data = file.read(MAX_BYTES)
        if file.read(1):  # and at the end the checksum is verified
            raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    return data


def _books(found: dict[str, Any]) -> Books:
    books = Books()
    books.marked = {role: Marks.load(found["marked"][role]) for role in ROLES}
    books.tainted = {role: Marks.load(found["tainted"][role]) for role in ROLES}
    books.counts = Counts(**found["counts"])
    books.told = [Damage(*each) for each in found["told"]]
    books.more = dict(found["more"])
    return books
