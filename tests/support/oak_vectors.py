"""The small stores of `tests/vectors/oak`, which real Oak wrote; `scripts/vectors` made them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parents[1] / "vectors" / "oak"
DATASTORE = "datastore"
"""The folder of a store's binaries beside its tars, if it has a FileDataStore."""


@dataclass(frozen=True)
class OakStore:
    """What real Oak found in a store that it had written; as `stores.json` tells it."""

    name: str
    head: str
    nodes: int
    properties: int
    blob_bytes: int
    sha256: str

    def unpack(self, directory: Path) -> Path:
        """A fresh copy of the store in `directory`."""
        with zipfile.ZipFile(HOME / f"{self.name}.zip") as archive:
            archive.extractall(directory)
        return directory

    @property
    def external(self) -> bool:
        """Whether its binaries are in a FileDataStore."""
        return self.name.endswith("-datastore")

    def __str__(self) -> str:
        return self.name


def _stores() -> list[OakStore]:
    told = json.loads((HOME / "stores.json").read_text())
    wanted = ("head", "nodes", "properties", "blob_bytes", "sha256")
    return [OakStore(name, **{key: each[key] for key in wanted}) for name, each in told.items()]


STORES = _stores()
INTERNAL = [store for store in STORES if not store.external]
EXTERNAL = [store for store in STORES if store.external]
EACH_ONCE = {store.name.partition("-")[2]: store for store in INTERNAL}
"""One store of each kind, for what costs time and has nothing to do with Oak's release."""
