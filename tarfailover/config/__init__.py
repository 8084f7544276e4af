"""What a master and a slave are told, merged from defaults < file < environment < options.

A field of `MasterConfig` or `SlaveConfig` is the one declaration of a setting; all its
names follow from the field's (see `tarfailover.settings`). Where Oak has the setting,
the file has Oak's name for it.

Everything given is checked, also what a stronger source overrides: an unknown name or
a bad value is a ConfigError that names the place and the remedy. Nothing of the
process is read here but the file that `load` is pointed to: the environment and the
options are arguments.
"""

from __future__ import annotations

from tarfailover.config.checks import check_listener
from tarfailover.config.master import MasterConfig
from tarfailover.config.merging import (
    CONFIG_VARIABLE,
    HELP,
    AnyKind,
    load,
    merge,
    option_flags,
    option_parameters,
    read_file,
    settings,
)
from tarfailover.config.slave import DIALECTS, SlaveConfig
from tarfailover.config.words import BLOB_STORES, RATES

__all__ = [
    "BLOB_STORES",
    "CONFIG_VARIABLE",
    "DIALECTS",
    "HELP",
    "RATES",
    "AnyKind",
    "MasterConfig",
    "SlaveConfig",
    "check_listener",
    "load",
    "merge",
    "option_flags",
    "option_parameters",
    "read_file",
    "settings",
]
