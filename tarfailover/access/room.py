"""How many connections the limit of open files leaves room for, beside the tars."""

from __future__ import annotations

from typing import NamedTuple

RESERVED = 64
"""Files kept for the program itself: its port, its log, looks at the directory."""
LEAVING = 256
"""Connections that were cut off and whose files are not closed yet."""
TARS_AT_A_TIME = 2
"""Copies of the set of tars that may be open: a cleanup replaces files that are still read."""
LEAST = 8
"""Connections below which serving makes no sense."""


class Room(NamedTuple):
    """Clients, and connections that are not introduced yet, that may be open at a time."""

    clients: int
    strangers: int

    @classmethod
    def within(cls, clients: int, strangers: int, tars: int, files: int) -> Room:
        """As many as wanted, or as `files` open files allow beside `tars` tars; 1 at the least."""
        free = max(2, files - RESERVED - LEAVING - TARS_AT_A_TIME * tars)
        if clients + strangers <= free:
            return cls(clients, strangers)
        strange = min(strangers, max(1, free // 4))
        return cls(min(clients, free - strange), strange)

    @property
    def serves(self) -> bool:
        """Whether it is enough to serve anybody."""
        return self.clients + self.strangers >= LEAST
