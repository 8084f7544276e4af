"""Options of TCP sockets, on either side.

A buffer of a fixed size switches the kernel's own tuning off, and the kernel silently
cuts what is asked for to a system-wide limit. So a buffer is only set where the limit
allows it whole; elsewhere the kernel's tuning is the better choice.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.protocols.policies import ProtocolWrapper

_LIMITS = {
    socket.SO_SNDBUF: Path("/proc/sys/net/core/wmem_max"),
    socket.SO_RCVBUF: Path("/proc/sys/net/core/rmem_max"),
}


def set_buffer(handle: Any, option: int, size: int) -> bool:
    """Set the send or receive buffer of socket `handle` to `size` bytes.

    `option` is SO_SNDBUF or SO_RCVBUF. Does nothing for size 0; tells whether it was set.
    """
    if not size or not isinstance(handle, socket.socket) or size > _limit(option):
        return False
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    handle.setsockopt(socket.SOL_SOCKET, option, size)
    return True


def _limit(option: int) -> int:
    try:
        return int(_LIMITS[option].read_text("ascii"))
    except (OSError, ValueError):
        return 0


STEP = 1024 * 1024
"""Bytes given to, or taken from, the kernel in one call: fewer turns of the reactor."""


def tune(transport: Any, option: int, size: int) -> None:
    """Set up a connection: no delay for small frames, keep-alive, and one buffer."""
    while isinstance(transport, ProtocolWrapper):  # TLS: the socket is below it
        transport = transport.transport
    handle = getattr(transport, "getHandle", lambda: None)()
    if isinstance(handle, socket.socket) and handle.family != socket.AF_UNIX:
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        transport.bufferSize = STEP
        transport.SEND_LIMIT = STEP
        set_buffer(handle, option, size)
