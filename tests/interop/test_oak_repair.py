"""Real Oak is the judge of stores that rotted and were mended."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from copies import sound
from oak_content import lives_on
from oak_peer import Peer
from rot import Whole, files_of, random_flips, repair

from tarfailover.format import journal, manifest

pytestmark = pytest.mark.interop

BITS = 300
SEED = int(os.environ.get("ROT_SEED") or random.randrange(2**32))
GC_LOG = "gc.log"


@pytest.fixture
def written(peer: Peer, tmp_path: Path) -> Path:
    """A store that Oak wrote, compacted, and closed."""
    store = tmp_path / "store"
    with peer.open(store) as live:
        live.fill(seed=1, nodes=200, kib=60)
        live.compact("full")
        live.fill(seed=2, nodes=50, kib=20)
    return store


@pytest.mark.cell("our repair of a store of Oak's: every bit as Oak wrote it")
@pytest.mark.parametrize("seed", [SEED], ids=[f"ROT_SEED={SEED}"])
def test_oak_goes_on_with_what_was_mended(
    peer: Peer, written: Path, tmp_path: Path, seed: int
) -> None:
    copy = shutil.copytree(written, tmp_path / "copy")
    for flip in random_flips(copy, BITS, seed):
        flip.strike(copy)
    assert all(each.mended for each in repair(copy, Whole(written)))
    assert files_of(copy) == files_of(written)
    assert peer.walk(copy) == peer.walk(written)
    lives_on(peer, copy)


@pytest.mark.cell("our repair of a tar that had to be written anew, and of one that was gone")
def test_oak_goes_on_with_tars_written_anew(peer: Peer, written: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(written, tmp_path / "copy")
    first, *others = sorted(copy.glob("*.tar"))
    data = first.read_bytes()
    # Neither its index nor its first header can be read any more.
    first.write_bytes(bytes(512) + data[512:-3000] + os.urandom(1976) + data[-1024:])
    for gone in others[:1]:
        gone.unlink()
    assert all(each.mended for each in repair(copy, Whole(written)))
    kept = {journal.NAME, manifest.NAME, GC_LOG}
    before, now = files_of(written), files_of(copy)
    assert all(now[name] == before[name] for name in kept & before.keys())
    sound(copy)
    assert peer.walk(copy) == peer.walk(written)
    lives_on(peer, copy)
