"""Content for the judge: what the fixtures hold, and what must hold after Oak worked on a store."""

from __future__ import annotations

from pathlib import Path

from oak import OakPeer, Walked

FIXTURES = {
    "fresh": Walked(
        "134ab5c4-9620-4f83-a475-c546d7194527.00000016",
        990,
        5789,
        1902260,
        "26eb72c4e0695faf26574c3e1d0192b74cd9b89bb4d4ccd7161921f297ba1cb3",
    ),
    "compacted": Walked(
        "7e1f37df-72e0-4fac-adc1-75b95bc38cd2.00000016",
        794,
        4161,
        832944,
        "8bdd227ef18bccd21f9cf4300d24fab3f8bbbb0da9b3a884f75079918fd0309a",
    ),
    "killed": Walked(
        "9d7bde02-c49d-4975-a8b0-a8b4ebb003db.000001d5",
        1582,
        6259,
        1014990,
        "498035742158f7ea10111ac9372062eea5974b650460abe4a95f646ea3e20888",
    ),
}
"""What `shared/fixtures/README.md` says of the stores that real Oak wrote."""


def lives_on(oak: OakPeer, store: Path) -> str:
    """Lets Oak extend, compact and clean `store`; returns the digest of all that is then in it.

    Two full compactions: the second cleanup drops the generation in which the store came.
    """
    oak.run("create", store, 120, 40, seed=7)
    extended = oak.walk(store)
    for _ in range(2):
        oak.run("compact", store)
    compacted = oak.walk(store)
    assert compacted.head != extended.head
    assert compacted.digest == extended.digest
    return compacted.digest
