"""twistd finds both plugins, however tarfailover was installed."""

from __future__ import annotations

import sys
from pathlib import Path

from installs import Fresh, run

PLUGINS = {"tarfailover-master": "--interface", "tarfailover-slave": "--master-host"}
"""The command of each plugin, and an option that only its own help shows."""
WHERE = "import tarfailover; print(tarfailover.__file__)"


def listed(twistd_help: str) -> set[str]:
    """The commands that twistd's help lists."""
    _, _, commands = twistd_help.partition("\nCommands:\n")
    return {line.split()[0] for line in commands.splitlines() if line.strip()}


def test_nothing_is_found_without_an_install(tmp_path: Path) -> None:
    """Else the tests below would prove nothing."""
    fresh = Fresh(tmp_path)
    assert "web" in listed(fresh.twistd("--help"))
    assert listed(fresh.twistd("--help")).isdisjoint(PLUGINS)


def test_a_wheel(tmp_path: Path, wheel: Path) -> None:
    fresh = Fresh(tmp_path)
    fresh.install(str(wheel))
    assert Path(fresh.evaluate(WHERE)).is_relative_to(tmp_path / "env")
    assert listed(fresh.twistd("--help")).issuperset(PLUGINS)
    for plugin, option in PLUGINS.items():
        assert option in fresh.twistd(plugin, "--help")
    assert "compare" in run([str(fresh.python.with_name("tarfailover")), "--help"], fresh.cwd)


def test_a_development_install(tmp_path: Path, sources: Path) -> None:
    fresh = Fresh(tmp_path)
    fresh.install("--editable", str(sources))
    assert Path(fresh.evaluate(WHERE)).is_relative_to(sources)
    assert listed(fresh.twistd("--help")).issuperset(PLUGINS)


def test_the_environment_of_these_tests(tmp_path: Path) -> None:
    twistd = Path(sys.executable).with_name("twistd")
    assert listed(run([str(twistd), "--help"], tmp_path)).issuperset(PLUGINS)
