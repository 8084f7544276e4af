"""Settings from defaults < file < environment < options, and as options of twistd."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tarfailover import given, oakfiles, osgi, osgi_json
from tarfailover.config.checks import check
from tarfailover.config.master import MasterConfig
from tarfailover.config.slave import SlaveConfig
from tarfailover.errors import ConfigError
from tarfailover.settings import PREFIX, Setting, table
from tarfailover.tls import rules

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_VARIABLE = PREFIX + "CONFIG"
"""The environment variable that names the file, as --config does."""


HELP = (
    "Every option can also stand in the file of --config, with dots for the dashes "
    '(master.host="10.0.0.1"), and in the environment (TARFAILOVER_MASTER_HOST=10.0.0.1). '
    "An option wins over the environment, the environment over the file."
)
"""The end of --help: the `longdesc` of both programs."""


Config = TypeVar("Config", MasterConfig, SlaveConfig)
AnyKind = type[MasterConfig] | type[SlaveConfig]
_IMPLIED: dict[type, oakfiles.Implied] = {
    MasterConfig: oakfiles.for_master,
    SlaveConfig: oakfiles.for_slave,
}


def settings(kind: AnyKind) -> tuple[Setting, ...]:
    """Return the table of the settings of `kind`, in the order of --help."""
    return table(kind)


def option_parameters(kind: AnyKind) -> list[list[str | None]]:
    """Return `optParameters` for twisted.python.usage: name, short name, None, help.

    The default is None throughout, which tells an option that was not given.
    """
    rows: list[list[str | None]] = [
        ["config", "c", None, "file with settings, .config or .cfg.json, or one of Oak's service"]
    ]
    return rows + [
        [row.option[2:], row.short, None, row.help]
        for row in settings(kind)
        if row.kind not in ("mode", "flag")
    ]


def option_flags(kind: AnyKind) -> list[list[str | None]]:
    """Return `optFlags` for twisted.python.usage: name, short name, help."""
    return [[row.option[2:], row.short, row.help] for row in settings(kind) if row.kind == "flag"]


def load(
    kind: type[Config], environ: Mapping[str, str], options: Mapping[str, str | int | None]
) -> Config:
    """Read the file of --config or TARFAILOVER_CONFIG, if one is named, and merge.

    Relative paths become absolute, because a daemon changes its directory.
    Arguments and errors as for `merge`.
    """
    path = options.get("config")
    if path is None:
        path = environ.get(CONFIG_VARIABLE)
    if path == "":
        raise ConfigError(f"--config or {CONFIG_VARIABLE} is empty; name a file or leave it out")
    values = {} if path is None else read_file(Path(str(path)))
    config = merge(kind, values, environ, options)
    files: dict[str, Any] = rules.absolute(config)
    if config.blob_store:
        files["blob_store"] = str(Path(config.blob_store).absolute())
    return dataclasses.replace(config, store=config.store.absolute(), **files)


def read_file(path: Path) -> dict[str, osgi.Entry]:
    """The properties in a file: ``.cfg.json`` by its name, else ``.config``; raises ConfigError."""
    return osgi_json.read(path) if path.name.endswith(osgi_json.SUFFIX) else osgi.read(path)


def merge(
    kind: type[Config],
    file_values: Mapping[str, osgi.Entry],
    environ: Mapping[str, str],
    options: Mapping[str, str | int | None],
) -> Config:
    """Return the configuration of `kind` from defaults < file < environment < options.

    `options` are those of twisted.python.usage, by long name without the dashes: None
    is an option that was not given, 0 a flag that was not. Raises ConfigError.
    """
    rows = settings(kind)
    ours, oaks = oakfiles.split(rows, file_values)
    found: dict[str, Any] = {}
    found.update(given.from_file(rows, ours))
    found.update(given.from_environment(rows, environ, _other_variables()))
    found.update(given.from_options(rows, options))
    found = {**dict(_IMPLIED[kind](oaks, found)), **found}
    for row in rows:
        if row.required and row.field not in found:
            raise ConfigError(
                f"no {row.field} is given; use {row.option}, {row.environment} "
                f'or a line {row.osgi}="..." in the file of --config'
            )
    config = kind(**found)
    check(config)
    return config


def _other_variables() -> set[str]:
    """One environment may serve a master and a slave: what the other knows is passed over."""
    both = (MasterConfig, SlaveConfig)
    return {CONFIG_VARIABLE, *(row.environment for each in both for row in settings(each))}
