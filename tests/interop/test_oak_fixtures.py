"""The judge's self test: real Oak reads its own fixtures as their README says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from oak import OakError, OakPeer
from oak_content import FIXTURES

from tarfailover.format.tar import BLOCK

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("name", FIXTURES)
def test_oak_reads_its_fixture(
    oak: OakPeer, fixture_store: Callable[[str], Path], name: str
) -> None:
    assert oak.walk(fixture_store(name)) == FIXTURES[name]


def test_oak_recovers_the_killed_store(oak: OakPeer, fixture_store: Callable[[str], Path]) -> None:
    store = fixture_store("killed")
    oak.run("recover", store)
    assert (store / "data00000a.tar.bak").is_file()
    assert oak.walk(store) == FIXTURES["killed"]


def test_one_changed_byte_changes_the_verdict(
    oak: OakPeer, fixture_store: Callable[[str], Path]
) -> None:
    """Oak delivers a damaged bulk segment without a word; the digest tells."""
    store = fixture_store("fresh")
    _damage_a_bulk_segment(store / "data00000a.tar")
    assert oak.digest(store) != FIXTURES["fresh"].digest


def _damage_a_bulk_segment(tar: Path) -> None:
    content = bytearray(tar.read_bytes())
    bulk = re.search(rb"[0-9a-f-]{19}b[0-9a-f]{3}-[0-9a-f]{12}\.[0-9a-f]{8}\0", content)
    assert bulk is not None
    content[bulk.start() + BLOCK] ^= 1
    tar.write_bytes(content)


def test_a_directory_without_a_store_is_a_failure_of_oak(oak: OakPeer, tmp_path: Path) -> None:
    with pytest.raises(OakError, match="exit code 1"):
        oak.walk(tmp_path)
