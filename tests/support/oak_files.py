"""Configurations from files as Oak's operators have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tarfailover import config


def of_file(kind: Any, tmp_path: Path, *lines: str) -> Any:
    """The configuration of `kind` from a file of Oak's with these `lines`."""
    file = tmp_path / "StandbyStoreService.config"
    file.write_text("\n".join([*lines, ""]))
    return config.load(kind, {}, {"config": str(file), "store": str(tmp_path / "store")})
