"""What scripts/vectors does: has real Oak write small stores, and keeps them with their digests."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from _env import ROOT

sys.path.insert(0, str(ROOT / "tests" / "support"))

from oak_build import RELEASES, Toolchain, build
from oak_peer import Peer
from oak_recipes import DATASTORE, RECIPES, make, shown

HOME = ROOT / "tests" / "vectors" / "oak"
MANIFEST = HOME / "stores.json"
NOT_KEPT = ("repo.lock",)
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the zips, which is none of the content."""


def main(arguments: list[str]) -> int:
    """Make the stores whose names are given, or all; the exit code of the script."""
    known = [f"{release}-{name}" for release in RELEASES for name in RECIPES]
    if unknown := [name for name in arguments if name not in known]:
        print(f"no store is called {', '.join(unknown)}; there are: {' '.join(known)}")
        return 2
    HOME.mkdir(parents=True, exist_ok=True)
    kept = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    for name in arguments or known:
        kept[name] = _made(name)
        print(f"{name}: {kept[name]['sha256']}", flush=True)
    ordered = {name: kept[name] for name in known if name in kept}
    MANIFEST.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    return 0


def _made(name: str) -> dict[str, object]:
    release, _, recipe = name.partition("-")
    built = build(Toolchain.find(RELEASES[release]))
    with tempfile.TemporaryDirectory() as scratch:
        store, copy = Path(scratch) / "store", Path(scratch) / "copy"
        with Peer(built, release) as peer:
            make(peer, store, RECIPES[recipe])
        shutil.copytree(store, copy)
        with Peer(built, release) as peer:  # reads a copy: Oak leaves files where it repairs
            options = {"blobs": copy / DATASTORE} if (copy / DATASTORE).is_dir() else {}
            walked = peer.walk(copy, **options)
        _zip(store, HOME / f"{name}.zip")
    return {
        "command": f"scripts/vectors {name}",
        "steps": shown(RECIPES[recipe]),
        "head": walked.head,
        "nodes": walked.nodes,
        "properties": walked.properties,
        "blob_bytes": walked.blob_bytes,
        "sha256": walked.digest,
    }


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in NOT_KEPT:
                entry = zipfile.ZipInfo(str(path.relative_to(folder)), LONG_AGO)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes(), compresslevel=9)
