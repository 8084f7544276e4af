"""The directory of a store: which files count, and whether this module may read it.

Facts: storage format, sections 1.1, 1.2 and 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tarfailover.errors import (
    DamagedStoreError,
    FormatError,
    NotAStoreError,
    UnsupportedStoreError,
)
from tarfailover.format import manifest
from tarfailover.format.tar import TarName
from tarfailover.store.durable import told
from tarfailover.store.tarreader import TarReader

_LEFT_OVER = re.compile(
    r"repo\.lock|journal\.log|gc\.log|.*\.bak|manifest\.new|tarfailover(-blobs|-scrub)?\.json(\.new)?|lost\+found"
    r"|data[0-9]+[a-z]\.tar\.new"
)
"""What a store without tars may have left: a crash came early, or only the lock was taken."""
_MANIFEST_LIMIT = 64 * 1024

UNFINISHED = ".new"
"""Ends the name of a tar that a cleanup is writing: it counts only under its own name."""


class Choice(NamedTuple):
    """The files of one tar number."""

    winners: list[TarReader]
    """The tar with the index that counts; without any valid index all letters, a first."""
    losers: list[TarName]
    """Letters that the winner supersedes."""


def tar_names(directory: Path) -> list[TarName]:
    """The tars in `directory`, by number and letter; raises NotAStoreError."""
    if not directory.is_dir():
        raise NotAStoreError(f"{directory} is no directory; give the path of a segmentstore")
    with told("list", directory):
        names = [TarName.parse(path.name) for path in directory.iterdir()]
    return sorted(filter(None, names))


def unfinished(directory: Path) -> list[Path]:
    """The tars that a cleanup was writing when it ended."""
    with told("list", directory):
        paths = sorted(directory.glob(f"data*.tar{UNFINISHED}"))
    return [path for path in paths if TarName.parse(path.name.removesuffix(UNFINISHED))]


def check_manifest(directory: Path) -> None:
    """Raise unless the manifest says that this store can be read.

    UnsupportedStoreError for a legacy store (tars without a manifest) and for a newer
    one, DamagedStoreError for nonsense, NotAStoreError where there is nothing at all.
    """
    path = directory / manifest.NAME
    names = tar_names(directory)
    if not path.exists():
        _refuse_without_manifest(directory, names)
    with told("read", path), path.open("rb") as file:
        data = file.read(_MANIFEST_LIMIT)
    try:
        version = manifest.parse(data)
    except FormatError as error:
        raise DamagedStoreError(
            f"{error.within(str(path))}; restore it: one line, store.version=2"
        ) from error
    if version > manifest.CURRENT:
        raise UnsupportedStoreError(
            f"{path}: store.version is {version}; this tarfailover reads up to "
            f"{manifest.CURRENT}: use a newer one"
        )
    if version not in manifest.READABLE:
        raise DamagedStoreError(f"{path}: store.version is {version}; 1 and 2 exist")


def _refuse_without_manifest(directory: Path, names: list[TarName]) -> None:
    if names:
        raise UnsupportedStoreError(
            f"{directory} has tars but no manifest: it was written by the legacy oak-segment "
            "module (Oak 1.0 to 1.6); migrate it with oak-upgrade first"
        )
    refuse_other_directory(directory)
    raise NotAStoreError(f"{directory} holds no segment store")


def refuse_other_directory(directory: Path) -> None:
    """Raise NotAStoreError for a directory in which no store may be begun.

    One that holds anything that is not a store's: the home of a repository, in which the
    store is one level down, or somebody's files.
    """
    inner = directory / "segmentstore"
    if inner.is_dir():
        raise NotAStoreError(f"{directory} holds no segment store; did you mean {inner}?")
    others = sorted(p.name for p in directory.iterdir() if not _LEFT_OVER.fullmatch(p.name))
    if others:
        raise NotAStoreError(
            f"{directory} holds no segment store, but {others[0]!r}"
            f"{f' and {len(others) - 1} other names' if others[1:] else ''}; "
            "give a segmentstore, or a new or an empty directory for a copy"
        )


def choose(directory: Path, names: list[TarName]) -> Choice:
    """Open those of `names`, all of one number, that count.

    Letters are tried from the last to the first; the first with a valid index wins, as
    when Oak opens a store for writing. Raises StoreIOError, also for a file that vanished
    meanwhile, and UnsupportedStoreError for a tar of the legacy module.
    """
    without: list[TarReader] = []
    try:
        for name in reversed(names):
            reader = TarReader.open(directory / str(name), name)
            if reader.index is not None:
                release(without)
                return Choice([reader], [other for other in names if other != name])
            without.append(reader)
        for reader in without:
            reader.scan()
    except BaseException:
        release(without)
        raise
    return Choice(without[::-1], [])


def release(readers: Iterable[TarReader]) -> None:
    """Let go of `readers`."""
    for reader in readers:
        reader.release()
