"""Small files that an operator writes and may replace while the program runs."""

from __future__ import annotations

from pathlib import Path

from tarfailover.errors import ConfigError

MAX_LINE_FILE = 64 * 1024
"""Bytes of a file of which only the first line counts."""


def read(path: Path, limit: int, what: str) -> bytes:
    """All of a file; raises ConfigError, also for one of more than `limit` bytes, no `what`."""
    try:
        # A pipe would make the reader wait without a limit.
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is no file; check the path")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; check path and rights") from error
    if len(data) > limit:
        raise ConfigError(f"{path} is no {what}: it is larger than {limit} bytes")
    return data


def first_line(path: Path, what: str) -> bytes:
    """The first line of a file, without its end; raises ConfigError, also for an empty one."""
    line = read(path, MAX_LINE_FILE, f"file with a {what}").split(b"\n")[0].rstrip(b"\r")
    if not line:
        raise ConfigError(f"{path} holds no {what} in its first line")
    return line


def signature(path: Path) -> object:
    """Differs from an earlier one if the file was replaced or written since."""
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_mtime_ns, found.st_size


def readable_by_others(path: Path) -> bool:
    """Whether the rights of a file let anybody but its owner read it; raises OSError."""
    return bool(path.stat().st_mode & 0o077)
