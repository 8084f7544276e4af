"""Any history of a repository: what it holds equals a plain model, after every step and crash.

Commits, commits that are overtaken, and that raise; checkpoints; full and tail compactions,
cleanups; closing and opening; and the machine dying anywhere in between, losing what was not
synced.
"""

from __future__ import annotations

from typing import Any

import pytest
from histories import STEPS, holding, replay
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.load


@settings(max_examples=40)
@example([("checkpoint", None), ("crash", (11, 0)), ("crash", (8, 33))], 7)
@given(st.lists(STEPS, min_size=3, max_size=9), st.sampled_from([7, 10_000]))
def test_any_history_equals_a_plain_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]], held: int
) -> None:
    with holding(held):
        replay(tmp_path_factory.mktemp("history"), steps)
