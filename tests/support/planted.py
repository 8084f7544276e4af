"""Faults that a test plants into a copy of ourselves, to show that it would find the defect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

BOTH = pytest.mark.parametrize("planted", [False, True], ids=["ours", "with the defect"])
"""Runs a test as we are, and once more with the defect planted; see `found`."""


@contextlib.contextmanager
def found(planted: bool) -> Iterator[None]:
    """The check inside must hold, and must fail where the defect is planted."""
    try:
        yield
    except AssertionError:
        if not planted:
            raise
    else:
        assert not planted, "the check holds although the defect is there: it shows nothing"
