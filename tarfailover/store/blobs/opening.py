"""Which kind of blob store a directory is.

Facts: blob stores, section 1. An id does not name its store, and nothing in a directory
says what it is: it is told, or seen by where its files lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tarfailover.errors import ConfigError, NotAStoreError
from tarfailover.store.blobs.layout import BLOCKS, DATA_STORE, Layout
from tarfailover.store.blobs.store import BlobStore
from tarfailover.store.durable import Disk, told

KINDS = ("auto", DATA_STORE.kind, BLOCKS.kind)
"""What a user may say: seen by its files, Jackrabbit's FileDataStore, Oak's FileBlobStore."""

LOOKED_AT = 10_000
"""Names that are looked at to find out what a directory is."""

_FOLDER = re.compile(r"[0-9a-f]{2}(?:_old)?", re.ASCII)
_METADATA = re.compile(r"reference\.key|(?:repository|references|markedTimestamp)-.*|blob-.*\.refs")


def open_blob_store(
    directory: str | Path, kind: str = "auto", *, create: bool = False, disk: Disk | None = None
) -> BlobStore:
    """The blob store in `directory`, of the `kind` told, or else of the kind that it looks like.

    Raises NotAStoreError if there is no directory (unless it may be made when the first
    binary comes: `create`), ConfigError for an unknown kind, for one that the files
    contradict, and if neither `kind` nor the files tell. Nothing is written.
    """
    path = Path(directory)
    if kind not in KINDS:
        raise ConfigError(f"{kind!r} is no kind of blob store: give {', '.join(KINDS)}")
    if not path.is_dir() and not (create and not path.exists()):
        raise NotAStoreError(f"{path} is no directory: there is no blob store")
    found = recognise(path) if path.is_dir() else None
    told_layout = {each.kind: each for each in (DATA_STORE, BLOCKS)}.get(kind)
    if told_layout is not None and found not in (None, told_layout):
        raise ConfigError(f"{path} is a {found.what}, and said to be of kind {kind!r}")
    layout = told_layout or found
    if layout is None:
        raise ConfigError(
            f"{path} holds no binaries yet, so nothing tells what kind of blob store it is: say "
            f"{DATA_STORE.kind!r} ({DATA_STORE.what}) or {BLOCKS.kind!r} ({BLOCKS.what})"
        )
    return BlobStore(path, layout, disk)


def recognise(directory: Path) -> Layout | None:
    """The layout of the files in `directory`; None if there are none that tell.

    Raises ConfigError if there are files of both.
    """
    found: dict[str, Layout] = {}
    for index, (layout, path) in enumerate(_signs(directory)):
        if layout is not None:
            found.setdefault(layout.kind, layout)
            if len(found) > 1:
                raise ConfigError(
                    f"{directory} holds files of two kinds of blob stores, {path} among them: "
                    "move what does not belong there"
                )
        if index >= LOOKED_AT:
            break
    return next(iter(found.values()), None)


def _signs(directory: Path) -> Iterator[tuple[Layout | None, Path]]:
    """What each name in the first folders tells."""
    for name in _names(directory):
        partial = [each for each in (DATA_STORE, BLOCKS) if each.digest_of_partial(name)]
        if partial or _METADATA.fullmatch(name):
            yield (partial or [DATA_STORE])[0], directory / name
        elif _FOLDER.fullmatch(name):
            for second in _names(directory / name):
                for third in _names(directory / name / second):
                    yield _told_by(third), directory / name / second / third


def _told_by(third: str) -> Layout | None:
    if third.endswith((".dat", ".dat.temp")):
        return BLOCKS
    return DATA_STORE if _FOLDER.fullmatch(third) else None


def _names(folder: Path) -> list[str]:
    with told("list", folder):
        try:
            return sorted(path.name for path in folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
