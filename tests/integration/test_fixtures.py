"""The stores of real Oak, replicated over real sockets in the state in which they were found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from replicate import replicate
from stores import closure_in, state_of

from tarfailover.store.check import StoreCheck
from tarfailover.store.follower import Follower


def same_head_and_closure(one: Path, other: Path) -> None:
    """Both heads are equal, and so is every byte that they need."""
    with Follower.open(one) as first, Follower.open(other) as second:
        assert first.head().line == second.head().line
        root = first.head().record.segment
        assert closure_in(first.snapshot, root) == closure_in(second.snapshot, root)


@pytest.mark.parametrize("name", ["fresh", "compacted", "killed"])
def test_a_store_of_oak(fixture_store: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    original, copy = fixture_store(name), tmp_path / "copy"
    before = state_of(original)
    replicate(original, copy)
    assert state_of(original) == before
    same_head_and_closure(original, copy)
    assert list(StoreCheck(copy).run()) == []
