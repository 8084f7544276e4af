"""Stores with content made by functions, one commit each, and what real readers see of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from stores import QuickDisk

from tarfailover.format.segment import BLOB_ID
from tarfailover.ids import RecordId
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import ROOT, RepositoryWriter
from tarfailover.repository.records import Draft
from tarfailover.repository.values import ExternalBlob
from tarfailover.store.writer import TAR_LIMIT, StoreWriter

Edit = Callable[[NodeBuilder, RepositoryWriter], None]
"""Changes the builder of the content's top; the writer is there for binaries."""

START_MS = 1_730_000_000_000
STEP_MS = 60_000


def write(
    directory: Path, *edits: Edit, seed: int = 1, tar_limit: int = TAR_LIMIT, top: bool = False
) -> list[RecordId]:
    """Commit each of `edits` a minute after the one before; the heads, oldest first.

    With `top` the edits get the builder of the super root.
    """
    rng = random.Random(f"{seed} {directory.name}")
    now = [START_MS + seed * 1000 * STEP_MS]
    fresh = not directory.exists()
    heads = []
    with StoreWriter.open(
        directory, create=fresh, tar_limit=tar_limit, disk=QuickDisk(), clock=lambda: now[0] / 1000
    ) as sink:
        writer = RepositoryWriter(sink, rng.randbytes, wid="test", now=lambda: now[0])
        for edit in edits:
            super_root = writer.super_root()
            edit(super_root if top else super_root.child(ROOT), writer)
            heads.append(writer.commit(super_root))
            now[0] += STEP_MS
    return heads


def external(writer: RepositoryWriter, blob_id: str) -> ExternalBlob:
    """A binary of which the store holds only the id."""
    raw = blob_id.encode()
    draft = Draft(BLOB_ID, (0xE000 | len(raw)).to_bytes(2, "big") + raw)
    return ExternalBlob(writer._segments.write(draft), blob_id)
