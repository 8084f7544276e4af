"""Blob stores for the tests: those that real Oak wrote, and made by hand."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from crash import Fate, File, Step, all_kept, all_lost, first_lost, last_lost, last_torn, zeros
from stores import QuickDisk

from tarfailover.format import blobid
from tarfailover.format.blobid import BlobId, Block
from tarfailover.store.blobs import BLOCKS, DATA_STORE, BlobStore, Layout
from tarfailover.store.durable import Buffer

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "blobs"

CONTENTS = {
    "empty": b"",
    "hello": b"hello",
    "counting": b"".join(number.to_bytes(4, "big") for number in range(2000)),
    **{f"zeros{size}": bytes(size) for size in (4095, 4096, 4097, 20000)},
}


def vectors() -> list[tuple[str, bytes, str]]:
    """What real Oak wrote: the store, the content, the id."""
    lines = (VECTORS / "ids.txt").read_text().splitlines()
    rows = (line.split(" ") for line in lines)
    return [(store, CONTENTS[name], id_.strip("-")) for store, name, id_ in rows]


def unpacked(name: str, into: Path) -> BlobStore:
    """A copy of the store `name` that real Oak wrote."""
    with zipfile.ZipFile(VECTORS / f"{name}.zip") as zipped:
        zipped.extractall(into)
    return BlobStore(into, DATA_STORE if name == "file" else BLOCKS, QuickDisk())


def one_file_id(layout: Layout, content: bytes) -> BlobId:
    """The id of `content` as one file, of any size."""
    digest = hashlib.sha256(content).hexdigest()
    if layout is DATA_STORE:
        return layout.parse(f"{digest}#{len(content)}")
    return layout.parse(blobid.encode_entry(Block(digest, len(content))).hex())


def put(store: BlobStore, content: bytes) -> BlobId:
    """Take in `content` as one file."""
    blob = one_file_id(store.layout, content)
    with store.incoming(blob) as incoming:
        incoming.write(content[incoming.offset :])
        incoming.finish()
    return blob


def fetch(source: BlobStore, target: BlobStore, blob: BlobId, part: int = 1000) -> list[str]:
    """Bring `blob` from one store to another as a slave does; the ids that were asked for."""
    asked: list[str] = []
    while wanted := target.wanted(blob):
        for each in wanted:
            asked.append(each.text)
            with target.incoming(each, source.length(each)) as incoming:
                while data := source.read_at(each, incoming.offset, part):
                    incoming.write(data)
                incoming.finish()
    return asked


class TreeDisk(QuickDisk):
    """Writes for real, and knows what a power failure would leave of a tree of folders.

    Of a file any subset of the writes since its last sync may be lost, of a folder the
    names since it was synced last.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[int, File] = {}
        self._names: dict[Path, int | None] = {root: None}
        """As the system sees them; None for a folder."""
        self._durable = dict(self._names)
        self._moved: dict[Path, Path] = {}
        """Where a file was before, until its new name is durable."""

    def watch(self) -> None:
        """Called before each step."""

    def states(self) -> Iterator[tuple[str, dict[Path, bytes | None]]]:
        """What may be there after a crash, with a name for messages."""
        fates: list[tuple[str, Fate, dict[Path, int | None]]] = [
            ("killed", all_kept, self._names),
            ("all lost", all_lost, self._durable),
            ("bytes lost", all_lost, self._names),
            ("names lost", all_kept, self._durable),
            ("zeros", zeros, self._names),
            ("first lost", first_lost, self._names),
            ("last lost", last_lost, self._names),
            ("torn", last_torn(7), self._names),
        ]
        for name, fate, names in fates:
            yield (
                name,
                {
                    path: None if inode is None else fate(self._files[inode])
                    for path, inode in names.items()
                    if all(above in names for above in path.parents if self._root in above.parents)
                },
            )

    def make_directory(self, path: Path) -> None:
        if path not in self._names:
            self.make_directory(path.parent)
            self.watch()
            path.mkdir(exist_ok=True)
            self._names[path] = None
            self.sync_directory(path.parent)

    def make_folder(self, path: Path) -> bool:
        self.watch()
        self._names[path] = None
        return super().make_folder(path)

    def open(self, path: Path, *, create: bool = False, follow: bool = True) -> int:
        if path not in self._names:
            self.watch()
            self._names[path] = len(self._files)
            self._files[len(self._files)] = File()
        return super().open(path, create=create, follow=follow)

    def _file(self, path: Path) -> File:
        inode = self._names[path]
        assert inode is not None
        return self._files[inode]

    def write(self, fd: int, path: Path, buffers: list[Buffer], offset: int) -> int:  # type: ignore[override]
        self.watch()
        self._file(path).pending.append(Step("write", 0, "", offset, b"".join(buffers)))
        return super().write(fd, path, buffers, offset)

    def truncate(self, fd: int, path: Path, size: int) -> None:
        self.watch()
        self._file(path).pending.append(Step("truncate", 0, "", size))
        super().truncate(fd, path, size)

    def sync(self, fd: int, path: Path) -> None:
        del fd
        self.watch()
        inode = self._names[path]
        assert inode is not None
        self._files[inode] = self._files[inode].synced()

    def sync_all(self, fd: int, path: Path) -> bool:
        del fd, path
        self.watch()
        self._files = {inode: file.synced() for inode, file in self._files.items()}
        self._durable = dict(self._names)
        self._moved.clear()
        return True

    def sync_directory(self, path: Path) -> None:
        self.watch()
        gone = [name for name in self._durable if name.parent == path and name not in self._names]
        for name in gone:
            del self._durable[name]
        here = {name: what for name, what in self._names.items() if name.parent == path}
        self._durable.update(here)
        for name in here:
            # Both folders of a rename change in one transaction of the file system.
            if name in self._moved:
                self._durable.pop(self._moved.pop(name), None)

    def move(self, source: Path, target: Path) -> None:
        self.watch()
        self._names[target] = self._names.pop(source)
        self._moved[target] = source
        super().move(source, target)

    def forget(self, path: Path) -> None:
        self.watch()
        self._names.pop(path, None)
        super().forget(path)


def write_tree(state: dict[Path, bytes | None], old: Path, new: Path) -> None:
    """Make `new` what `state`, with paths below `old`, says."""
    for path, content in sorted(state.items()):
        target = new / path.relative_to(old)
        if content is None:
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(content)


def with_blobs(kind: str, into: Path) -> tuple[Path, Path]:
    """A segment store of real Oak with an external blob store: their directories."""
    with zipfile.ZipFile(VECTORS / f"with-{kind}.zip") as zipped:
        zipped.extractall(into)
    return into / "store", into / "blobs"


OAK_WALKED = {
    "file": "7539d822dc5ae114fa98b03da690a5ab5dbac0c6944a7c375744d3fdd35fe57b",
    "blocks": "1a71622f951efb8c664db066674d944d2b9946ce16ee6dd3c403a551d2765044",
}
"""The content digests that real Oak computed of them."""
