"""A directory of external binaries: what is there, reading it, and taking in what is not.

Several processes may use one directory at once: files come whole, by a rename, and never
change. It needs no lock. Facts: blob stores, sections 2, 3 and 6.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tarfailover.errors import BlobMissingError, DamagedStoreError, FormatError
from tarfailover.format import blobid
from tarfailover.format.blobid import BlobId, Block, Part
from tarfailover.store.blobs import files, guard, hashing
from tarfailover.store.blobs.incoming import Incoming
from tarfailover.store.blobs.layout import DATA_STORE, Layout
from tarfailover.store.durable import Disk, told
from tarfailover.store.pieces import stream

PIECE = 64 * 1024
"""Bytes read at once."""
MAX_INDEX = 16 * 1024 * 1024
"""Bytes of an index block of a FileBlobStore; Oak's own have 1 MiB at most."""


Read = Callable[[int], None]
"""Told of bytes that were read."""


class Stored(NamedTuple):
    """A file of the store."""

    digest: str
    name: str
    """Its path, as text: a store may have millions."""
    size: int
    changed_ns: int
    """When it was written, or asked for by a writer of the same content; since 1970."""

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.name)


class BlobStore:
    """See the module; made by `open_blob_store`."""

    def __init__(self, path: Path, layout: Layout, disk: Disk | None = None) -> None:
        self.path = path
        self.layout = layout
        self._root = f"{path}/"
        self._disk = disk or Disk()

    def parse(self, raw: str | bytes) -> BlobId:
        """The id `raw`, checked; raises FormatError for what is none of this kind of store."""
        return self.layout.parse(raw)

    # what is there

    def has(self, blob: BlobId) -> bool:
        """Whether all files of `blob` are there with their sizes; digests are not looked at."""
        return not self.wanted(blob)

    def claim(self, blob: BlobId) -> bool:
        """As `has`, for who will only then store the segment that mentions it.

        Like something that is written again it is young from now on, so that a collection
        leaves it for a while. Raises StoreIOError.
        """
        found = self.has(blob)
        if found:
            with guard.counting_on(self.path):
                names = [self._name(block) for block in self._blocks(blob)]
                for name in filter(None, names):
                    self._disk.touch(Path(name))
                found = None not in names
        return found

    def wanted(self, blob: BlobId) -> list[BlobId]:
        """The ids whose bytes have to come before `blob` is there; empty if it is.

        Who counts on what is there must have stored the segment that mentions it before he
        asks, because of who removes what nobody mentions: see `guard`.

        In a FileDataStore that is the blob itself. In a FileBlobStore it is each block that
        is not there, under the id of a binary that consists of it alone, which any
        FileBlobStore with the block can serve, Oak's own too. Of an index block that has
        just come, ask again: what is below it is known only then.
        """
        with guard.counting_on(self.path):
            if self.layout is DATA_STORE:
                return [blob] * any(map(self._missing, blob.parts))
            return [self.layout.unit(each) for each in self._blocks(blob) if self._missing(each)]

    def _missing(self, part: Part) -> bool:
        if isinstance(part, bytes):
            return False
        return self._name(part) is None or (bool(part.level) and self._index(part) is None)

    def digests(self, blob: BlobId) -> set[str]:
        """The names of all files of `blob`, as far as its index blocks are there."""
        return {block.digest for block in self._blocks(blob)}

    def all_digests(self, blob: BlobId) -> set[str]:
        """The same, but all of them; raises as reading an index block does."""
        for block in self._blocks(blob):
            if block.level:
                self._entries(block)
        return self.digests(blob)

    def holds(self, digest: str) -> bool:
        """Whether there is a file named `digest`."""
        names = self.layout.names(digest)
        return any(files.regular(self._root + name) is not None for name in names)

    def find(self, block: Block) -> Path | None:
        """The file of `block`; None if there is none, or not of its size, or no regular file."""
        name = self._name(block)
        return None if name is None else Path(name)

    def _name(self, block: Block) -> str | None:
        for name in self.layout.names(block.digest):
            found = files.regular(self._root + name)
            if found is not None and block.size in (None, found.st_size):
                return self._root + name
        return None

    def length(self, blob: BlobId) -> int:
        """Bytes of `blob`; raises BlobMissingError if its id does not tell, and it is not there."""
        if blob.length is not None:
            return blob.length
        return sum(
            len(part) if isinstance(part, bytes) else self._file(part).stat().st_size
            for part in blob.parts
        )

    def _file(self, block: Block) -> Path:
        """As `find`; raises BlobMissingError, and DamagedStoreError for one that cannot be it."""
        found = self.find(block)
        if found is not None:
            return found
        path = self.path / self.layout.place(block.digest)
        there = files.look(path)
        if there is None:
            raise BlobMissingError(
                f"{path} is not there: a binary of {_sized(block)}; bring it from a copy of the "
                "blob store"
            )
        what = f"has {there.st_size} bytes" if stat.S_ISREG(there.st_mode) else "is no regular file"
        raise DamagedStoreError(
            f"{path} {what}, its binary has {_sized(block)}; move it away, and bring the binary "
            "from a copy of the blob store"
        )

    # reading

    def open(self, blob: BlobId) -> io.BufferedReader:
        """The bytes of `blob` as a file, to be read and sought in.

        Raises BlobMissingError, DamagedStoreError and StoreIOError, as reading it does: in
        a FileBlobStore not all blocks are looked for at once. Digests are not checked, see
        `verify`.
        """
        return stream(self.length(blob), lambda offset: self.pieces(blob, offset))

    def read_at(self, blob: BlobId, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer only at the end. Raises as `open` does."""
        if len(blob.parts) == 1 and isinstance(blob.parts[0], Block) and not blob.parts[0].level:
            return self._cut(blob.parts[0], offset, size)
        found = bytearray()
        for piece in self.pieces(blob, offset):
            found += piece[: size - len(found)]
            if len(found) >= size:
                break
        return bytes(found)

    def _cut(self, block: Block, offset: int, size: int) -> bytes:
        """As `read_at`, of one file: read at once."""
        path = self._file(block)
        fd = files.open_to_read(path)
        try:
            data = files.read_at(fd, path, offset, size)
        finally:
            os.close(fd)
        if block.size is not None and len(data) < min(size, block.size - offset):
            raise DamagedStoreError(
                f"{path} ended after {offset + len(data)} of {block.size} bytes"
            )
        return data

    def pieces(self, blob: BlobId, offset: int = 0) -> Iterator[bytes]:
        """The bytes from `offset` on in pieces of at most `PIECE`, none of them empty."""
        for part, skip in self._leaves(blob, offset):
            if isinstance(part, bytes):
                for at in range(skip, len(part), PIECE):
                    yield part[at : at + PIECE]
            else:
                yield from self._content(part, skip)

    def _content(self, block: Block, offset: int = 0) -> Iterator[bytes]:
        path = self._file(block)
        fd = files.open_to_read(path)
        try:
            while piece := files.read_at(fd, path, offset, PIECE):
                offset += len(piece)
                yield piece
        finally:
            os.close(fd)
        if block.size not in (None, offset):
            raise DamagedStoreError(f"{path} ended after {offset} of {block.size} bytes")

    def _leaves(self, blob: BlobId, offset: int) -> Iterator[tuple[Part, int]]:
        """What holds content behind `offset`, and how many bytes of the first to leave out.

        Index blocks that lie before it are not even read.
        """
        waiting: list[Iterator[Part]] = [iter(blob.parts)]
        while waiting:
            part = next(waiting[-1], None)
            if part is None:
                waiting.pop()
                continue
            length = len(part) if isinstance(part, bytes) else part.length
            if length is not None and offset >= length:
                offset -= length
            elif isinstance(part, Block) and part.level:
                if len(waiting) > blobid.MAX_DEPTH:
                    raise DamagedStoreError(f"{self._file(part)}: too many index blocks in a row")
                waiting.append(iter(self._entries(part)))
            else:
                yield part, offset
                offset = 0

    def _blocks(self, blob: BlobId) -> Iterator[Block]:
        """Every file of `blob` once, as far as its index blocks can be read."""
        waiting: list[Part] = list(reversed(blob.parts))
        seen: set[Block] = set()
        while waiting:
            part = waiting.pop()
            if isinstance(part, bytes) or part in seen:
                continue
            seen.add(part)
            yield part
            if part.level:
                waiting += reversed(self._index(part) or ())

    def _index(self, block: Block) -> tuple[Part, ...] | None:
        """The entries of an index block; None if it is not there, or is damaged."""
        try:
            return self._entries(block)
        except (BlobMissingError, DamagedStoreError):
            return None

    def _entries(self, block: Block) -> tuple[Part, ...]:
        """The entries of an index block, whose digest is checked; raises as `open` does."""
        path = self._file(block)
        if (block.size or 0) > MAX_INDEX:
            raise DamagedStoreError(f"{path}: an index block of {block.size} bytes")
        data = b"".join(self._content(block))
        if hashlib.sha256(data).hexdigest() != block.digest:
            raise DamagedStoreError(f"{path} is not what its name says; {_REMEDY}")
        try:
            found = blobid.parse_entries(data)
            if blobid.content_length(found) != block.total:
                raise FormatError(f"the entries do not add up to {block.total} bytes", 0)
        except FormatError as error:
            raise DamagedStoreError(f"{error.within(str(path))}; {_REMEDY}") from error
        return found

    def verify(self, blob: BlobId, read: Read = lambda _: None) -> None:
        """Read all of `blob` and compare with the digests; `read` is told of bytes read.

        Raises BlobMissingError, DamagedStoreError and StoreIOError, and what `read` raises.
        """
        for block in self._blocks(blob):
            self.verify_block(block, read)
            if block.level:
                self._entries(block)

    def verify_block(self, block: Block, read: Read = lambda _: None) -> None:
        """The same for one file."""
        hasher = hashing.hasher_for(block.digest)
        for piece in self._content(block):
            hasher.update(piece)
            read(len(piece))
        if hasher.hexdigest() != block.digest:
            raise DamagedStoreError(
                f"{self._file(block)} is not what its name says: the digest of its bytes is "
                f"{hasher.hexdigest()}; {_REMEDY}"
            )

    # taking in

    def incoming(self, blob: BlobId, length: int | None = None) -> Incoming:
        """Begin, or go on, to take in one of the ids that `wanted` gave; to be closed.

        `length` is what somebody says who has it, for an id that does not tell. Raises
        FormatError if the two differ, StoreLockedError while somebody else takes it in.
        """
        (block,) = blob.parts
        if isinstance(block, bytes) or block.level:
            raise ValueError(f"{blobid.shown(blob.text)} is not one file: see `wanted`")
        if length is not None and blob.length not in (None, length):
            raise FormatError(
                f"the binary {blobid.shown(blob.text)} is said to have {length} bytes", 0
            )
        block = block._replace(size=blob.length if length is None else length)
        return Incoming.open(self, block, self._disk)

    def unnamed(self, token: str) -> Incoming:
        """Begin to store content of which nobody knows the digest yet; see `adding`.

        `token` are 64 random hex digits.
        """
        return Incoming.open(self, Block(token, None), self._disk, named=False)

    # all files

    def files(self) -> Iterator[Stored]:
        """Every whole file that is named after a digest, in the order of their places.

        What comes or goes meanwhile may be in it or not. Files with other names are left out.
        """
        levels = [iter([str(self.path)])]
        while levels:
            folder = next(levels[-1], None)
            if folder is None:
                levels.pop()
            elif len(levels) <= self.layout.depth:
                levels.append(each.path for each in _entries(folder, folders=True))
            else:
                yield from self._stored(folder, self._digest_in)

    def _digest_in(self, entry: os.DirEntry[str]) -> str | None:
        return self.layout.digest(entry.path[len(self._root) :])

    def partials(self) -> Iterator[Stored]:
        """Every file that is on its way, or was when its program died."""
        return self._stored(str(self.path), lambda each: self.layout.digest_of_partial(each.name))

    def _stored(
        self, folder: str, digest_in: Callable[[os.DirEntry[str]], str | None]
    ) -> Iterator[Stored]:
        for entry in _entries(folder, folders=False):
            digest = digest_in(entry)
            found = files.regular(entry.path) if digest else None
            if digest and found:
                yield Stored(digest, entry.path, found.st_size, found.st_mtime_ns)

    def remove(self, stored: Stored, before_ns: int) -> bool:
        """Remove a file that is not younger than `before_ns`, and folders that are empty then.

        Tells whether it did. For collections: see `guard`. A power failure may bring it back.
        """
        found = files.regular(stored.path)
        if found is None or found.st_mtime_ns > before_ns:
            return False
        self._disk.forget(stored.path)
        self._disk.remove_empty(stored.path.parent, self.path)
        return True

    def remove_partial(self, stored: Stored) -> bool:
        """Remove what has come of a file; False if somebody is about to take in more of it."""
        fd = self._disk.open(stored.path, follow=False)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._disk.forget(stored.path)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True


_REMEDY = "bring the file from a copy of the blob store"


def _sized(block: Block) -> str:
    return "unknown size" if block.size is None else f"{block.size} bytes"


def _entries(folder: str, *, folders: bool) -> list[os.DirEntry[str]]:
    """What is in a folder that may have gone: folders or all else, in the order of names."""
    with told("list", Path(folder)):
        try:
            with os.scandir(folder) as found:
                chosen = [each for each in found if each.is_dir(follow_symlinks=False) == folders]
        except FileNotFoundError:
            return []
    return sorted(chosen, key=lambda each: each.name)
