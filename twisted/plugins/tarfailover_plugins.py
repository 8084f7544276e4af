"""What `twistd` lists: strings only, so that listing plugins imports nothing of tarfailover."""

from twisted.application.service import ServiceMaker

master = ServiceMaker(
    "tarfailover master",
    "tarfailover.master_tap",
    "Serve a TarMK segment store, read-only, to any number of slaves.",
    "tarfailover-master",
)
slave = ServiceMaker(
    "tarfailover slave",
    "tarfailover.slave_tap",
    "Keep a verified copy of the TarMK segment store that a master serves.",
    "tarfailover-slave",
)
