"""A drive that loses what was not synced: writes are recorded, and the machine dies at any step.

`RecordingDisk` writes for real and logs each operation as a step. A `Drive` replays steps and
knows of every file and name what is durable and what is only in the system's memory. Its
crashes are new drives: each loses another part of what was not synced.

What a power failure may leave is taken at its worst: of each file any subset of the writes since
its last sync, cut anywhere; of the directory any beginning of the changes since its last sync.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stores import QuickDisk

from tarfailover.store.durable import Buffer, told


class Step(NamedTuple):
    """One operation: `kind` is write, truncate, sync, link, unlink, sync-names or said."""

    kind: str
    inode: int = 0
    name: str = ""
    offset: int = 0
    data: bytes = b""
    what: object = None
    """For ``said``: what the program told the world at this point."""


@dataclass
class File:
    """What is durable of a file, and what was done to it since its last sync."""

    durable: bytes = b""
    pending: list[Step] = field(default_factory=list)

    def content(self, pending: Sequence[Step] | None = None) -> bytes:
        """The file if of what is pending only `pending` is kept; by default all."""
        found = bytearray(self.durable)
        for step in self.pending if pending is None else pending:
            end = step.offset + len(step.data)
            found.extend(bytes(max(0, end - len(found))))
            if step.kind == "truncate":
                del found[end:]
            else:
                found[step.offset : end] = step.data
        return bytes(found)

    def synced(self, content: bytes | None = None) -> File:
        """The file with everything, or `content`, durable."""
        return File(self.content() if content is None else content)


Fate = Callable[[File], bytes]
"""What a crash makes of a file."""


@dataclass
class Drive:
    """One directory on a drive."""

    files: dict[int, File] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    """As a running system sees them."""
    durable_names: dict[str, int] = field(default_factory=dict)
    pending_names: list[Step] = field(default_factory=list)

    @classmethod
    def of(cls, directory: Path) -> Drive:
        """A drive on which all of `directory` is durable."""
        paths = sorted(directory.iterdir())
        names = {path.name: inode for inode, path in enumerate(paths, 1)}
        files = {names[path.name]: File(path.read_bytes()) for path in paths}
        return cls(files, names, dict(names))

    def copy(self) -> Drive:
        """Another drive in the same state: what is left when only the process was killed."""
        files = {inode: File(f.durable, list(f.pending)) for inode, f in self.files.items()}
        return Drive(files, dict(self.names), dict(self.durable_names), list(self.pending_names))

    def apply(self, step: Step) -> None:
        """Carry out one step."""
        if step.kind in ("write", "truncate"):
            self.files[step.inode].pending.append(step)
        elif step.kind == "sync":
            self.files[step.inode] = self.files[step.inode].synced()
        elif step.kind in ("link", "unlink"):
            self.files.setdefault(step.inode, File())
            self.pending_names.append(step)
            _rename(self.names, step)
        elif step.kind == "sync-names":
            self.durable_names, self.pending_names = dict(self.names), []

    def crashed(self, fate: Fate, names: int | None = None) -> Drive:
        """The drive after a power failure.

        Of the changes of names that were not synced the first `names` are kept; by default all.
        """
        kept = dict(self.durable_names)
        for step in self.pending_names[:names]:
            _rename(kept, step)
        files = {inode: File(fate(self.files[inode])) for inode in kept.values()}
        return Drive(files, kept, dict(kept))

    def write_to(self, directory: Path) -> Path:
        """Make `directory` what a running system sees; what was in it goes."""
        directory.mkdir(exist_ok=True)
        for path in directory.iterdir():
            path.unlink()
        for name, inode in self.names.items():
            (directory / name).write_bytes(self.files[inode].content())
        return directory


def _rename(names: dict[str, int], step: Step) -> None:
    if step.kind == "unlink":
        names.pop(step.name, None)
        return
    for name in [name for name, inode in names.items() if inode == step.inode]:
        del names[name]
    names[step.name] = step.inode


def all_kept(file: File) -> bytes:
    return file.content()


def all_lost(file: File) -> bytes:
    return file.durable


def zeros(file: File) -> bytes:
    """The sizes arrived, the bytes did not: what some file systems leave."""
    whole = file.content()
    return file.durable[: len(whole)].ljust(len(whole), b"\0")


def first_lost(file: File) -> bytes:
    """Later writes arrived, the first one did not."""
    return file.content(file.pending[1:])


def last_lost(file: File) -> bytes:
    return file.content(file.pending[:-1])


def last_torn(at: int) -> Fate:
    """Of the last write only the first `at` bytes arrived, or all but ``-at``."""

    def fate(file: File) -> bytes:
        if not file.pending:
            return file.durable
        last = file.pending[-1]
        return file.content([*file.pending[:-1], last._replace(data=last.data[:at])])

    return fate


def only(inode: int) -> Fate:
    """What was not synced of one file arrived, and of no other."""

    def fate(file: File) -> bytes:
        return file.content() if file.pending and file.pending[0].inode == inode else file.durable

    return fate


def crashes(drive: Drive) -> Iterator[tuple[str, Drive]]:
    """Every state in which a crash may leave `drive`, with a name for messages."""
    yield "killed", drive.copy()
    dirty = [inode for inode, file in drive.files.items() if file.pending]
    seen = [drive.crashed(all_kept)]
    fates: list[tuple[str, Fate, int | None]] = [
        ("all unsynced lost", all_lost, 0),
        ("unsynced bytes lost", all_lost, None),
        ("unsynced names lost", all_kept, 0),
    ]
    if dirty:
        fates += [("zeros", zeros, None), ("first lost", first_lost, None)]
        fates += [("last lost", last_lost, None)]
        fates += [(f"torn at {at}", last_torn(at), None) for at in (1, 511, 512, 515, -1, -512)]
    if len(dirty) > 1:
        fates += [(f"only file {inode}", only(inode), None) for inode in dirty]
    fates += [(f"names {n}", all_kept, n) for n in range(1, len(drive.pending_names))]
    for name, fate, names in fates:
        left = drive.crashed(fate, names)
        if left not in seen:
            seen.append(left)
            yield name, left


class RecordingDisk(QuickDisk):
    """Changes files for real, and logs every step."""

    def __init__(self, drive: Drive | None = None) -> None:
        self.names = dict(drive.names) if drive else {}
        self.steps: list[Step] = []
        self._inodes = max(drive.files, default=0) if drive else 0

    def say(self, what: object) -> None:
        """Log what the program tells the world."""
        self.step(Step("said", what=what))

    def step(self, step: Step) -> None:
        """Log `step`; called before it is carried out."""
        self.steps.append(step)

    def _link(self, path: Path) -> None:
        self._inodes += 1
        self.step(Step("link", self._inodes, path.name))
        self.names[path.name] = self._inodes

    def create(self, path: Path) -> int:
        self._link(path)
        return super().create(path)

    def open(self, path: Path, *, create: bool = False, follow: bool = True) -> int:
        if path.name not in self.names:
            self._link(path)
        return super().open(path, create=create, follow=follow)

    def write(self, fd: int, path: Path, buffers: Sequence[Buffer], offset: int) -> int:
        at = offset
        # One step for each buffer: none of them is on the disk together with another.
        for buffer in buffers:
            if len(buffer):
                self.step(Step("write", self.names[path.name], "", at, bytes(buffer)))
            at += len(buffer)
        return super().write(fd, path, buffers, offset)

    def truncate(self, fd: int, path: Path, size: int) -> None:
        self.step(Step("truncate", self.names[path.name], "", size))
        super().truncate(fd, path, size)

    def sync(self, fd: int, path: Path) -> None:
        self.step(Step("sync", self.names[path.name]))
        super().sync(fd, path)

    def sync_directory(self, path: Path) -> None:
        self.step(Step("sync-names"))
        super().sync_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        inode = self.names.pop(source.name)
        self.names[target.name] = inode
        self.step(Step("link", inode, target.name))
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self.names.pop(path.name, None)
        self.step(Step("unlink", 0, path.name))
        super().remove(path)


class FailingDisk(RecordingDisk):
    """Fails with `error` at step number `at`, of the kinds `kinds`; half of a write arrives."""

    def __init__(
        self, at: int, kinds: Sequence[str] = ("write", "sync"), error: int = errno.ENOSPC
    ):
        super().__init__()
        self._at = at
        self._kinds = kinds
        self._error = error
        self.failed: Step | None = None

    def step(self, step: Step) -> None:
        super().step(step)
        chosen = sum(each.kind in self._kinds for each in self.steps)
        if self.failed is None and step.kind in self._kinds and chosen == self._at:
            self.failed = step

    def _fail(self, doing: str, path: Path, before: int) -> None:
        if self.failed is not None and any(self.failed is step for step in self.steps[before:]):
            with told(doing, path):
                raise OSError(self._error, os.strerror(self._error))

    def write(self, fd: int, path: Path, buffers: Sequence[Buffer], offset: int) -> int:
        before = len(self.steps)
        whole = b"".join(buffers)
        end = super().write(fd, path, buffers, offset)
        if self.failed is not None and any(self.failed is step for step in self.steps[before:]):
            os.ftruncate(fd, offset + len(whole) // 2)
        self._fail("write", path, before)
        return end

    def sync(self, fd: int, path: Path) -> None:
        before = len(self.steps)
        super().sync(fd, path)
        self._fail("sync", path, before)
