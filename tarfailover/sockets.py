"""Options of TCP sockets, on either side.

A buffer of a fixed size switches the kernel's own tuning off, and the kernel silently
cuts what is asked for to a system-wide limit. So a buffer is only set where the limit
allows it whole; elsewhere the kernel's tuning is the better choice.
"""

from __future__ import annotations

import socket
import struct
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


_INFO_SIZE = 192
_ACKED = struct.Struct("=120xQ")
"""``tcpi_bytes_acked`` of ``struct tcp_info``, in linux/tcp.h since Linux 4.1."""


def acknowledged(transport: Any) -> int:
    """Bytes that the peer's kernel has confirmed since the connection began.

    Neither Twisted's buffer nor the kernel's tell: both take megabytes at a time, which
    on a thin line is minutes. 0 for what is no TCP, or where the system does not know.
    """
    _, handle = _below_tls(transport)
    try:
        info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    except (AttributeError, OSError):
        return 0
    return int(_ACKED.unpack_from(info)[0]) if len(info) >= _ACKED.size else 0


def _below_tls(transport: Any) -> tuple[Any, Any]:
    """The transport that has the socket, and the socket."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport, getattr(transport, "getHandle", lambda: None)()


def read_at_most(transport: Any, size: int) -> None:
    """Let the transport read that many bytes at a time."""
    below, _ = _below_tls(transport)
    below.bufferSize = size


def tune(transport: Any, option: int, size: int, step: int = STEP) -> None:
    """Set up a connection: no delay for small frames, keep-alive, and one buffer."""
    transport, handle = _below_tls(transport)
    if isinstance(handle, socket.socket) and handle.family != socket.AF_UNIX:
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        transport.bufferSize = step
        transport.SEND_LIMIT = step
        set_buffer(handle, option, size)
