"""``twistd tarfailover-slave``: the composition root of the slave."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet import reactor
from twisted.python import usage

from tarfailover import config
from tarfailover.config import SlaveConfig
from tarfailover.errors import TarFailoverError
from tarfailover.reload import SLAVE_LIVE, Reload
from tarfailover.run_tap import (
    fatal,
    keep_buffers,
    raise_file_limit,
    refuse,
    reload_on_hangup,
    stop_on_signals,
    with_status,
)
from tarfailover.slave.report import health, report
from tarfailover.slave.service import SlaveService


class Options(usage.Options):
    """The options of the slave, from the table of its settings."""

    synopsis = "[options]"
    optParameters = config.option_parameters(SlaveConfig)  # noqa: N815 - Twisted's name
    optFlags = config.option_flags(SlaveConfig)  # noqa: N815
    longdesc = config.HELP

    def postOptions(self) -> None:  # noqa: N802
        """Merge with file and environment; ends the process if something is wrong there."""
        try:
            self["load"] = partial(config.load, SlaveConfig, os.environ, dict(self))
            self["merged"] = self["load"]()
        except TarFailoverError as error:
            refuse(error)


def makeService(options: Any) -> IService:  # noqa: N802 - Twisted's name
    """The service that twistd runs."""
    raise_file_limit()
    keep_buffers()
    stop_on_signals(reactor)
    merged = options["merged"]
    slave = SlaveService(merged, reactor, fatal(reactor))
    reload_on_hangup(reactor, Reload(slave, options["load"], SLAVE_LIVE))
    return with_status(slave, merged, reactor, partial(report, slave), partial(health, slave))
