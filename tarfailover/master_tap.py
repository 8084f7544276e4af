"""``twistd tarfailover-master``: the composition root of the master."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet import reactor
from twisted.python import usage

from tarfailover import config
from tarfailover.config import MasterConfig
from tarfailover.errors import TarFailoverError
from tarfailover.master.report import health, report
from tarfailover.master.service import MasterService
from tarfailover.reload import MASTER_LIVE, Reload
from tarfailover.run_tap import (
    fatal,
    keep_buffers,
    raise_file_limit,
    refuse,
    reload_on_hangup,
    stop_on_signals,
    with_status,
)


class Options(usage.Options):
    """The options of the master, from the table of its settings."""

    synopsis = "[options]"
    optParameters = config.option_parameters(MasterConfig)  # noqa: N815 - Twisted's name
    optFlags = config.option_flags(MasterConfig)  # noqa: N815
    longdesc = config.HELP

    def postOptions(self) -> None:  # noqa: N802
        """Merge with file and environment; ends the process if something is wrong there."""
        try:
            self["load"] = partial(config.load, MasterConfig, os.environ, dict(self))
            self["merged"] = self["load"]()
        except TarFailoverError as error:
            refuse(error)


def makeService(options: Any) -> IService:  # noqa: N802 - Twisted's name
    """The service that twistd runs."""
    raise_file_limit()
    keep_buffers()
    stop_on_signals(reactor)
    merged = options["merged"]
    master = MasterService(merged, reactor, fatal(reactor))
    reload_on_hangup(reactor, Reload(master, options["load"], MASTER_LIVE))
    return with_status(master, merged, reactor, partial(report, master), partial(health, master))
