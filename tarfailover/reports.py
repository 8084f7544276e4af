"""What the reports of master and slave have in common."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from tarfailover import __version__

Document = dict[str, Any]
"""What JSON can hold."""


def moment(seconds: float | None) -> str | None:
    """Seconds since 1970 in ISO 8601, UTC; None for what no calendar has."""
    if seconds is None:
        return None
    try:
        found = dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    except (OverflowError, OSError, ValueError):
        return None
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def opening(role: str, now: float, started: float) -> Document:
    """The first fields of a report; times in seconds since 1970."""
    return {
        "role": role,
        "version": __version__,
        "time": moment(now),
        "started": moment(started),
    }


def expiries(ends: Iterable[tuple[str, str, dt.datetime]], now: float) -> list[Document]:
    """When certificates and revocation lists end: of which file, what, and when."""
    return [
        {
            "file": file,
            "what": what,
            "time": moment(end.timestamp()),
            "days": int((end.timestamp() - now) // 86400),
        }
        for file, what, end in ends
    ]
