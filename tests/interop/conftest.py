"""Real Oak for the interop tests, or the reason why it is not here.

Which absence skips and which fails:

- no JDK, no Maven or no shared material: skipped, with a reason that names all that is missing;
- Maven without network: skipped on a person's machine, a failure in CI (`offline_is_a_failure`);
- Maven, javac or Oak refuses: always a failure;
- with ``TARFAILOVER_INTEROP=required`` in the environment nothing is skipped.
"""

from __future__ import annotations

import os

import pytest
from oak import (
    OakAbsentError,
    OakOfflineError,
    OakPeer,
    Toolchain,
    build,
    oak_is_required,
    offline_is_a_failure,
)


@pytest.fixture(scope="session")
def oak() -> OakPeer:
    """Real Oak, built from its published artifacts by the first test that asks for it."""
    try:
        return build(Toolchain.find())
    except OakAbsentError as absent:
        if oak_is_required(os.environ):
            raise
        pytest.skip(str(absent))
    except OakOfflineError as offline:
        if offline_is_a_failure(os.environ):
            raise
        pytest.skip(str(offline).splitlines()[0])
