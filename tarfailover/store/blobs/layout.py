"""Where the files of a blob store lie: the two layouts.

Facts: blob stores, sections 2.1, 2.5 and 3.3. Every path is made from a digest whose
characters were checked, never from an id.

A file that is on its way is in the root of the store, where Oak's garbage collection
leaves it alone. In a data store its name begins with a dot. In a FileBlobStore Oak takes
every file for a block that is called as the file without its extension, so there the
partial file is called after its digest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from tarfailover.format import blobid
from tarfailover.format.blobid import BlobId, Block

_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_PREFIX = ".tarfailover-"
_SUFFIX = ".part"


class Layout(Protocol):
    """Names of files, relative to the root of the store."""

    kind: str
    """``file`` or ``blocks``, as a user says it."""
    what: str
    """What it is called in messages."""
    depth: int
    """Folders above each file."""

    def parse(self, raw: str | bytes) -> BlobId:
        """What the id `raw` says; raises FormatError."""

    def unit(self, block: Block) -> BlobId:
        """The id of the bytes of one file, as if they were all of a binary."""

    def place(self, digest: str) -> Path:
        """Where the file named `digest` belongs."""

    def names(self, digest: str) -> tuple[str, ...]:
        """Everywhere it may be found, the place where it belongs first."""

    def partial(self, digest: str) -> Path:
        """Where it lies as long as it is not whole."""

    def digest(self, name: str) -> str | None:
        """The digest after which the file `name` of the store is named; None if it is none."""

    def digest_of_partial(self, name: str) -> str | None:
        """The digest of a file on its way called `name`; None if it is none."""


class _DataStore:
    """``aa/bb/cc/<digest>``: Jackrabbit's FileDataStore, Oak's OakFileDataStore."""

    kind = "file"
    what = "FileDataStore"
    depth = 3

    def parse(self, raw: str | bytes) -> BlobId:
        return blobid.parse_data_store(raw)

    def unit(self, block: Block) -> BlobId:
        text = block.digest if block.size is None else f"{block.digest}#{block.size}"
        return BlobId(text, (block,), block.size)

    def place(self, digest: str) -> Path:
        return Path(self.names(digest)[0])

    def names(self, digest: str) -> tuple[str, ...]:
        return (f"{digest[0:2]}/{digest[2:4]}/{digest[4:6]}/{digest}",)

    def partial(self, digest: str) -> Path:
        return Path(f"{_PREFIX}{digest}{_SUFFIX}")

    def digest(self, name: str) -> str | None:
        own = name.rpartition("/")[2]
        return own if _NAME.fullmatch(own) and name in self.names(own) else None

    def digest_of_partial(self, name: str) -> str | None:
        return _named(name, _PREFIX)


class _Blocks:
    """``zz/yy/<digest>.dat``, the last byte of the digest first: Oak's FileBlobStore.

    While Oak's own collector runs, or after it was killed, blocks lie in ``zz/yy_old``.
    """

    kind = "blocks"
    what = "FileBlobStore"
    depth = 2

    def parse(self, raw: str | bytes) -> BlobId:
        return blobid.parse_block_store(raw)

    def unit(self, block: Block) -> BlobId:
        plain = block._replace(level=0, total=None)
        return BlobId(blobid.encode_entry(plain).hex(), (plain,), plain.size)

    def place(self, digest: str) -> Path:
        return Path(self.names(digest)[0])

    def names(self, digest: str) -> tuple[str, ...]:
        folder = f"{digest[62:64]}/{digest[60:62]}"
        return f"{folder}/{digest}.dat", f"{folder}_old/{digest}.dat"

    def partial(self, digest: str) -> Path:
        return Path(f"{digest}{_SUFFIX}")

    def digest(self, name: str) -> str | None:
        own = name.rpartition("/")[2].removesuffix(".dat")
        named = len(own) == 64 and _NAME.fullmatch(own) and name in self.names(own)
        return own if named else None

    def digest_of_partial(self, name: str) -> str | None:
        return _named(name, "")


def _named(name: str, prefix: str) -> str | None:
    """The digest between `prefix` and the suffix of a partial file."""
    if not (name.startswith(prefix) and name.endswith(_SUFFIX)):
        return None
    digest = name[len(prefix) : -len(_SUFFIX)]
    return digest if _NAME.fullmatch(digest) else None


DATA_STORE: Layout = _DataStore()
BLOCKS: Layout = _Blocks()
