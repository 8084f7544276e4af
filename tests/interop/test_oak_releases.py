"""From one release of Oak to the other, with us between them: as a repository is upgraded."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import Daemon
from oak_content import digest_of
from oak_links import OAK_SLAVE, has, oak_primary, oak_standby, synced
from oak_peer import Peer

pytestmark = pytest.mark.interop


@pytest.mark.cell("Oak primary → our slave → our master → Oak standby of the other release")
def test_from_one_release_to_the_other(peer: Peer, other_peer: Peer, tmp_path: Path) -> None:
    """The other release goes on in both copies when the first one is gone."""
    middle, theirs = tmp_path / "middle", tmp_path / "theirs"
    with peer.open(tmp_path / "store") as live:
        live.fill(seed=1, nodes=60, kib=40)
        live.compact("full")
        with oak_primary(live) as port, Daemon.slave(middle, port, *OAK_SLAVE) as slave:
            has(slave, live.head())
            with (
                Daemon.master(middle) as master,
                oak_standby(other_peer, theirs, master.port) as (copy, standby),
            ):
                synced(copy, standby, live.head())
                head = live.fill(seed=2, nodes=20)["head"]
                has(slave, head)
                synced(copy, standby, head)
                assert copy.digest() == live.digest()
                master.stop()
            slave.stop()
    for store in (middle, theirs):
        with other_peer.open(store) as promoted:
            promoted.fill(seed=3, nodes=20)
            promoted.compact("tail")
            expected = promoted.digest()
        assert digest_of(store) == expected == peer.digest(store)
