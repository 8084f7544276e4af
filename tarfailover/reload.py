"""The configuration read again while the program runs.

Some settings can be changed at any time, others count for the whole life of a process.
What is wrong in the file changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.errors import TarFailoverError
from tarfailover.settings import Setting, table


class Reloadable(Protocol):
    """A service whose settings can be changed while it runs, those in `LIVE` at least."""

    LIVE: frozenset[str]
    config: Any

    def reconfigure(self, config: Any) -> None:
        """Use `config` from now on, which differs in `LIVE` alone."""


class Reload:
    """Called, it reads the configuration with `load` and gives what is new to `service`."""

    log = Logger()

    def __init__(self, service: Reloadable, load: Callable[[], Any]) -> None:
        self._service = service
        self._load = load

    def __call__(self) -> None:
        """Read it again; never raises."""
        try:
            self._apply(self._load())
        except TarFailoverError as error:
            self.log.error("{error}; all settings stay as they were", error=str(error))
        except Exception:  # noqa: BLE001 - a fault here must not end what runs well
            self.log.failure("the settings could not be read again", Failure())

    def _apply(self, new: Any) -> None:
        old, live = self._service.config, self._service.LIVE
        changed = [
            row for row in table(type(old)) if getattr(old, row.field) != getattr(new, row.field)
        ]
        if not changed:
            self.log.info("settings were read again: nothing is new")
            return
        now = {row.field: getattr(new, row.field) for row in changed if row.field in live}
        if now:
            self._service.reconfigure(dataclasses.replace(old, **now))
        for row in changed:
            self._tell(row, old, new, live=row.field in live)

    def _tell(self, row: Setting, old: Any, new: Any, *, live: bool) -> None:
        before, after = repr(getattr(old, row.field)), repr(getattr(new, row.field))
        if live:
            changed = f"{row.osgi}: {after}, was {before}"
            self.log.info("{changed}", changed=changed)
        else:
            self.log.warn(
                "{name}: {after} counts after a restart; until then it is {before}",
                name=row.osgi,
                before=before,
                after=after,
            )
