"""Where streamed answers come from: blocking code that runs in the master's threads.

A source gives its answer as chunks of about a MiB, framed for the wire, one each time
it is asked; so memory is bounded by one chunk written and one read ahead per client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tarfailover.wire.compression import Packer

CHUNK = 1024 * 1024
"""Bytes read and written at a time."""


class Source(Protocol):
    """A streamed answer."""

    request: int

    ended: bool
    """Whether the last chunk was given."""

    @property
    def patience(self) -> float:
        """Seconds that one chunk may take; below that a client is told that work goes on."""

    sign_of_life: bytes
    """What it is told, framed: a piece of the answer that adds nothing."""
    size: int
    """Bytes of segments in the last chunk, before any compression."""

    def next(self, packer: Packer | None) -> bytes:
        """The next chunk, framed, compressed if there is a packer. Blocking; raises PeerError."""

    @property
    def at_once(self) -> Callable[[], bytes | None] | None:
        """None, or what is as ``next(None)`` and may be called in the reactor's thread.

        That gives None, and changes nothing, where it might have to wait for the disk. For
        what is in memory, handing it from thread to thread costs more than reading it.
        """

    def close(self) -> None:
        """Let go of what is held; no `next` follows."""
