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

MASTER_LIVE = frozenset(
    {
        "allowed_client_ip_ranges",
        "names_refresh",
        "deadline_names",
        "allowed_slaves",
        "scan_interval",
        "deadline_tls_handshake",
        "deadline_hello",
        "deadline_request",
        "deadline_idle_client",
        "deadline_idle_standby",
        "deadline_slow_reader",
        "deadline_disk",
        "deadline_drain",
        "max_clients",
        "max_clients_per_address",
        "max_strangers",
        "max_requests",
        "max_queued",
        "connect_rate",
        "connect_burst",
        "send_buffer",
        "rate_limit",
        "rate_limit_client",
    }
)
"""Settings that can be changed while a master runs."""
SLAVE_LIVE = frozenset(
    {
        "interval",
        "poll_wait",
        "deadline_connect",
        "deadline_tls_handshake",
        "deadline_hello",
        "deadline_answer",
        "deadline_idle",
        "deadline_write_stall",
        "deadline_progress",
        "deadline_drain",
        "retry_initial",
        "retry_max",
        "scrub_rate",
        "scrub_interval",
        "window_max",
        "receive_buffer",
        "rate_limit",
        "blobs",
    }
)
"""Settings that can be changed while a slave runs."""


class Reloadable(Protocol):
    """A service some of whose settings can be changed while it runs."""

    config: Any

    def reconfigure(self, config: Any) -> None:
        """Use `config` from now on, which differs in those settings alone."""


class Reload:
    """Called, it reads the configuration with `load` and gives what is new to `service`.

    `live` are the settings that can be changed while it runs.
    """

    log = Logger()

    def __init__(self, service: Reloadable, load: Callable[[], Any], live: frozenset[str]) -> None:
        self._service = service
        self._load = load
        self._live = live

    def __call__(self) -> None:
        """Read it again; never raises."""
        try:
            self._apply(self._load())
        except TarFailoverError as error:
            self.log.error("{error}; all settings stay as they were", error=str(error))
        except Exception:  # noqa: BLE001 - a fault here must not end what runs well
            self.log.failure("the settings could not be read again", Failure())

    def _apply(self, new: Any) -> None:
        old, live = self._service.config, self._live
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
