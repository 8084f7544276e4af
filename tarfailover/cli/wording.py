"""Values as an operator reads them, and as other programs do."""

from __future__ import annotations

import datetime as dt
from typing import Any

from tarfailover.errors import TarFailoverError
from tarfailover.ids import Generation, RecordId, text
from tarfailover.store.finding import many
from tarfailover.store.snapshot import Head

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

Document = dict[str, Any]
"""What ``--json`` prints."""


def size(count: float) -> str:
    """`count` bytes with a unit of 1024: ``12 bytes``, ``3.4 MiB``."""
    if count < 1024:
        return f"{count:.0f} byte{'s' * (count != 1)}"
    for unit in _UNITS:
        count /= 1024
        if count < 999.95 or unit == _UNITS[-1]:
            return f"{count:.1f} {unit}"
    raise AssertionError("the last unit fits everything")


def iso(time_ms: int | None) -> str | None:
    """Milliseconds since 1970 in ISO 8601, UTC; None for 0 and for what no calendar has."""
    if not time_ms:
        return None
    try:
        moment = _EPOCH + dt.timedelta(milliseconds=time_ms)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def when(time_ms: int | None) -> str:
    """The same in words for a table."""
    return iso(time_ms) or "unknown"


def record_document(record: RecordId) -> Document:
    """A record id in all its forms."""
    return {
        "id": str(record),
        "hex": record.hex,
        "segment": text(record.segment),
        "record": record.number,
    }


def generation_document(generation: Generation) -> Document:
    """The three values of a generation."""
    return {
        "generation": generation.generation,
        "full": generation.full,
        "compacted": generation.compacted,
    }


def head_document(head: Head) -> Document:
    """A head: its record, its generation, its time."""
    return {
        **record_document(head.record),
        "generation": generation_document(head.generation),
        "time_ms": head.time_ms or None,
        "time": iso(head.time_ms),
    }


def error_document(error: TarFailoverError) -> Document:
    """Why a command ended: the kind of error, its message, the exit code."""
    return {
        "kind": type(error).__name__,
        "message": str(error),
        "exit_code": error.exit_code,
    }


__all__ = [
    "Document",
    "error_document",
    "generation_document",
    "head_document",
    "iso",
    "many",
    "record_document",
    "size",
    "when",
]
