"""The digest by which two sides compare a segment."""

from __future__ import annotations

import hashlib

import pytest
from wire_samples import DATA

from tarfailover.errors import ProtocolError
from tarfailover.wire.digests import SIZE, digest, told
from tarfailover.wire.stream import Segment

SALT = bytes(range(16))


def item(data: bytes) -> Segment:
    return Segment(DATA, 0, len(data), [memoryview(data)])


def test_it_is_the_beginning_of_sha256_over_salt_and_bytes() -> None:
    assert digest(SALT, b"abc") == hashlib.sha256(SALT + b"abc").digest()[:16]


def test_every_bit_of_both_counts() -> None:
    seen = {digest(SALT, b"abc")}
    for place in range(8 * 16):
        salt = (int.from_bytes(SALT, "big") ^ 1 << place).to_bytes(16, "big")
        seen.add(digest(salt, b"abc"))
    for place in range(8 * 3):
        seen.add(digest(SALT, (int.from_bytes(b"abc", "big") ^ 1 << place).to_bytes(3, "big")))
    assert len(seen) == 1 + 8 * 19


def test_it_is_taken_out_of_an_item() -> None:
    assert told(item(bytes(SIZE))) == bytes(SIZE)
    with pytest.raises(ProtocolError, match="has 15 bytes; 16 are due"):
        told(item(bytes(15)))
