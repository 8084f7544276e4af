"""Replicates a store as its users do: a real master and a real slave, each under twistd."""

from __future__ import annotations

from pathlib import Path

from daemons import Daemon


def replicate(master_dir: Path, slave_dir: Path) -> None:
    """Bring the store in `slave_dir` up to the head of the one in `master_dir`.

    Returns after both processes have stopped cleanly; raises DaemonError if one does not.
    """
    with Daemon.master(master_dir) as master, Daemon.slave(slave_dir, master.port) as slave:
        slave.expect("in sync")
        slave.stop()
        master.stop()
