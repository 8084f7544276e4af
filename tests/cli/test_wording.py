"""Numbers and times as an operator reads them."""

from __future__ import annotations

import pytest

from tarfailover.cli.wording import iso, many, size


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**2, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (10**22, "8673.6 EiB"),
    ],
)
def test_sizes(count: int, told: str) -> None:
    assert size(count) == told


def test_counts() -> None:
    assert [many(n, "tar") for n in (0, 1, 1000)] == ["0 tars", "1 tar", "1,000 tars"]


@pytest.mark.parametrize(
    ("time_ms", "told"),
    [
        (1, "1970-01-01T00:00:00.001Z"),
        (1795374736264, "2026-11-22T19:12:16.264Z"),
        (0, None),
        (None, None),
        (10**18 - 1, None),
    ],
)
def test_times(time_ms: int | None, told: str | None) -> None:
    assert iso(time_ms) == told
