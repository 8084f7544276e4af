"""Segments that mention external binaries, and both sides of a replication with blob stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blob_samples import one_file_id
from format_samples import data_segment
from links import Rig
from sides import NEXT_TAR, TAR, MasterSide, SlaveSide, served
from stores import QuickDisk, Sample, add_heads, data_id, make_store, tar_bytes

from tarfailover.format.segment import BLOB_ID
from tarfailover.ids import NO_GENERATION, Generation
from tarfailover.store.blobs import DATA_STORE, BlobStore, Layout


def id_of(content: bytes, layout: Layout = DATA_STORE) -> str:
    """The id of `content`, as one file."""
    return one_file_id(layout, content).text


def holder(
    number: int,
    blobs: Iterable[str | bytes],
    references: Iterable[bytes] = (),
    generation: Generation = NO_GENERATION,
) -> Sample:
    """A data segment that mentions the ids `blobs`."""
    raw = [blob.encode() if isinstance(blob, str) else blob for blob in blobs]
    records = [(BLOB_ID, (0xE000 | len(each)).to_bytes(2, "big") + each) for each in raw]
    refs = tuple(references)
    return Sample(data_id(number), data_segment(generation, refs, records), refs, generation)


def add_to(store: Path, samples: Sequence[Sample], name: str = NEXT_TAR) -> None:
    """One more tar, whose last sample is the head from now on."""
    (store / name).write_bytes(tar_bytes(name, samples))
    add_heads(store, samples[-1].segment)


class Both:
    """A master and a slave in memory, each with its own blob store."""

    def __init__(self, tmp_path: Path, layout: Layout = DATA_STORE, **settings: Any) -> None:
        self.rig = Rig()
        self.tmp_path = tmp_path
        self.store = tmp_path / "store"
        self.theirs = BlobStore(tmp_path / "theirs", layout, QuickDisk())
        self.theirs.path.mkdir(parents=True)
        self.ours = BlobStore(tmp_path / "ours", layout)
        self.settings: dict[str, Any] = {
            "blob_store": str(self.ours.path), "blob_store_kind": layout.kind, **settings,
        }  # fmt: skip
        self.master: MasterSide
        self.slave: SlaveSide

    def serve(self, *samples: Sample, blobs: bool = True, **settings: Any) -> Both:
        """A store with `samples`, and a master that serves it; without a blob store if not."""
        make_store(self.store, {TAR: samples}, [samples[-1].segment])
        if blobs:
            settings["blob_store"] = str(self.theirs.path)
        self.master = served(self.rig, self.store, **settings)
        self.master.factory.blobs = self.theirs if blobs else None
        return self

    def follow(self) -> SlaveSide:
        """Start the slave."""
        self.slave = SlaveSide(self.rig, self.tmp_path / "copy", **self.settings).start()
        return self.slave

    def commit(self, sample: Sample, name: str = NEXT_TAR) -> None:
        """A new head at the master, of which the slave hears."""
        add_to(self.store, [sample], name)
        self.master.refresh()
        self.rig.settle()

    def has(self, *contents: bytes) -> bool:
        """Whether the slave has these, every byte of them."""
        for content in contents:
            blob = self.ours.parse(id_of(content, self.ours.layout))
            if not self.ours.has(blob):
                return False
            self.ours.verify(blob)
        return True

    def end(self) -> None:
        """Stop both."""
        self.slave.stop()
        self.master.close()
        assert not self.rig.delayed
